"""Solvers of the flow from noise to data.

Every value has a time of its own: where its start is ``s`` it runs through ``s * u`` while the global progress ``u`` goes
from 1 to 0. So kept values (s = 0) stand still, edits (s between) join half-way, and all arrive together. A solver is a
generator that is handed the schedule once and yields the point after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from diorama.flow.guidance import Velocity

__all__ = ["SOLVERS", "Solver", "SolverName", "euler", "heun", "multistep", "unipc"]

SolverName = Literal["euler", "heun", "multistep", "unipc"]
Solver = Callable[[Velocity, Tensor, Tensor, list[float]], Iterator[Tensor]]


def euler(velocity: Velocity, x: Tensor, start: Tensor, schedule: list[float]) -> Iterator[Tensor]:
    """Follow the velocity at the beginning of each step: first order, one evaluation a step.

    Args:
        velocity: Called with the point and its times ``start * u``.
        x: The point at u = 1.
        start: Flow time of each value at u = 1, broadcastable to ``x``.
        schedule: Progress values from 1 to 0.

    Yields:
        The point after each step.
    """
    for now, after in pairwise(schedule):
        x = x + (after - now) * start * velocity(x, start * now)
        yield x


def heun(velocity: Velocity, x: Tensor, start: Tensor, schedule: list[float]) -> Iterator[Tensor]:
    """Average the velocities at both ends of each step: second order, two evaluations a step. Arguments as ``euler``.

    The step that arrives at data is Euler's: at time 0 there is no noise left for a model to see.

    Source: arXiv 2206.00364, algorithm 1.
    """
    for now, after in pairwise(schedule):
        first = velocity(x, start * now)
        guess = x + (after - now) * start * first
        x = guess if after == 0 else x + (after - now) / 2 * start * (first + velocity(guess, start * after))
        yield x


def multistep(velocity: Velocity, x: Tensor, start: Tensor, schedule: list[float]) -> Iterator[Tensor]:
    """Extrapolate from the velocity of the step before: second order, one evaluation a step. Arguments as ``euler``.

    Source: two-step Adams-Bashforth with variable steps; Hairer, Norsett, Wanner, Solving ODEs I, section III.5.
    """
    before: Tensor | None = None
    step_before = 0.0
    for now, after in pairwise(schedule):
        step = after - now
        current = velocity(x, start * now)
        slope = current if before is None else current + step / step_before / 2 * (current - before)
        x = x + step * start * slope
        before, step_before = current, step
        yield x


_LATEST = 1 - 1e-6
"""Noise alone has no logarithm of data over noise; diffusers begins this far before it."""


def unipc(velocity: Velocity, x: Tensor, start: Tensor, schedule: list[float]) -> Iterator[Tensor]:
    """Predict from the data that the last two velocities imply, and correct each step by the next velocity: second order, one evaluation a step.

    What Wan's checkpoints are sampled with: UniPC-2 in its B2 form on data predictions, of first order at the last step. Arguments as
    ``euler``.

    Source: Zhao et al. 2023, "UniPC", arXiv 2302.04867; the constants as in diffusers' UniPCMultistepScheduler.
    """
    fine = start.to(torch.float32 if start.device.type == "mps" else torch.float64)
    latest = [torch.clamp(fine * u, max=_LATEST) for u in schedule]
    ratios = [torch.log1p(-sigma) - torch.log(sigma) for sigma in latest]
    kept, told = start == 0, list[Tensor]()
    begin, order = x, 1
    for i in range(len(schedule) - 1):
        data = x - (latest[i] * velocity(x, start * schedule[i])).to(x.dtype)
        if i:
            x = torch.where(kept, x, _corrected(begin, data, told, latest, ratios, i, order))
        begin, order = x, 1 if i in (0, len(schedule) - 2) else 2
        told = [*told[-1:], data]
        x = torch.where(kept, x, _predicted(begin, told, latest, ratios, i, order))
        yield x


def _predicted(x: Tensor, told: list[Tensor], sigmas: list[Tensor], ratios: list[Tensor], i: int, order: int) -> Tensor:
    """Return the point after step i from the data of this step and, at order 2, of the one before."""
    rise = torch.expm1(ratios[i] - ratios[i + 1])
    drift = rise * told[-1]
    if order == 2:
        back = (ratios[i - 1] - ratios[i]) / (ratios[i + 1] - ratios[i])
        drift = drift + rise * 0.5 / back * (told[-2] - told[-1])
    return (sigmas[i + 1] / sigmas[i] * x - (1 - sigmas[i + 1]) * drift).to(x.dtype)


def _corrected(x: Tensor, data: Tensor, told: list[Tensor], sigmas: list[Tensor], ratios: list[Tensor], i: int, order: int) -> Tensor:
    """Return the point of step i again, from the one before and the data found at the predicted point."""
    width = ratios[i] - ratios[i - 1]
    rise = torch.expm1(-width)
    change = data - told[-1]
    if order == 1:
        drift = rise * (told[-1] + 0.5 * change)
    else:
        # Two equations for the weights of both differences, solved on paper.
        second = -rise / width - 1
        first, last = second / rise, (-second / width - 0.5) * 2 / rise
        back = (ratios[i - 2] - ratios[i - 1]) / width
        weight = (last - first) / (back - 1)
        drift = rise * (told[-1] + weight / back * (told[-2] - told[-1]) + (first - weight) * change)
    return (sigmas[i] / sigmas[i - 1] * x - (1 - sigmas[i]) * drift).to(x.dtype)


SOLVERS: dict[SolverName, Solver] = {"euler": euler, "heun": heun, "multistep": multistep, "unipc": unipc}
