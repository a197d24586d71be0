"""Where given and generated frames meet.

Coding loses fine detail, so a generated frame beside a given one would be seen as a jump, even if the model continued it well.
The detail lost is known, since the shot shows the given frame too: it is carried on into the generated frames wherever the
picture stays what it was there, and fades where it changes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diorama.media import Pixels

__all__ = ["carry", "mix", "restore"]

CHANGE = 10.0
"""Levels of 255 by which a picture may differ, averaged over a few pixels, before its detail counts as gone."""
REACH = 5
"""Side in pixels of the neighbourhood that is looked at."""


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
    for i, frame in enumerate(frames):
        wide, total = _planes(frame), torch.zeros(())
        position = (i + 1) / (len(frames) + 1)
        for pair, share in ((start, 1.0 if end is None else 1.0 - position), (end, 1.0 if start is None else position)):
            if pair is not None:
                total = total + share * _lost(wide, *map(_planes, pair))
        out[i] = _levels(wide + total)
    return out


def restore(shot: Pixels, plain: Pixels, given: Pixels) -> Pixels:
    """Put back what coding lost of a clip, where an edit left the picture as it was.

    Args:
        shot: The edited clip ``[T, H, W, 3]`` uint8.
        plain: The clip coded and decoded, the same shape.
        given: The clip itself, the same shape.
    """
    return np.stack([_levels(_planes(a) + _lost(_planes(a), _planes(c), _planes(b))) for a, b, c in zip(shot, plain, given, strict=True)])


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


def _lost(frame: Tensor, given: Tensor, coded: Tensor) -> Tensor:
    """Return the detail of ``given`` that ``coded`` lacks, weighted by how much ``frame`` still shows what ``coded`` shows."""
    change = F.avg_pool2d((frame - coded).abs().mean(0, keepdim=True), REACH, 1, REACH // 2, count_include_pad=False)
    return torch.exp(-((change / CHANGE) ** 2)) * (given - coded)


def _planes(frame: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).float()


def _levels(planes: Tensor) -> Pixels:
    levels: Pixels = planes.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return levels
