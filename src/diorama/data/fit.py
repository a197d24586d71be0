"""Clips of any size, rate and length brought to what a model trains on.

Frames are dropped to reach a lower rate, never made up; what does not fit the grid is cropped, never stretched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diorama.data.shards import SampleInfo
from diorama.errors import DataError
from diorama.media import Pixels, place

__all__ = ["GRID", "Shape", "fit", "fitted"]

GRID = 16
"""Sides are multiples of this many pixels."""
_STEP = 4  # lengths are 1 + 4 k


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What becomes of a clip."""

    num_frames: int
    """1 + 4 k."""
    height: int
    """Pixels, a multiple of 16."""
    width: int
    """Pixels, a multiple of 16."""
    fps: float


def fitted(info: SampleInfo, *, area: int | None, fps: float | None, num_frames: int | None, name: str) -> Shape:
    """Return the shape that a clip is brought to.

    Args:
        info: Its size, length and rate.
        area: Pixels of a frame at most, about; None keeps the size, which must then be on the grid.
        fps: Frames a second at most; None keeps the rate.
        num_frames: Longest clip; the beginning of a longer one is kept. None keeps all but up to 3 frames at the end.
        name: What to call the clip in messages.

    Raises:
        DataError: the size is off the grid and no area is given.
    """
    height, width = info.height, info.width
    if area is None and (height % GRID or width % GRID):
        raise DataError(f"clip {name} is {width}x{height}, sides must be multiples of {GRID}; give data.encode.area, for example 16384")
    if area is not None:
        scale = min(1.0, math.sqrt(area / (height * width)))
        height, width = (max(GRID, round(side * scale / GRID) * GRID) for side in (height, width))
    rate = info.fps if fps is None else min(info.fps, fps)
    count = 1 + math.floor((info.num_frames - 1) * rate / info.fps + 1e-6)
    count = min(count, num_frames or count)
    return Shape(num_frames=count - (count - 1) % _STEP, height=height, width=width, fps=rate)


def fit(frames: Pixels, fps: float, shape: Shape) -> Pixels:
    """Bring a clip to a shape that ``fitted`` gave for it.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        fps: Its rate.
        shape: What to bring it to.
    """
    picked = frames[np.minimum(np.round(np.arange(shape.num_frames) * fps / shape.fps).astype(int), len(frames) - 1)]
    return place(picked, (shape.width, shape.height), "crop")[0]
