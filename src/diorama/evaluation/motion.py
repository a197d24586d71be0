"""How much pictures and their motion change from frame to frame.

A step at index i lies between the frames i - 1 and i; in a ring the step at index 0 lies between the last frame and the first,
elsewhere it is NaN. Motion is seen by a dense optical flow of our own, least squares over a window at two sizes (Lucas and
Kanade), because no library that Diorama installs has one.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.media import Pixels

__all__ = ["as_tensor", "flow_steps", "optical_flow", "photometric_steps"]

_WINDOW = 7
"""Side in halved pixels of the window that shares one motion."""
_ROUNDS = 4
"""Refinements of the flow at each size of the pyramid."""
_DAMPING = 30.0
"""Square levels per square pixel: where a picture has less slope than this it says nothing of its motion."""


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
    change = _flow(video.roll(1, 0), video)
    change = change.roll(-1, 0) - change  # entry i: at frame i, from step i to step i + 1
    (xx, xy, yy), (u, v) = _smooth(_products(*_slopes(video))).unbind(1), change.unbind(1)
    steep, seen = xx + yy, xx * u * u + 2 * xy * u * v + yy * v * v
    at_frames = (steep * seen.clamp_min(0)).sqrt().flatten(1).sum(1) / steep.flatten(1).sum(1).clamp_min(1e-9)
    if not ring:
        at_frames[[0, -1]] = math.nan
    steps = torch.stack([at_frames.roll(1, 0), at_frames]).nanmean(0)
    return steps if ring else _open(steps)


def _open(steps: Tensor) -> Tensor:
    steps[0] = math.nan
    return steps


def optical_flow(first: Pixels, second: Pixels) -> Tensor:
    """Return how far every place of one picture has moved in another.

    Args:
        first: uint8 ``[N, H, W, 3]``.
        second: The same shape.

    Returns:
        ``[N, H / 2, W / 2, 2]`` pixels of the full picture to the right and down, found at half its size.

    Source: Lucas and Kanade 1981, "An iterative image registration technique"; a median over neighbours after every round as in
    Sun, Roth and Black 2010, "Secrets of optical flow estimation", section 4.
    """
    return _flow(_halved(as_tensor(first)), _halved(as_tensor(second))).permute(0, 2, 3, 1)


def _halved(frames: Tensor) -> Tensor:
    return functional.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 2)


def _flow(a: Tensor, b: Tensor) -> Tensor:
    """Return the flow ``[N, 2, h, w]`` of halved pictures ``[N, 3, h, w]``, in pixels of the full ones.

    It is found at half that size first: a world moves by a few pixels a frame, and higher up the floors' patterns are gone.
    """
    size = (a.shape[2] // 2, a.shape[3] // 2)
    x, y = (functional.interpolate(picture, size, mode="area") for picture in (a, b))
    flow = _refined(x, y, a.new_zeros(len(a), 2, *size))
    return 2 * _refined(a, b, 2 * functional.interpolate(flow, a.shape[2:], mode="bilinear", align_corners=False))


def _refined(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    for _ in range(_ROUNDS):
        padded = functional.pad(flow + _correction(a, b, flow), (1, 1, 1, 1), mode="replicate")
        flow = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).median(-1).values
    return flow


def _correction(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    """Return what brings ``b``, taken back by ``flow``, nearer to ``a``: at most a pixel, ``[N, 2, H, W]``."""
    moved = _taken_back(b, flow)
    dx, dy = _slopes((a + moved) / 2)
    change = moved - a
    xx, xy, yy, xt, yt = _smooth(torch.cat([_products(dx, dy), (dx * change).sum(1, keepdim=True), (dy * change).sum(1, keepdim=True)], 1)).unbind(1)
    xx, yy = xx + _DAMPING, yy + _DAMPING
    inverse = 1 / (xx * yy - xy * xy)
    return torch.stack([(xy * yt - yy * xt) * inverse, (xy * xt - xx * yt) * inverse], 1).clamp(-1, 1)


def _slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    return (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _products(dx: Tensor, dy: Tensor) -> Tensor:
    return torch.stack([(dx * dx).sum(1), (dx * dy).sum(1), (dy * dy).sum(1)], 1)


def _smooth(planes: Tensor) -> Tensor:
    half = _WINDOW // 2
    rows = functional.avg_pool2d(planes, (_WINDOW, 1), 1, (half, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, _WINDOW), 1, (0, half), count_include_pad=False)


def _taken_back(picture: Tensor, flow: Tensor) -> Tensor:
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([(2 * (x + flow[:, 0]) + 1) / width - 1, (2 * (y + flow[:, 1]) + 1) / height - 1], -1)
    return functional.grid_sample(picture, places, padding_mode="border", align_corners=False)
