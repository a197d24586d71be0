"""Parallax before praise: whether a clip can be measured at all, and if not, why, in words.

A camera that stands still or only turns fits every two-view test perfectly and shows nothing of depth: such a clip is "not measurable",
never "perfect". So is one without anything to follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diorama.geometry.epipolar import Epipolar, PairFit
from diorama.geometry.matches import NORMAL_AREA

__all__ = ["Gate", "gate"]

FEW_FEATURES = 40.0
"""Median features of a frame below which there is nothing to follow."""
FEW_INLIERS = 20
"""Sure inliers below which a pair of frames says nothing."""
CHANCE = 0.25
"""Keep ratio up to which inliers may be chance: among random matches a fundamental matrix finds a tenth to a fifth."""
STILL_SHARE = 0.01
"""Share of the frame's side (of equal area) that the picture must move somewhere in the clip."""
TURNING_SHARE = 0.85
"""Above this share of sure inliers explained by turning and zooming, a clip shows no parallax."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a clip allows to measure."""

    measurable: bool
    cause: str
    """Why not, in a clause; empty where it is measurable."""
    motion: float
    """Largest median motion of matched points over the distances tried, as a share of the side of a square of the frame's area."""
    still: float
    """Share of matches at the largest distances that stay where they are."""
    homography: float
    """Share of sure inliers that a homography explains there."""
    parallax: float
    """Share of sure inliers that no turning or zooming camera explains, at the largest distances where frames still share points."""


def gate(epipolar: Epipolar) -> Gate:
    """Decide from two-view geometry whether depth can be seen in a clip."""
    told = [fit for fit in epipolar.pairs if fit.num_sure >= FEW_INLIERS and fit.keep_ratio > CHANCE]
    if epipolar.features < FEW_FEATURES:
        return _refuse(told, f"there is nothing to follow: {epipolar.features:.0f} features in a frame of black, blurred or plain pictures")
    if not told:
        return _refuse(told, "no two frames share enough points: the frames do not belong together, or are noise")
    side = NORMAL_AREA**0.5
    groups = _by_distance(told)
    motion = max(float(np.median([fit.motion for fit in group])) for group in groups) / side
    far = [fit for group in groups[-2:] for fit in group]
    still = float(np.median([fit.still for fit in far]))
    most = min(groups[-2:], key=lambda group: float(np.median([fit.turning for fit in group])))
    parallax = 1 - float(np.median([fit.turning for fit in most]))
    homography = float(np.median([fit.homography for fit in most]))
    cause = ""
    if motion < STILL_SHARE:
        cause = f"the camera stands still: {still:.0%} of matched points stay in place, and depth shows only to a camera that moves sideways"
    elif 1 - parallax > TURNING_SHARE:
        cause = f"not enough parallax: a camera that only turns or zooms explains {1 - parallax:.0%} of the matches, so depth does not show"
    return Gate(measurable=not cause, cause=cause, motion=motion, still=still, homography=homography, parallax=parallax)


def _by_distance(fits: list[PairFit]) -> list[list[PairFit]]:
    """Return the pairs grouped by their distance in time, near to far."""
    groups: dict[int, list[PairFit]] = {}
    for fit in fits:
        groups.setdefault(fit.second - fit.first, []).append(fit)
    return [groups[distance] for distance in sorted(groups)]


def _refuse(told: list[PairFit], cause: str) -> Gate:
    still = float(np.median([fit.still for fit in told])) if told else 0.0
    return Gate(measurable=False, cause=cause, motion=0.0, still=still, homography=0.0, parallax=0.0)
