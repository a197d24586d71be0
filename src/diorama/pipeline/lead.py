"""What follows given frames if everything in them goes on as it moves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.media import Pixels
from diorama.ops.box import box_mean
from diorama.ops.optical_flow import brought, flow_between

__all__ = ["alike", "lead", "lead_surely", "seen_flow"]

_ALIKE = 16.0
"""Levels of 255 by which the same thing may be drawn differently in two pictures; other things differ by more, and by twice as much surely."""
_NEAR = 5
"""Side in pixels of the neighbourhood in which that is seen."""


def lead(frames: Pixels, count: int) -> Pixels:
    """Carry the last step of a clip on.

    Every place of the last frame goes on as far with each frame as it went with the step before it; what comes into the picture is not
    known, and the border's last pixels stand for it. So it is good for a few frames, and as a hint.

    Args:
        frames: ``[2, H, W, 3]`` uint8, the last two of the clip.
        count: Frames wanted.

    Returns:
        ``[count, H, W, 3]`` uint8.
    """
    moved, _ = lead_surely(frames, count)
    levels: Pixels = moved.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return levels


def lead_surely(frames: Pixels, count: int, *, pace: float = 1.0) -> tuple[Tensor, Tensor]:
    """Carry the last step of a clip on, and say where its motion is known.

    Args:
        frames: As in ``lead``.
        count: Frames wanted.
        pace: What a step of theirs takes of the time between the two given ones.

    Returns:
        Levels ``[count, 3, H, W]``, and how surely each place is one that the last step explains, ``[count, 1, H, W]`` from 0 to 1.
    """
    before, last = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()[:, None]
    back = seen_flow(last, before)
    known = torch.cat([last, alike(brought(before, back), last)], 1)
    moved = torch.cat([brought(known, step * pace * back, "bicubic") for step in range(1, count + 1)])
    return moved[:, :3], moved[:, 3:].clamp(0, 1)


def seen_flow(one: Tensor, two: Tensor) -> Tensor:
    """Return the flow between pictures ``[N, 3, H, W]`` as seen at half their size: finer than that, coded pictures say little."""
    flow = flow_between(functional.avg_pool2d(one, 2), functional.avg_pool2d(two, 2))
    return 2 * functional.interpolate(flow, one.shape[2:], mode="bilinear", align_corners=False)


def alike(one: Tensor, two: Tensor) -> Tensor:
    """Return how surely two pictures ``[N, 3, H, W]`` show the same at each place, ``[N, 1, H, W]`` from 0 to 1."""
    apart = box_mean((one - two).abs().mean(1, keepdim=True), _NEAR)
    surely: Tensor = torch.exp(-((apart / _ALIKE) ** 2)) * (apart < 2 * _ALIKE)
    return surely
