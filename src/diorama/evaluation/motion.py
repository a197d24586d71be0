"""How much pictures and their motion change from frame to frame.

A step at index i lies between the frames i - 1 and i; in a ring the step at index 0 lies between the last frame and the first,
elsewhere it is NaN. Motion is seen by the optical flow of ``ops`` at half the size of the pictures.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.media import Pixels
from diorama.ops.box import box_mean
from diorama.ops.optical_flow import FLOW_WINDOW, flow_between, slope_products, slopes

__all__ = ["as_tensor", "flow_steps", "photometric_steps"]


def as_tensor(frames: Pixels) -> Tensor:
    """Return frames as a tensor, also those in reverse, whose strides are negative."""
    return torch.from_numpy(np.ascontiguousarray(frames))


def photometric_steps(frames: Pixels, *, ring: bool = False) -> Tensor:
    """Return how much the picture changes at every step.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        ring: Whether the first frame follows the last.

    Returns:
        ``[T]`` mean absolute differences in grey levels of 255; the first is NaN without a ring.
    """
    video = as_tensor(frames).float()
    steps = (video - video.roll(1, 0)).abs().flatten(1).mean(1)
    return steps if ring else _open(steps)


def flow_steps(frames: Pixels, *, ring: bool = False) -> Tensor:
    """Return how much the motion changes at every step.

    The flow over a step is compared with that over the step before it and that over the step behind it. Only what can be seen of
    the change counts: its part along the picture's slopes (a stripe that moves lengthwise looks still), steep places more than flat ones.
    Where slopes point all ways this is the length of the change over the square root of 2.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        ring: Whether the first frame follows the last.

    Returns:
        ``[T]`` mean changes in pixels a frame; the first is NaN without a ring, all are below three frames.
    """
    video = _halved(as_tensor(frames))
    change = 2 * flow_between(video.roll(1, 0), video)
    change = change.roll(-1, 0) - change  # entry i: at frame i, from step i to step i + 1
    (xx, xy, yy), (u, v) = box_mean(slope_products(*slopes(video)), FLOW_WINDOW).unbind(1), change.unbind(1)
    steep, seen = xx + yy, xx * u * u + 2 * xy * u * v + yy * v * v
    at_frames = (steep * seen.clamp_min(0)).sqrt().flatten(1).sum(1) / steep.flatten(1).sum(1).clamp_min(1e-9)
    if not ring:
        at_frames[[0, -1]] = math.nan
    steps = torch.stack([at_frames.roll(1, 0), at_frames]).nanmean(0)
    return steps if ring else _open(steps)


def _open(steps: Tensor) -> Tensor:
    steps[0] = math.nan
    return steps


def _halved(frames: Tensor) -> Tensor:
    return functional.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 2)
