"""Where an edit may change the picture: a box, a mask picture or a mask video."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diorama.errors import InputError
from diorama.media import place, read_clip
from diorama.pipeline.source import Source
from diorama.shapes import Stride

__all__ = ["read_region", "to_cells"]


def read_region(region: str, source: Source, num_frames: int) -> Tensor:
    """Return what a region covers, at the model's size and rate.

    Args:
        region: ``LEFT,TOP,RIGHT,BOTTOM`` in pixels of the source, the path of a mask whose white parts change, or empty for everywhere.
        source: The clip that is edited.
        num_frames: Frames at the model's rate.

    Returns:
        ``[T, h, w]`` from 0 (stays) to 1 (changes), T being 1 or ``num_frames``.

    Raises:
        InputError: the box is not understood, lies outside the picture or covers nothing; the mask is black.
        MediaError: the mask cannot be read.
    """
    width, height = source.placement.target
    if not region:
        return torch.ones(1, height, width)
    numbers = _box(region)
    given = source.clip
    if numbers is not None:
        left, top, right, bottom = numbers
        if not (0 <= left < right <= given.width and 0 <= top < bottom <= given.height):
            raise InputError(
                f"the region {region} is no box inside the picture of {given.width}x{given.height}; give LEFT,TOP,RIGHT,BOTTOM in its pixels"
            )
        frames = np.zeros((1, given.height, given.width, 3), np.uint8)
        frames[:, top:bottom, left:right] = 255
    else:
        mask = read_clip(region)
        moments = [min(mask.num_frames - 1, round(k / source.fps * mask.fps)) for k in range(num_frames)]
        frames = place(mask.frames if mask.num_frames == 1 else mask.frames[moments], (given.width, given.height), "stretch")[0]
    frames = place(frames, source.placement.target, source.placement.fit)[0]
    covered = torch.from_numpy(frames.max(axis=3)).float() / 255
    if not bool((covered > 0.5).any()):
        raise InputError(f"the region {region} covers nothing of the picture; mark what may change in white")
    return covered


def _box(region: str) -> tuple[int, int, int, int] | None:
    parts = region.split(",")
    if len(parts) != 4:
        return None
    try:
        left, top, right, bottom = (round(float(part)) for part in parts)
    except (ValueError, OverflowError):
        return None
    return left, top, right, bottom


def to_cells(mask: Tensor, latent: Tensor, stride: Stride) -> Tensor:
    """Return a mask of latent cells: a cell is as free as the freest of its pixels and frames.

    Args:
        mask: ``[T, h, w]`` in pixels, T being 1 or the frames of the clip.
        latent: ``[C, t, h', w']`` of the clip.
        stride: The grid.

    Returns:
        ``[t, h', w']``.
    """
    cells = F.max_pool2d(mask[:, None], stride.space, stride.space)[:, 0]
    if len(mask) == 1:
        return cells.expand(latent.shape[1:]).clone()
    groups = [cells[:1], *torch.split(cells[1:], stride.time)]
    frames = torch.stack([group.amax(0) for group in groups])
    assert frames.shape[0] == latent.shape[1] == 1 + math.ceil((len(mask) - 1) / stride.time)
    return frames
