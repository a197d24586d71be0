"""Dense optical flow: least squares over a window at two sizes, because no library that Diorama installs for everyone has one.

Pictures are levels of 255, ``[N, 3, H, W]``; a flow ``[N, 2, H, W]`` says for every place of one picture how far to the right and
down, in pixels of that picture, the other shows the same.

Source: Lucas and Kanade 1981, "An iterative image registration technique"; a median over neighbours after every round as in Sun,
Roth and Black 2010, "Secrets of optical flow estimation", section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from diorama.ops.box import box_mean

__all__ = ["FLOW_WINDOW", "brought", "flow_between", "slope_products", "slopes"]

FLOW_WINDOW = 7
"""Side in pixels of the window that shares one motion."""
_ROUNDS = 4
"""Refinements of the flow at each size of the pyramid."""
_DAMPING = 30.0
"""Square levels per square pixel: where a picture has less slope than this it says nothing of its motion."""
_EXCHANGES = "12 45 78 01 34 67 12 45 78 03 58 47 36 14 25 47 42 64 42"
"""Comparisons that bring the middle of nine values to place 4. Source: Smith 1996, "Implementing median filters in XC4000E FPGAs"."""


def flow_between(first: Tensor, second: Tensor) -> Tensor:
    """Return how far every place of one picture has moved in another.

    It is found at half the size first: with motions of a few pixels patterns are still there; higher up they would be gone.

    Args:
        first: ``[N, 3, H, W]`` float levels of 255.
        second: The same shape.

    Returns:
        ``[N, 2, H, W]`` pixels to the right and down.
    """
    size = (first.shape[2] // 2, first.shape[3] // 2)
    if not min(size):
        return _refined(first, second, first.new_zeros(len(first), 2, *first.shape[2:]))
    x, y = (functional.interpolate(picture, size, mode="area") for picture in (first, second))
    flow = _refined(x, y, first.new_zeros(len(first), 2, *size))
    return _refined(first, second, 2 * functional.interpolate(flow, first.shape[2:], mode="bilinear", align_corners=False))


def brought(picture: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Return what a picture shows at the places a flow leads to.

    Args:
        picture: ``[N, C, H, W]``.
        flow: ``[N, 2, H, W]`` pixels to the right and down, from the picture to be made.
        mode: How to read between pixels, as in ``grid_sample``; beyond the border its last pixel counts.
    """
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij")
    places = torch.stack([(2 * (x + flow[:, 0]) + 1) / width - 1, (2 * (y + flow[:, 1]) + 1) / height - 1], -1)
    return functional.grid_sample(picture, places, mode=mode, padding_mode="border", align_corners=False)


def slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slopes ``[N, C, H, W]`` of a picture to the right and down, levels a pixel."""
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    return (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def slope_products(dx: Tensor, dy: Tensor) -> Tensor:
    """Return the sums over channels of slopes' products xx, xy and yy, ``[N, 3, H, W]``."""
    return torch.stack([(dx * dx).sum(1), (dx * dy).sum(1), (dy * dy).sum(1)], 1)


def _refined(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    for _ in range(_ROUNDS):
        flow = _median_of_nine(flow + _correction(a, b, flow))
    return flow


def _median_of_nine(planes: Tensor) -> Tensor:
    """Return the median over every place and its eight neighbours; ``Tensor.median`` is several times as slow."""
    height, width = planes.shape[-2:]
    padded = functional.pad(planes, (1, 1, 1, 1), mode="replicate")
    values = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    for i, j in (map(int, pair) for pair in _EXCHANGES.split()):
        values[i], values[j] = torch.minimum(values[i], values[j]), torch.maximum(values[i], values[j])
    return values[4]


def _correction(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    """Return what brings ``b``, taken back by ``flow``, nearer to ``a``: at most a pixel, ``[N, 2, H, W]``."""
    moved = brought(b, flow)
    dx, dy = slopes((a + moved) / 2)
    change = moved - a
    errors = [(dx * change).sum(1, keepdim=True), (dy * change).sum(1, keepdim=True)]
    xx, xy, yy, xt, yt = box_mean(torch.cat([slope_products(dx, dy), *errors], 1), FLOW_WINDOW).unbind(1)
    xx, yy = xx + _DAMPING, yy + _DAMPING
    inverse = 1 / (xx * yy - xy * xy)
    return torch.stack([(xy * yt - yy * xt) * inverse, (xy * xt - xx * yt) * inverse], 1).clamp(-1, 1)
