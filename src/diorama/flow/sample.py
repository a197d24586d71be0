"""The sampling loop: one for every mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diorama.flow.guidance import Velocity
from diorama.flow.solvers import SOLVERS, SolverName

__all__ = ["sample"]


def sample(
    velocity: Velocity,
    x: Tensor,
    start: Tensor,
    schedule: Tensor,
    *,
    solver: SolverName = "multistep",
    progress: Callable[[int, int], None] | None = None,
    passed: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Follow the flow from ``x`` to data.

    Args:
        velocity: The model, called with the point and its times (shape of ``start``).
        x: The point to start from, any shape: noise where ``start`` is 1, data where it is 0.
        start: Flow time of every value in [0, 1], broadcastable to ``x``; values at 0 come out bit-equal.
        schedule: Progress from 1 to 0, ``[steps + 1]``, see ``times.schedule``.
        solver: ``euler``, ``heun`` or ``multistep``.
        progress: Called with ``(steps done, steps)`` before the first and after every step.
        passed: Called with the point after every step.

    Returns:
        Data of the shape of ``x``.
    """
    visited: list[float] = schedule.tolist()
    total = len(visited) - 1
    kept = (start == 0).expand_as(x)
    result = x
    if progress is not None:
        progress(0, total)
    for done, point in enumerate(SOLVERS[solver](velocity, x, start, visited), start=1):
        result = point
        if passed is not None:
            passed(point)
        if progress is not None:
            progress(done, total)
    # Adding 0 * velocity is exact but for signed zeros and a velocity that is not finite.
    return torch.where(kept, x, result)
