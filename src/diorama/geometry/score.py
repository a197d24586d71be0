"""The headline score: one number in [0, 1] that says how well one rigid world explains a whole clip.

    score = 0 where nothing can be measured (no parallax, nothing to track), else
    score = registered * weakest tie * weakest region * quality
    quality = geometric mean of (tracks, reprojection, points, held-out views)

The first three are necessary conditions and multiply: a world must explain every frame, every step from one frame to the next and every
part of the picture, so each of them is taken at its worst and not on average. The last four say how well, and are averaged. Failures
count as 0, never as missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FORMULA", "Evidence", "Factor", "Score", "quality", "score"]

FORMULA = (
    "score = registered x weakest tie x weakest region x quality, where quality is the geometric mean of tracks, reprojection, points and held-out "
    "views; without parallax it is 0"
)
TIE_ENOUGH = 0.5
REGION_ENOUGH = 0.5
TRACK_SCALE = 3.0
REPROJECTION_SCALE = 3.0
POINTS_HALF = 50.0
PSNR_RANGE = (12.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the score is made from."""

    measurable: bool
    """Whether there is parallax to measure by; False gives 0."""
    attempted: int
    """Frames that were to be registered."""
    registered: int
    """Frames that were."""
    links: tuple[float, ...]
    """Of each frame and the next: the share of corners that can be followed from one to the other and back, in [0, 1]."""
    regions: tuple[float, ...]
    """Of each part of the picture where something can be followed: the share of it that moves as the found world says, in [0, 1]."""
    track_length: float
    """Mean number of frames that see a point."""
    reprojection_error: float
    """Mean distance of seen and projected points, pixels of the normal size (854 x 480 in area); NaN where there are none."""
    points_per_frame: float
    """Points that a registered frame sees, on average."""
    held_out_psnr: tuple[float, ...]
    """dB of the held-out frames, a mean for each way of rendering them; empty where none was tried."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One part of the score."""

    name: str
    measured: str
    """What was measured, for people."""
    value: float
    """In [0, 1]."""
    about: str
    """How the value follows from it."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score and its parts."""

    value: float
    """In [0, 1]."""
    structure: float
    """The score without held-out views: what is comparable between runs with and without NeRF and splats."""
    rigid_part: float
    """The score of what does not move by itself: without the weakest region."""
    factors: tuple[Factor, ...]
    """In the order of the formula; empty where nothing was measurable."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "value": self.value,
            "structure": self.structure,
            "rigid_part": self.rigid_part,
            "factors": [{"name": f.name, "measured": f.measured, "value": f.value, "about": f.about} for f in self.factors],
            "formula": FORMULA,
        }


def score(evidence: Evidence) -> Score:
    """Return the score of what was measured."""
    if not evidence.measurable:
        return Score(value=0.0, structure=0.0, rigid_part=0.0, factors=())
    necessary = _necessary(evidence)
    made = _quality(evidence)
    gate = math.prod(factor.value for factor in necessary)
    views = _views(evidence.held_out_psnr)
    whole = [*made, views] if views is not None else made
    how_well = _geometric_mean([factor.value for factor in whole])
    return Score(
        value=gate * how_well,
        structure=gate * _geometric_mean([factor.value for factor in made]),
        rigid_part=math.prod(factor.value for factor in necessary if factor.name != "weakest region") * how_well,
        factors=(*necessary, *whole),
    )


def quality(track_length: float, reprojection_error: float, points_per_frame: float) -> tuple[float, float, float]:
    """Return how good a model's tracks, reprojection and points are, each in [0, 1].

    Args:
        track_length: Mean number of frames that see a point.
        reprojection_error: Pixels of the normal size; NaN without points.
        points_per_frame: Points that a frame sees, on average.
    """
    tracks = 1 - math.exp(-max(0.0, track_length - 2) / TRACK_SCALE)
    reprojection = 0.0 if math.isnan(reprojection_error) else math.exp(-((reprojection_error / REPROJECTION_SCALE) ** 2))
    return tracks, reprojection, points_per_frame / (points_per_frame + POINTS_HALF)


def _necessary(evidence: Evidence) -> list[Factor]:
    registered = evidence.registered / evidence.attempted if evidence.attempted else 0.0
    tie = min(evidence.links, default=0.0)
    worst = _lowest_quarter(evidence.regions)
    return [
        Factor(
            name="registered",
            measured=f"{evidence.registered} of {evidence.attempted}",
            value=registered,
            about="frames that found their place in one model",
        ),
        Factor(
            name="weakest tie",
            measured=f"{tie:.2f}",
            value=min(1.0, tie / TIE_ENOUGH),
            about=f"between neighbouring frames: share of corners that can be followed there and back, over {TIE_ENOUGH:g}",
        ),
        Factor(
            name="weakest region",
            measured=f"{worst:.2f}",
            value=min(1.0, worst / REGION_ENOUGH),
            about=f"the quarter of the picture that follows the model least: share of it that does, over {REGION_ENOUGH:g}",
        ),
    ]


def _quality(evidence: Evidence) -> list[Factor]:
    length, error, points = evidence.track_length, evidence.reprojection_error, evidence.points_per_frame
    tracks, reprojection, many = quality(length, error, points)
    return [
        Factor(
            name="tracks",
            measured=f"{length:.1f} frames",
            value=tracks,
            about=f"1 - exp(-(length - 2) / {TRACK_SCALE:g}): a point seen in two frames only proves nothing",
        ),
        Factor(
            name="reprojection",
            measured=f"{error:.2f} px",
            value=reprojection,
            about=f"exp(-(error / {REPROJECTION_SCALE:g} px)^2), at the normal size of 854 x 480",
        ),
        Factor(
            name="points",
            measured=f"{points:.0f} a frame",
            value=many,
            about=f"n / (n + {POINTS_HALF:g})",
        ),
    ]


def _views(psnr: Sequence[float]) -> Factor | None:
    if not psnr:
        return None
    low, high = PSNR_RANGE
    mean = sum(min(max(value, 0.0) if not math.isnan(value) else 0.0, high) for value in psnr) / len(psnr)
    return Factor(
        name="held-out views",
        measured=" and ".join(f"{value:.1f} dB" for value in psnr),
        value=min(1.0, max(0.0, (mean - low) / (high - low))),
        about=f"frames that no reconstruction saw, from {low:g} dB (0) to {high:g} dB (1)",
    )


def _lowest_quarter(shares: Sequence[float]) -> float:
    if not shares:
        return 0.0
    count = max(1, round(len(shares) / 4))
    return sum(sorted(shares)[:count]) / count


def _geometric_mean(values: Sequence[float]) -> float:
    product = math.prod(values)
    return 0.0 if product <= 0 else math.exp(math.log(product) / len(values))
