"""Means over a square around every place of a plane."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["box_mean"]


def box_mean(planes: Tensor, side: int) -> Tensor:
    """Return the mean over a square of an odd side around every place ``[N, C, H, W]``, of as much of it as there is at borders."""
    height, width = planes.shape[-2:]
    ones = [planes.new_ones(1, 1, height, 1), planes.new_ones(1, 1, 1, width)]
    counts = _window_sums(ones[0], side, 2) * _window_sums(ones[1], side, 3)
    return _window_sums(_window_sums(planes, side, 2), side, 3) / counts


def _window_sums(planes: Tensor, side: int, dim: int) -> Tensor:
    """Return sums over windows in one dimension, put together from windows of 1, 2, 4 and so on: ``avg_pool2d`` is several times as slow."""
    size, half = planes.shape[dim], side // 2
    run = F.pad(planes, (0, 0, half, half) if dim == 2 else (half, half))
    total, offset, width = None, 0, 1
    while True:
        if side & width:
            piece = run.narrow(dim, offset, size)
            total = piece if total is None else total + piece
            offset += width
        if offset == side:
            assert total is not None
            return total
        length = run.shape[dim] - width
        run = run.narrow(dim, 0, length) + run.narrow(dim, width, length)
        width *= 2
