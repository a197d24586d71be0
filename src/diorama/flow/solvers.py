"""Solvers of the flow from noise to data.

Every value has a time of its own: where its start is ``s`` it runs through ``s * u`` while the global progress ``u`` goes
from 1 to 0. So kept values (s = 0) stand still, edits (s between) join half-way, and all arrive together. A solver is a
generator that is handed the schedule once and yields the point after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

from torch import Tensor

from diorama.flow.guidance import Velocity

__all__ = ["SOLVERS", "Solver", "SolverName", "euler", "heun", "multistep"]

SolverName = Literal["euler", "heun", "multistep"]
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


SOLVERS: dict[SolverName, Solver] = {"euler": euler, "heun": heun, "multistep": multistep}
