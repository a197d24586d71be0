"""A 3 x 3 convolution of a picture that was made twice as large by repeating its cells, without making it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["upsampled_conv", "upsampled_conv_plain"]

_SHARED = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
"""Which of the three taps fall on which of two neighbouring cells, for output cells with even and with odd place."""


def upsampled_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Repeat every cell twice along height and width, and convolve.

    Of the nine taps several fall on the same cell: output cells with even and odd row and column are four 2 x 2 convolutions of the small
    picture, 2.25 times fewer products. One thread, float32, 96 to 48 channels, 4 frames of 64 x 64: 15.8 ms for 32.4.

    Args:
        x: ``[N, C, H, W]``, best with channels last.
        weight: ``[D, C, 3, 3]``.
        bias: ``[D]`` or None.

    Returns:
        ``[N, D, 2 H, 2 W]`` with channels last; the border sees zeros.
    """
    batch, _, height, width = x.shape
    shared = torch.tensor(_SHARED, dtype=weight.dtype, device=weight.device)
    kernels = torch.einsum("aik,bjl,dckl->abdijc", shared, shared, weight).contiguous().movedim(-1, 3)
    result = x.new_empty(batch, height, 2, width, 2, len(weight))
    for row in range(2):
        for column in range(2):
            made = F.conv2d(x, kernels[row, column], bias, padding=1)[:, :, row : row + height, column : column + width]
            result[:, :, row, :, column] = made.movedim(1, -1)
    return result.reshape(batch, 2 * height, 2 * width, -1).movedim(-1, 1)


def upsampled_conv_plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Plain twin of `upsampled_conv`."""
    return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest-exact"), weight, bias, padding=1)
