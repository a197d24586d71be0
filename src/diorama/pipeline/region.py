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
    given = source.clip
    box = _box(region, given.width, given.height)
    if box is not None:
        left, top, right, bottom = box
        frames = np.zeros((1, given.height, given.width, 3), np.uint8)
        frames[:, top:bottom, left:right] = 255
    else:
        mask = read_clip(region)
        moments = [min(mask.num_frames - 1, round(k / source.fps * mask.fps)) for k in range(num_frames)]
        frames = place(mask.frames if mask.num_frames == 1 else mask.frames[moments], (given.width, given.height), "stretch")[0]
    covered = torch.from_numpy(source.seen(frames).max(axis=3)).float() / 255
    if not bool((covered > 0.5).any()):
        raise InputError(f"the region {region} covers nothing of the {width}x{height} pixels that the model sees; mark what may change in white")
    return covered


def _box(region: str, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Return the box of a region in whole pixels, None if the region is no list of numbers but a path."""
    try:
        edges = [float(edge) for edge in region.split(",")]
    except ValueError:
        return None
    if len(edges) == 1:
        return None
    # Not a number fails every comparison.
    inside = len(edges) == 4 and 0 <= edges[0] < edges[2] <= width and 0 <= edges[1] < edges[3] <= height
    left, top, right, bottom = map(round, edges) if inside else (0, 0, 0, 0)
    if left == right or top == bottom:
        raise InputError(f"the region {region} is no box inside the picture of {width}x{height}; give LEFT,TOP,RIGHT,BOTTOM in its pixels")
    return left, top, right, bottom


def to_cells(mask: Tensor, latent: Tensor, stride: Stride) -> Tensor:
    """Return a mask of latent cells: a cell is as free as the freest of its pixels and frames.

    Args:
        mask: ``[T, h, w]`` in pixels of the model's picture, T being 1 or the frames of the clip.
        latent: ``[C, t, h', w']`` of the clip.
        stride: The grid in time.

    Returns:
        ``[t, h', w']``.
    """
    # A token may be several cells wide, so the cell's size is that of the latent, not the grid's.
    cell = (mask.shape[1] // latent.shape[2], mask.shape[2] // latent.shape[3])
    cells = F.max_pool2d(mask[:, None], cell)[:, 0]
    if len(mask) == 1:
        return cells.expand(latent.shape[1:]).clone()
    groups = [cells[:1], *torch.split(cells[1:], stride.time)]
    frames = torch.stack([group.amax(0) for group in groups])
    assert frames.shape[0] == latent.shape[1] == 1 + math.ceil((len(mask) - 1) / stride.time)
    return frames
