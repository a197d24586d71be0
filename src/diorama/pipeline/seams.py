"""Where given and generated frames meet.

Coding loses fine detail, so a generated frame beside a given one would be seen as a jump, even if the model continued it well.
The detail lost is known, since the shot shows the given frame too: it is carried on into the generated frames wherever the
picture stays what it was there, and fades where it changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diorama.media import Pixels
from diorama.ops.box import box_mean

__all__ = ["carry", "mix", "restore", "surround"]

CHANGE = 10.0
"""Levels of 255 by which a picture may differ, averaged over a few pixels, before its detail counts as gone."""
REACH = 5
"""Side in pixels of the neighbourhood that is looked at."""
_REACHES = (0, 2, 4, 8, 16)
"""Pixels on every side whose mean loss is carried to a place outside a clip, the more the farther it is; the last is where it has faded."""


def carry(frames: Pixels, start: tuple[Pixels, Pixels] | None, end: tuple[Pixels, Pixels] | None) -> Pixels:
    """Carry the detail of given frames into the generated ones beside them.

    Args:
        frames: Generated, ``[T, H, W, 3]`` uint8.
        start: The given frame before them ``[H, W, 3]`` and how the shot shows it; None if there is none.
        end: As ``start``, for the given frame behind them.

    Returns:
        ``[T, H, W, 3]`` uint8.
    """
    if not len(frames) or (start is None and end is None):
        return frames
    out = np.empty_like(frames)
    sides = [None if pair is None else (_planes(pair[0]), _planes(pair[1])) for pair in (start, end)]
    for i, frame in enumerate(frames):
        wide, position = _planes(frame), (i + 1) / (len(frames) + 1)
        views = [(share, *side) for share, side in zip((1 - position, position), sides, strict=True) if side is not None]
        out[i] = _levels(wide + _lost(wide, views))
    return out


def restore(shot: Pixels, plain: Pixels, given: Pixels) -> Pixels:
    """Put back what coding lost of a clip, where an edit left the picture as it was.

    Args:
        shot: The edited clip ``[T, H, W, 3]`` uint8.
        plain: The clip coded and decoded, the same shape.
        given: The clip itself, the same shape.
    """
    triples = (tuple(map(_planes, frames)) for frames in zip(shot, given, plain, strict=True))
    return np.stack([_levels(frame + _lost(frame, [(1.0, whole, coded)])) for frame, whole, coded in triples])


def surround(frames: Pixels, given: Pixels, left: int, top: int) -> Pixels:
    """Put a clip into a larger one that shows it coded, and let what coding lost of it fade out around it.

    To a place is carried what the clip lost nearest to it, beside it that of a pixel, and farther away the mean over more and more.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        given: ``[T, h, w, 3]`` uint8, or one frame for all; it stays bit-equal.
        left: Its place in the frames, pixels.
        top: As ``left``.
    """
    (height, width), far = given.shape[1:3], _REACHES[-1]
    rows, columns = (_nearest(size, begin, count) for size, begin, count in zip(frames.shape[1:3], (top, left), (height, width), strict=True))
    away = [(places - torch.arange(len(places))).abs() for places in (rows, columns)]
    distance = torch.maximum(away[0][:, None], away[1]).float()
    shares = _shares(2 * (distance - 1).clamp_min(0)) * (1 - distance / far).clamp_min(0)
    out = frames.copy()
    out[:, top : top + height, left : left + width] = given
    across = (left - far, left + width + far)
    bands = [((top - far, top), across), ((top + height, top + height + far), across)]
    bands += [((top, top + height), (left - far, left)), ((top, top + height), (left + width, left + width + far))]
    for band in bands:
        here, seen, inner = zip(*(_band(begin, end, far, size) for (begin, end), size in zip(band, frames.shape[1:3], strict=True)), strict=True)
        for i in range(len(frames) if out[0][here].size else 0):
            lost = _nearest_loss(frames[i], given[min(i, len(given) - 1)], (rows[seen[0]], columns[seen[1]]), (top, left))
            means = torch.cat([lost, *(box_mean(lost, 2 * reach + 1) for reach in _REACHES[1:])])[(..., *inner)]
            out[i][here] = _levels(_planes(frames[i][here]) + (shares[(slice(None), None, *here)] * means).sum(0))
    return out


def _band(begin: int, end: int, far: int, size: int) -> tuple[slice, slice, slice]:
    """Return a part of a picture's side, what lies as far as ``far`` from it, and the part within that."""
    begin, end = max(0, begin), min(size, end)
    first = max(0, begin - far)
    return slice(begin, max(begin, end)), slice(first, min(size, end + far)), slice(begin - first, max(begin, end) - first)


def _nearest_loss(frame: Pixels, given: Pixels, nearest: tuple[Tensor, Tensor], corner: tuple[int, int]) -> Tensor:
    """Return what a clip lost at places of it ``[1, 3, h, w]``."""
    rows, columns = (places.numpy() for places in nearest)
    return (_planes(given[rows - corner[0]][:, columns - corner[1]]) - _planes(frame[rows][:, columns]))[None]


def _nearest(size: int, begin: int, count: int) -> Tensor:
    """Return for each of ``size`` places the nearest of the ``count`` from ``begin`` on."""
    return torch.arange(size).clamp(begin, begin + count - 1)


def _shares(reach: Tensor) -> Tensor:
    """Return the share of each of ``_REACHES`` in any reach ``[H, W]``, linear between the two next to it: ``[N, H, W]``."""
    before, here, after = (torch.tensor(corners)[:, None, None] for corners in ((-1.0, *_REACHES[:-1]), _REACHES, (*_REACHES[1:], math.inf)))
    reach = reach.clamp_max(_REACHES[-1])
    return torch.minimum((reach - before) / (here - before), 1 - (reach - here) / (after - here)).clamp(0, 1)


def mix(given: Pixels, shot: Pixels, mask: Tensor) -> Pixels:
    """Mix two clips by a mask; where it is 0 the given clip stays bit-equal.

    Args:
        given: ``[T, H, W, 3]`` uint8.
        shot: The same shape.
        mask: ``[T, h, w]`` or ``[1, h, w]`` from 0 to 1, of any height and width.
    """
    size = (given.shape[1], given.shape[2])
    smooth = mask.shape[1:] != size and mask.shape[1:] != (1, 1)
    wide = F.interpolate(mask.float()[:, None], size, mode="bilinear" if smooth else "nearest")[:, 0]
    out = np.empty_like(given)
    for i in range(len(given)):
        weight = wide[min(i, len(wide) - 1), :, :, None].numpy()
        mixed = given[i] + weight * (shot[i].astype(np.float32) - given[i])
        out[i] = np.clip(mixed.round(), 0, 255).astype(np.uint8)
    return out


def _lost(frame: Tensor, views: Sequence[tuple[float, Tensor, Tensor]]) -> Tensor:
    """Return the detail that coded pictures lack of given ones, as far as a frame still shows what they show.

    Args:
        frame: ``[3, H, W]`` levels.
        views: Given and coded pictures, the same shape, each with its share above 0 in what is carried where the frame is like several.
    """
    detail = weight = most = torch.zeros(())
    for share, given, coded in views:
        change = box_mean((frame - coded).abs().mean(0)[None, None], REACH)[0]
        likeness = torch.exp(-((change / CHANGE) ** 2))
        detail, weight, most = detail + share * likeness * (given - coded), weight + share * likeness, torch.maximum(most, likeness)
    return detail / weight.clamp_min(1e-12) * most


def _planes(frame: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).float()


def _levels(planes: Tensor) -> Pixels:
    levels: Pixels = planes.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return levels
