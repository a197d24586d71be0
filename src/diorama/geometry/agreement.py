"""How well the found cameras explain what can be followed: from frame to frame, and in each part of the picture.

Corners are followed by optical flow, forward and back, which knows nothing of matches, cameras or points: a second witness beside the
one that the cameras came from. A followed corner agrees where one still point explains its whole path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diorama.geometry.cameras import Cameras, Floats, project
from diorama.geometry.frames import opencv
from diorama.media import Pixels

__all__ = ["Agreement", "agreement", "follow", "residual", "roughness", "shrunk", "triangulate", "windows"]

SIDE = 256  # shorter side in pixels at which corners are followed; what is below is in these pixels
CORNERS = 600
ROUND = 0.15  # smaller over larger eigenvalue of a corner: along an edge, a corner slides
RETURN_PIXELS = 1.0  # how near a corner must come back to where it began
NOISE = (0.3, 2.0, 1.5)  # a path may be this far from a still point: a + b * its own noise, at most c
WINDOW = (4, 12)  # least and most frames that a corner is followed through
JOURNEY = 20.0  # pixels that the picture moves meanwhile: less says little, more and what is followed looks another
GRID = 4  # parts of the picture across and down
ENOUGH = 12  # paths that a part must have to be heard
STEADY = 0.5  # share of a part's corners that must be found again in the next frame for the others to speak for it


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What the second witness says."""

    ties: tuple[float, ...]
    """Of each frame and the next: the share of corners that can be followed from one to the other and back, in [0, 1]."""
    regions: tuple[float, ...]
    """Of each part of the picture, row by row: the share of its paths that one still point explains, in [0, 1], less where corners are
    lost at once; NaN where there is nothing to follow."""
    moving: float
    """Share of all paths that no still point explains, in [0, 1]; NaN where none is long enough."""


def agreement(frames: Pixels, cameras: Cameras | None, found: np.ndarray) -> Agreement:
    """Follow corners through a clip and ask the cameras about them.

    Args:
        frames: ``[T, H, W, 3]`` uint8, undistorted.
        cameras: Of the frames that were registered, in order; None where there are none, and then no path agrees.
        found: bool ``[T]``: which frames those are.
    """
    gray = shrunk(frames)
    starts = [_corners(before) for before in gray[:-1]]
    steps = [_step(before, after, start) for before, after, start in zip(gray[:-1], gray[1:], starts, strict=True)]
    ties = tuple(float(np.isfinite(step[:, 0]).mean()) if len(step) else 0.0 for step in steps)
    corners, followed = _zeros(), _zeros()
    for start, step in zip(starts, steps, strict=True):
        _count(corners, start, gray.shape)
        _count(followed, start[np.isfinite(step[:, 0])], gray.shape)
    paths, agrees = _zeros(), _zeros()
    if cameras is not None:
        moved = [_journey(start, step) for start, step in zip(starts, steps, strict=True)]
        shown = cameras.scaled(gray.shape[2] / cameras.width)
        for first, last in windows(moved):
            _hear(gray, (first, last), shown, found, (paths, agrees))
    steady = np.minimum(1.0, followed / np.maximum(1, corners) / STEADY)
    share = np.where(paths >= ENOUGH, agrees / np.maximum(1, paths) * steady, np.where(steady < 0.5, 0.0, np.nan))
    regions = np.where(corners >= ENOUGH, share, np.nan)
    moving = float(1 - agrees.sum() / paths.sum()) if paths.sum() else math.nan
    return Agreement(ties=ties, regions=tuple(regions.ravel().tolist()), moving=moving)


def windows(moved: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yield the frames [first, last) that corners are followed through, each window half over the one before.

    Args:
        moved: Pixels that the picture moves from each frame to the next.
    """
    count, reached = len(moved) + 1, np.concatenate([[0.0], np.cumsum(moved)])
    least, most = WINDOW
    first = 0
    while first + least <= count:
        far = int(np.searchsorted(reached, reached[first] + JOURNEY)) + 1
        last = min(count, max(first + least, min(far, first + most)))
        yield first, last
        first += max(1, (last - first) // 2)


def _journey(start: Floats, step: Floats) -> float:
    known = np.isfinite(step[:, 0])
    return float(np.median(np.linalg.norm(step[known] - start[known], axis=1))) if known.any() else 0.0


def _hear(gray: Pixels, window: tuple[int, int], cameras: Cameras, found: np.ndarray, counts: tuple[Floats, Floats]) -> None:
    """Add the paths of a window to those of their parts of the picture, and those that a still point explains."""
    first, last = window
    tracks = follow(gray, first, last)
    held = [i for i in range(len(tracks)) if found[first + i]]
    shortest = max(WINDOW[0], (last - first + 1) // 2)
    if len(held) < shortest:
        return
    seen = tracks[held]
    chosen = np.isfinite(seen[..., 0]).sum(0) >= shortest
    if not chosen.any():
        return
    seen, start = seen[:, chosen], tracks[0, chosen]
    base, slope, most = NOISE
    allowed = np.minimum(most, base + slope * roughness(seen))
    place = np.cumsum(found) - 1
    error = residual(seen, cameras.select([int(place[first + i]) for i in held]))
    _count(counts[0], start, gray.shape)
    _count(counts[1], start[error < allowed], gray.shape)


def _zeros() -> Floats:
    return np.zeros((GRID, GRID))


def _count(parts: Floats, places: Floats, shape: tuple[int, ...]) -> None:
    cells = (places / np.array([shape[2], shape[1]]) * GRID).astype(int).clip(0, GRID - 1)
    np.add.at(parts, (cells[:, 1], cells[:, 0]), 1)


def follow(gray: Pixels, first: int, last: int) -> Floats:
    """Follow the corners of frame ``first`` through the frames up to ``last``, which is not among them.

    Args:
        gray: ``[T, H, W]`` uint8.
        first: Index of a frame.
        last: Index after it.

    Returns:
        ``[last - first, N, 2]`` pixels, x and y; NaN from where a corner was lost.
    """
    places = [_corners(gray[first])]
    for index in range(first + 1, last):
        places.append(_step(gray[index - 1], gray[index], places[-1]))
    return np.stack(places)


def roughness(places: Floats) -> Floats:
    """Return how far each path is from a smooth one (a parabola in time): the noise of following, pixels, ``[N]``.

    Args:
        places: ``[F, N, 2]``, NaN where a corner was not seen.
    """
    seen = np.isfinite(places[..., 0])
    time = np.linspace(-1, 1, len(places))
    basis = np.stack([np.ones_like(time), time, time**2], 1)
    filled = np.where(seen[..., None], places, 0.0)
    normal = np.einsum("fi,fn,fj->nij", basis, seen.astype(np.float64), basis) + 1e-9 * np.eye(3)
    curve = np.linalg.solve(normal, np.einsum("fi,fnk->nik", basis, filled))
    square = np.where(seen, ((np.einsum("fi,nik->fnk", basis, curve) - filled) ** 2).sum(-1), 0.0)
    rough: Floats = np.sqrt(square.sum(0) / np.maximum(1, seen.sum(0) - 3))
    return rough


def residual(places: Floats, cameras: Cameras) -> Floats:
    """Return how far each path is from the best still point: root mean square in pixels, ``[N]``; infinite behind a camera.

    Args:
        places: ``[F, N, 2]``, NaN where a corner was not seen.
        cameras: F of them.
    """
    points = triangulate(places, cameras)
    pixels, depth = project(points, cameras)
    seen = np.isfinite(places[..., 0])
    square = np.where(seen, ((pixels - np.where(seen[..., None], places, 0.0)) ** 2).sum(-1), 0.0)
    error: Floats = np.sqrt(square.sum(0) / np.maximum(1, seen.sum(0)))
    return np.where((seen & (depth <= 0)).any(0), np.inf, error)


def triangulate(places: Floats, cameras: Cameras) -> Floats:
    """Return the point nearest to the rays of each path, weighted towards least reprojection error in three rounds, ``[N, 3]``.

    Args:
        places: ``[F, N, 2]``, NaN where a corner was not seen.
        cameras: F of them.
    """
    seen = np.isfinite(places[..., 0])
    filled = np.where(seen[..., None], places, 0.0)
    matrices = np.einsum("tij,tjk->tik", cameras.intrinsics, cameras.world_to_camera[:, :3])
    weight = seen.astype(np.float64)
    point = np.zeros((places.shape[1], 3))
    for _ in range(3):
        rows = filled[..., None] * matrices[:, None, 2:] - matrices[:, None, :2]  # [F, N, 2, 4]
        rows = rows * weight[..., None, None]
        left, right = rows[..., :3], -rows[..., 3]
        normal = np.einsum("tnki,tnkj->nij", left, left)
        normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3) + 1e-30 * np.eye(3)
        point = np.linalg.solve(normal, np.einsum("tnki,tnk->ni", left, right)[..., None])[..., 0]
        depth = np.einsum("tj,nj->tn", matrices[:, 2, :3], point) + matrices[:, 2, 3:]
        weight = seen / np.maximum(np.abs(depth), 1e-6)
    return point


def shrunk(frames: Pixels) -> Pixels:
    """Return frames in grey, ``[T, H, W]``, with a shorter side of at most 256 pixels."""
    cv2 = opencv()
    height, width = frames.shape[1:3]
    scale = min(1.0, SIDE / min(height, width))
    size = round(width * scale), round(height * scale)
    gray = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture for picture in gray])


def _corners(gray: Pixels) -> Floats:
    cv2 = opencv()
    apart = max(3, round(min(gray.shape) / 60))
    values = cv2.cornerEigenValsAndVecs(gray, 5, 3)[..., :2]
    mask = (values.min(-1) > ROUND * values.max(-1)).astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(gray, CORNERS, 0.005, apart, mask=mask, blockSize=5)
    return np.zeros((0, 2)) if corners is None else corners[:, 0].astype(np.float64) + 0.5


def _step(before: Pixels, after: Pixels, start: Floats) -> Floats:
    """Follow places from one frame to the next; those that do not come back to where they began are NaN."""
    cv2 = opencv()
    out = np.full_like(start, np.nan)
    known = np.flatnonzero(np.isfinite(start[:, 0]))
    if not len(known):
        return out
    side = max(9, round(min(before.shape) / 12) | 1)
    how: dict[str, Any] = {"winSize": (side, side), "maxLevel": 4, "criteria": (3, 20, 0.02), "minEigThreshold": 1e-4}
    here = (start[known] - 0.5).astype(np.float32)[:, None]
    there, went, _ = cv2.calcOpticalFlowPyrLK(before, after, here, None, **how)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **how)
    gap = np.linalg.norm(back - here, axis=2)[:, 0]
    height, width = before.shape
    inside = (there[:, 0] >= 0).all(1) & (there[:, 0, 0] < width) & (there[:, 0, 1] < height)
    good = (went[:, 0] == 1) & (returned[:, 0] == 1) & (gap < RETURN_PIXELS * min(before.shape) / SIDE) & inside
    out[known[good]] = there[good, 0].astype(np.float64) + 0.5
    return out
