"""What follows given frames if everything in them goes on as it moves, and where that is to be trusted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.media import Pixels
from diorama.ops.box import box_mean
from diorama.ops.optical_flow import brought, flow_between

__all__ = ["NEAR", "agreed", "alike", "lead", "lead_surely", "seen_flow"]

NEAR = 9
"""Side in pixels of the neighbourhood that is trusted together, or its edges would fray."""
_ALIKE = 32.0
"""Levels of 255 by which the same thing may be drawn differently in two pictures; what differs by twice as much is surely another."""
_AGREED = 3.0
"""Pixels by which a way there and back may miss where it began."""
_SETTLING = 2
"""Rounds in which a place finds out by what motion it came there."""


def lead(frames: Pixels, count: int) -> Pixels:
    """Carry the last step of a clip on.

    Every place goes on as far with each frame as it went with the step before the last; what comes into the picture is not
    known, and the border's last pixels stand for it. So it is good for a few frames, and as a hint.

    Args:
        frames: ``[2, H, W, 3]`` uint8, the last two of the clip.
        count: Frames wanted.

    Returns:
        ``[count, H, W, 3]`` uint8.
    """
    before, last = _planes(frames)
    back = seen_flow(last, before)
    moved = torch.cat([brought(last, step * back, "bicubic") for step in range(1, count + 1)])
    levels: Pixels = moved.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return levels


def lead_surely(frames: Pixels, count: int, *, pace: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
    """Carry the last step of a clip on, and say where its motion is known.

    Args:
        frames: As in ``lead``.
        count: Frames wanted.
        pace: What a step of theirs takes of the time between the two given ones.

    Yields:
        Levels ``[1, 3, H, W]``, and how surely each place shows what was in the picture and moved so, ``[1, 1, H, W]`` from 0 to 1.
    """
    before, last = _planes(frames)
    back = seen_flow(last, before)
    known = torch.cat([last, alike(brought(before, back), last) * agreed(back, seen_flow(before, last))], 1)
    for step in range(1, count + 1):
        way = step * pace * back
        for _ in range(_SETTLING):
            way = step * pace * brought(back, way)
        carried = brought(known, way, "bicubic")
        yield carried[:, :3], carried[:, 3:].clamp(0, 1) * box_mean(_within(way), NEAR)


def seen_flow(one: Tensor, two: Tensor) -> Tensor:
    """Return the flow between pictures ``[N, 3, H, W]`` as seen at half their size: finer than that, coded pictures say little."""
    flow = flow_between(functional.avg_pool2d(one, 2), functional.avg_pool2d(two, 2))
    return 2 * functional.interpolate(flow, one.shape[2:], mode="bilinear", align_corners=False)


def alike(one: Tensor, two: Tensor) -> Tensor:
    """Return how surely two pictures ``[N, 3, H, W]`` show the same at each place, ``[N, 1, H, W]`` from 0 to 1."""
    apart = box_mean((one - two).abs().mean(1, keepdim=True), NEAR)
    surely: Tensor = torch.exp(-((apart / _ALIKE) ** 2)) * (apart < 2 * _ALIKE)
    return surely


def agreed(there: Tensor, back: Tensor) -> Tensor:
    """Return how surely the flows between two pictures ``[N, 2, H, W]`` are each other's way back, ``[N, 1, H, W]`` from 0 to 1."""
    missed = box_mean((there + brought(back, there)).norm(dim=1, keepdim=True), NEAR)
    surely: Tensor = torch.exp(-((missed / _AGREED) ** 2))
    return surely


def _within(flow: Tensor) -> Tensor:
    """Return 1 where a flow leads to a place in the picture and 0 elsewhere, ``[N, 1, H, W]``."""
    height, width = flow.shape[-2:]
    x, y = flow[:, :1] + torch.arange(width), flow[:, 1:] + torch.arange(height)[:, None]
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).float()


def _planes(frames: Pixels) -> Tensor:
    """Return two pictures as ``[2, 1, 3, H, W]`` levels."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()[:, None]
