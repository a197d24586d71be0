"""How well pairs of frames obey two-view geometry, over growing distance in time.

In every rigid scene two views of a pinhole camera fit a fundamental matrix. Errors are in pixels of the normal size (``matches``); they
are taken over inliers only, so they say nothing without the number of inliers and the keep ratio, and a camera that stands still
scores perfectly: read them behind the gate (``gate``).

Source: arXiv 2402.17403, "Sora Generates Videos with Stunning Geometrical Consistency", section 3; its ratio 0.85 and threshold 3 px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diorama.geometry.cameras import Cameras, Floats
from diorama.geometry.frames import opencv
from diorama.geometry.matches import Features, Matches, match, normal_scale
from diorama.geometry.turning import turning_share

__all__ = [
    "DISTANCES",
    "CurvePoint",
    "Epipolar",
    "PairFit",
    "Tsed",
    "epipolar_distances",
    "fit_pair",
    "fundamental_from_poses",
    "measure_epipolar",
    "sampson",
    "tsed",
]

DISTANCES = (1, 2, 5, 10, 20, 30, 40)
"""Frames between the two of a pair, counted in the frames given."""
PAIRS = 6
"""Pairs at each distance, spread over the clip."""
SURE_RATIO = 0.7
"""Matches below this ratio are sure enough to tell kinds of motion apart; among the others wrong ones lie on epipolar lines by chance."""
THRESHOLD = 3.0
"""RANSAC's inlier threshold, pixels."""
MIN_MATCHES = 10
"""Below this a pair does not count as consistent. Source: TSED's T_m."""
SYMMETRIC_LIMIT = 2.0
"""Median symmetric epipolar distance in pixels below which a pair is consistent. Source: TSED's T_e."""


@dataclass(frozen=True, kw_only=True)
class PairFit:
    """Two-view geometry of two frames; lengths in pixels of the normal size."""

    first: int
    """Number of the earlier frame."""
    second: int
    """Number of the later frame."""
    num_matches: int
    """Matches that pass the ratio test."""
    num_inliers: int
    """Those within 3 px of the fundamental matrix."""
    mean_error: float
    """Mean distance of inliers to their epipolar lines; NaN without any."""
    rmse: float
    """Root of the mean square of it."""
    sampson: float
    """Root of the mean Sampson error of inliers."""
    motion: float
    """Median distance that inliers moved."""
    still: float
    """Share of all matches that moved less than a pixel and a half."""
    num_sure: int
    """Inliers with a ratio below 0.7."""
    homography: float
    """Share of those that a homography explains."""
    turning: float
    """Share of those that a camera explains which only turns and zooms."""

    @property
    def keep_ratio(self) -> float:
        """Inliers over matches, 0 without matches."""
        return self.num_inliers / self.num_matches if self.num_matches else 0.0


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Means over the pairs of one distance."""

    distance: int
    """Frames between the two of a pair."""
    num_pairs: int
    num_matches: float
    num_inliers: float
    keep_ratio: float
    """Pairs without matches count as 0."""
    mean_error: float
    """Pixels of the normal size, over pairs with inliers; NaN if none has."""
    rmse: float
    sampson: float


@dataclass(frozen=True, kw_only=True)
class Epipolar:
    """Two-view geometry of a clip."""

    pairs: tuple[PairFit, ...]
    curve: tuple[CurvePoint, ...]
    """One point for each distance the clip is long enough for."""
    features: float
    """Median number of features of a frame."""


@dataclass(frozen=True, kw_only=True)
class Tsed:
    """Thresholded symmetric epipolar distance with known or found poses.

    Source: Photoconsistent-NVS, compute_sed: consistent is a pair of neighbours with at least 10 matches and a median below 2 px.
    """

    num_pairs: int
    consistent: float
    """Share of consistent pairs, 0 to 1."""
    median: float
    """Median over pairs of the median symmetric epipolar distance, pixels of the normal size; NaN without matches."""


def measure_epipolar(
    features: Sequence[Features],
    size: tuple[int, int],
    *,
    distances: Sequence[int] = DISTANCES,
    pairs: int = PAIRS,
    progress: Callable[[int, int], None] | None = None,
) -> Epipolar:
    """Fit two-view geometry to pairs of frames at several distances.

    Args:
        features: Of each frame, in order (``matches.extract``).
        size: Width and height of the frames, pixels.
        distances: Frames between the two of a pair; those the clip is too short for are left out.
        pairs: Pairs at each distance, spread over the clip.
        progress: Called with pairs done and pairs in all.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    count = len(features)
    chosen = [
        (distance, sorted({round(s) for s in np.linspace(0, count - 1 - distance, min(pairs, count - distance))}))
        for distance in sorted(set(distances))
        if 1 <= distance < count
    ]
    total = sum(len(starts) for _, starts in chosen)
    fits: list[PairFit] = []
    curve: list[CurvePoint] = []
    for distance, starts in chosen:
        group = []
        for start in starts:
            found = match(features[start], features[start + distance])
            group.append(fit_pair(found, start, start + distance, size))
            if progress is not None:
                progress(len(fits) + len(group), total)
        fits += group
        curve.append(_mean(distance, group))
    return Epipolar(pairs=tuple(fits), curve=tuple(curve), features=float(np.median([len(found) for found in features])) if count else 0.0)


def fit_pair(matches: Matches, first: int, second: int, size: tuple[int, int]) -> PairFit:
    """Fit a fundamental matrix, a homography and a turning camera to the matches of two frames.

    Args:
        matches: In pixels of the normal size.
        first: Number of the earlier frame.
        second: Number of the later frame.
        size: Width and height of the frames, pixels; only their ratio counts.
    """
    cv2 = opencv()
    moved = np.linalg.norm(matches.second - matches.first, axis=1)
    still = float((moved < 1.5).mean()) if len(moved) else 0.0
    nothing = PairFit(
        first=first,
        second=second,
        num_matches=len(matches),
        num_inliers=0,
        mean_error=float("nan"),
        rmse=float("nan"),
        sampson=float("nan"),
        motion=0.0,
        still=still,
        num_sure=0,
        homography=0.0,
        turning=0.0,
    )
    if len(matches) < MIN_MATCHES:
        return nothing
    fundamental, kept = cv2.findFundamentalMat(matches.first, matches.second, cv2.FM_RANSAC, THRESHOLD, 0.999, 4000)
    if fundamental is None or fundamental.shape != (3, 3) or kept is None or kept.sum() < 8:
        return nothing
    inliers = matches.select(kept.ravel() > 0)
    error = epipolar_distances(inliers, fundamental)[0]
    sure = inliers.select(inliers.ratio < SURE_RATIO)
    planar = cv2.findHomography(sure.first, sure.second, cv2.RANSAC, THRESHOLD)[1] if len(sure) >= MIN_MATCHES else None
    scale = normal_scale(*size)
    return PairFit(
        first=first,
        second=second,
        num_matches=len(matches),
        num_inliers=len(inliers),
        mean_error=float(error.mean()),
        rmse=float(np.sqrt((error**2).mean())),
        sampson=float(np.sqrt(sampson(inliers, fundamental).mean())),
        motion=float(np.median(np.linalg.norm(inliers.second - inliers.first, axis=1))),
        still=still,
        num_sure=len(sure),
        homography=float(planar.mean()) if planar is not None else 0.0,
        turning=turning_share(sure, (size[0] * scale, size[1] * scale)),
    )


def _homogeneous(points: Floats) -> Floats:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def _lines(matches: Matches, fundamental: Floats) -> tuple[Floats, Floats, Floats]:
    """Return ``x' F x`` [M] and the epipolar lines in the second and the first frame [M, 3]."""
    first, second = _homogeneous(matches.first), _homogeneous(matches.second)
    in_second, in_first = first @ fundamental.T, second @ fundamental
    return (second * in_second).sum(1), in_second, in_first


def epipolar_distances(matches: Matches, fundamental: Floats) -> tuple[Floats, Floats]:
    """Return distances in pixels from points to the epipolar lines of their partners: in the second frame and in the first, ``[M]`` each.

    Args:
        matches: M of them.
        fundamental: ``[3, 3]`` with ``x' F x = 0`` for x in the first frame and x' in the second.
    """
    value, in_second, in_first = _lines(matches, fundamental)
    tiny = 1e-12
    return (
        np.abs(value) / np.maximum(np.hypot(in_second[:, 0], in_second[:, 1]), tiny),
        np.abs(value) / np.maximum(np.hypot(in_first[:, 0], in_first[:, 1]), tiny),
    )


def sampson(matches: Matches, fundamental: Floats) -> Floats:
    """Return the Sampson error of each match in square pixels, ``[M]``: the first-order distance to an exact match."""
    value, in_second, in_first = _lines(matches, fundamental)
    slope = (in_second[:, :2] ** 2).sum(1) + (in_first[:, :2] ** 2).sum(1)
    errors: Floats = value**2 / np.maximum(slope, 1e-24)
    return errors


def fundamental_from_poses(cameras: Cameras, first: int, second: int) -> Floats:
    """Return the fundamental matrix ``[3, 3]`` of two cameras, in their pixels."""
    relative = cameras.world_to_camera[second] @ np.linalg.inv(cameras.world_to_camera[first])
    x, y, z = relative[:3, 3]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    inverse_first, inverse_second = np.linalg.inv(cameras.intrinsics[first]), np.linalg.inv(cameras.intrinsics[second])
    matrix: Floats = inverse_second.T @ cross @ relative[:3, :3] @ inverse_first
    return matrix


def tsed(features: Sequence[Features], cameras: Cameras, *, pairs: int = 24) -> Tsed:
    """Measure how well neighbouring frames agree with given poses.

    With poses that were found from the same frames this measures partly itself; a pose that is wrong or a frame that is bent still shows.

    Args:
        features: Of each camera's frame, in order, where an undistorted frame shows them (``Reconstruction.straighten``).
        cameras: As many.
        pairs: How many pairs of neighbours to look at, spread over the clip.
    """
    count = len(features)
    starts = sorted({round(s) for s in np.linspace(0, count - 2, min(pairs, count - 1))}) if count > 1 else []
    normal = cameras.scaled(normal_scale(cameras.width, cameras.height))
    medians: list[float] = []
    consistent = 0
    for start in starts:
        found = match(features[start], features[start + 1])
        if len(found) < MIN_MATCHES:
            continue
        forward, backward = epipolar_distances(found, fundamental_from_poses(normal, start, start + 1))
        medians.append(float(np.median((forward + backward) / 2)))
        consistent += medians[-1] < SYMMETRIC_LIMIT
    return Tsed(
        num_pairs=len(starts),
        consistent=consistent / len(starts) if starts else 0.0,
        median=float(np.median(medians)) if medians else float("nan"),
    )


def _mean(distance: int, group: list[PairFit]) -> CurvePoint:
    def over(values: list[float]) -> float:
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else float("nan")

    return CurvePoint(
        distance=distance,
        num_pairs=len(group),
        num_matches=over([float(fit.num_matches) for fit in group]),
        num_inliers=over([float(fit.num_inliers) for fit in group]),
        keep_ratio=over([fit.keep_ratio for fit in group]),
        mean_error=over([fit.mean_error for fit in group]),
        rmse=over([fit.rmse for fit in group]),
        sampson=over([fit.sampson for fit in group]),
    )
