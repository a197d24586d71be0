"""Which of several models of one clip is taken, when the first one's lens ran away or frames were left out.

A camera that flies straight ahead hardly tells its focal length: mapping that is free to refine it drifts to ever longer lenses while every
frame registers. Mapping with the lens held at a few ordinary focal lengths cannot drift, and a last bundle adjustment frees it again. What
chooses knows nothing of true cameras, nor of the second witness of ``agreement``, which stays independent of the choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diorama.geometry.score import quality

__all__ = ["ORDINARY", "STARTS", "Attempt", "best", "settled"]

STARTS = (0.5, 0.8, 1.2)
"""Focal lengths in longer sides at which the lens is held while a clip is mapped again: fields of view of 90, 64 and 45 degrees."""

ORDINARY = (0.3, 2.5)
"""Focal lengths in longer sides of an ordinary lens (118 to 23 degrees); one found beyond them has run away unless nothing better is found."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One model of a clip, and what it is judged by."""

    start: float | None
    """Focal length in longer sides at which the lens was held while mapping; None where it was free."""
    registered: int
    """Frames of the model; 0 where there is none."""
    focal: float
    """Focal length found in the end, in longer sides; NaN without a model."""
    track_length: float
    """Mean number of frames that see a point; 0 without a model."""
    reprojection_error: float
    """Pixels of the normal size (854 x 480 in area); NaN without a model."""
    points_per_frame: float
    """Points that a frame sees, on average."""
    failure: str | None = None
    """Why there is no model; None if there is one."""

    @property
    def ordinary(self) -> bool:
        """Whether the lens found is an ordinary one."""
        return ORDINARY[0] <= self.focal <= ORDINARY[1]

    @property
    def quality(self) -> float:
        """The score's tracks, reprojection and points multiplied, in [0, 1]."""
        return math.prod(quality(self.track_length, self.reprojection_error, self.points_per_frame))


def settled(attempt: Attempt, num_frames: int) -> bool:
    """Return whether no other start needs to be tried: all of the clip's frames are registered, with an ordinary lens."""
    return attempt.registered == num_frames and attempt.ordinary


def best(attempts: Sequence[Attempt]) -> int:
    """Return which attempt to take: most registered frames, then an ordinary lens, then the free one, then the best quality, then the earliest.

    A free lens that did not run away is left alone: by quality alone, models of an ordinary clip differ by chance.

    Args:
        attempts: At least one.
    """

    def rank(row: int) -> tuple[int, bool, bool, float, int]:
        one = attempts[row]
        return one.registered, one.ordinary, one.ordinary and one.start is None, one.quality, -row

    return max(range(len(attempts)), key=rank)
