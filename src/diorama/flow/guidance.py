"""Classifier-free guidance: push the velocity away from what the negative prompt would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.errors import InputError

__all__ = ["Guidance", "PairVelocity", "Velocity", "combine", "guided"]

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Maps a point and its flow times, broadcastable to the point, to the velocity there."""

PairVelocity = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor | None]]
"""As ``Velocity``; returns the conditional velocity and, if the flag is set, the unconditional one."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly, and when, a sample is pushed towards its prompt."""

    scale: float = 4.0
    """1 is the plain conditional model; 0 the unconditional one."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Flow times between which guidance acts; outside it the conditional model is used alone, at half the cost."""
    rescale: float = 0.0
    """Share (0 to 1) of the way back to the conditional velocity's spread, against over-saturation."""

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= self.scale <= 100:
            raise InputError(f"guidance scale {self.scale} is out of range: allowed is 0 to 100, usual is 2 to 8")
        if not 0 <= low <= high <= 1:
            raise InputError(f"guidance interval {low} to {high} is out of range: give two rising flow times between 0 and 1")
        if not 0 <= self.rescale <= 1:
            raise InputError(f"guidance rescale {self.rescale} is out of range: allowed is 0 to 1")

    def active(self, t: float) -> bool:
        """Return whether the unconditional velocity is needed at flow time ``t``."""
        return self.scale != 1 and self.interval[0] <= t <= self.interval[1]


def combine(conditional: Tensor, unconditional: Tensor, guidance: Guidance) -> Tensor:
    """Return the guided velocity of two velocities of one clip.

    Source: arXiv 2207.12598; rescale: arXiv 2305.08891, section 3.4.
    """
    velocity = unconditional + guidance.scale * (conditional - unconditional)
    if guidance.rescale == 0:
        return velocity
    spread = conditional.std() / velocity.std().clamp(min=1e-6)
    return velocity * torch.lerp(torch.ones_like(spread), spread, guidance.rescale)


def guided(pair: PairVelocity, guidance: Guidance) -> Velocity:
    """Turn a model that can answer with and without its prompt into one velocity.

    The highest time in the clip decides whether the interval holds, since kept parts stay at 0.

    Source: guidance interval, arXiv 2404.07724.
    """

    def velocity(x: Tensor, times: Tensor) -> Tensor:
        conditional, unconditional = pair(x, times, guidance.active(float(times.max())))
        return conditional if unconditional is None else combine(conditional, unconditional, guidance)

    return velocity
