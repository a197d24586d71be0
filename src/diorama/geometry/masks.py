"""Things that move by themselves: where the picture flows otherwise than any one rigid world could.

The flow to both neighbours is held against the epipolar geometry that most of the picture obeys. A world that is rigid but badly drawn is
not excused by this: what is masked must not agree in either direction, be in one piece and the lesser part of the picture.

Two views cannot tell what moves along epipolar lines from what is nearer or farther, and flow loses what is plain and fast: such movers
stay, and reconstruction has to throw them out point by point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from diorama.geometry.cameras import Bools, Floats
from diorama.geometry.epipolar import sampson
from diorama.geometry.frames import opencv
from diorama.geometry.matches import Matches
from diorama.media import Pixels

__all__ = ["Movers", "find_movers"]

SIDE = 256
"""Side in pixels of the square of whose area frames are made to look for movers."""
DISAGREEMENT = 1.0
"""Pixels at that size by which a mover leaves the epipolar geometry, at least; and four times what is usual in the frame."""
RETURN = 1.0
"""Pixels within which flow there and back must meet, else it is hidden or plain and says nothing."""
SMALLEST = 0.004
"""Smallest share of the frame that a mover fills."""
LEAST = 0.001
"""Share of all pixels up to which what was found is taken for a slip of the flow."""
LARGEST = 0.4
"""Share of all pixels above which nothing is masked: then it is the world that is not rigid."""


@dataclass(frozen=True, kw_only=True)
class Movers:
    """What moves by itself in a clip."""

    masks: Bools | None
    """``[T, H, W]``, True where a pixel belongs to the rigid scene; None if nothing was found to move, or too much."""
    moving: float
    """Share of all pixels that move by themselves, before the decision to mask."""


def find_movers(frames: Pixels, progress: Callable[[int, int], None] | None = None) -> Movers:
    """Find what moves by itself.

    Args:
        frames: uint8 ``[T, H, W, 3]``, at least 3, of a moving camera.
        progress: Called with frames done and frames in all.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    forward, backward = _flows(frames)
    count = len(frames)
    moving = np.zeros((count, *forward[0].shape[:2]), dtype=np.bool_)
    for number in range(count):
        sides = []
        if number + 1 < count:
            sides.append(_witness(forward[number], backward[number]))
        if number > 0:
            sides.append(_witness(backward[number - 1], forward[number - 1]))
        against, for_ = (np.any([side[which] for side in sides], axis=0) for which in (0, 1))
        moving[number] = _pieces(against & ~for_)
        if progress is not None:
            progress(number + 1, count)
    return _decide(moving, frames)


def _flows(frames: Pixels) -> tuple[list[Any], list[Any]]:
    """Return the flow from each frame to the next and back, ``[h, w, 2]`` each at the small size."""
    cv2 = opencv()
    height, width = frames.shape[1:3]
    scale = SIDE / math.sqrt(width * height)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    small = [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for f in np.ascontiguousarray(frames)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return [flow.calc(a, b, None) for a, b in pairwise(small)], [flow.calc(b, a, None) for a, b in pairwise(small)]


def _decide(moving: Bools, frames: Pixels) -> Movers:
    """Return masks of the frames' size, unless next to nothing moves, or most of the picture."""
    cv2 = opencv()
    share = float(moving.mean())
    if not LEAST < share <= LARGEST:
        return Movers(masks=None, moving=share)
    size = frames.shape[2], frames.shape[1]
    grown = np.stack([cv2.resize(m.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for m in moving])
    return Movers(masks=grown == 0, moving=share)


def _witness(there: Any, back: Any) -> tuple[Bools, Bools]:
    """Return where flow ``[H, W, 2]`` to another frame leaves the epipolar geometry that fits most of it, and where it keeps to it.

    Both ``[H, W]``; neither where flow there and back do not meet, for what is hidden proves nothing.
    """
    cv2 = opencv()
    height, width = there.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across, down = x + there[..., 0], y + there[..., 1]
    returned = there + cv2.remap(back, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1e3, 1e3))
    known = np.hypot(returned[..., 0], returned[..., 1]) < RETURN
    every = (slice(3, None, 6), slice(3, None, 6))
    sampled = known[every]
    first = np.stack([x[every][sampled], y[every][sampled]], axis=1).astype(np.float64)
    second = np.stack([across[every][sampled], down[every][sampled]], axis=1).astype(np.float64)
    nothing = np.zeros((height, width), dtype=np.bool_)
    if len(first) < 50:
        return nothing, nothing
    fundamental, kept = cv2.findFundamentalMat(first, second, cv2.FM_RANSAC, 0.5, 0.999, 2000)
    if fundamental is None or fundamental.shape != (3, 3) or kept.mean() < 0.5:
        return nothing, nothing
    whole = Matches(
        first=np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64),
        second=np.stack([across, down], axis=-1).reshape(-1, 2).astype(np.float64),
        ratio=np.zeros(height * width),
    )
    error: Floats = np.sqrt(sampson(whole, fundamental)).reshape(height, width)
    limit = max(DISAGREEMENT, 4 * float(np.median(error[known]))) if known.any() else math.inf
    return known & (error > limit), known & (error <= limit)


def _pieces(found: Bools) -> Bools:
    """Return the large connected pieces, closed and filled, with a rim for shadows and blur."""
    cv2 = opencv()
    small, wide = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (3, 9))
    closed = cv2.morphologyEx(cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, small), cv2.MORPH_CLOSE, wide)
    kept = np.zeros_like(closed)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        if cv2.contourArea(outline) >= SMALLEST * found.size:
            cv2.drawContours(kept, [outline], -1, 1, cv2.FILLED)
    return np.asarray(cv2.dilate(kept, small, iterations=2) > 0)
