"""Structural similarity of pictures, as a measure and as a loss.

Source: Wang et al. 2004, "Image quality assessment", sections III.B and III.C: an 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["C1", "C2", "TAPS", "similarity_map", "window"]

TAPS = 11
"""Places of the window along a side."""
C1, C2 = 0.01**2, 0.03**2
"""Constants for pictures in [0, 1]."""
_SIGMA = 1.5


def similarity_map(a: Tensor, b: Tensor, *, padding: int = 0) -> Tensor:
    """Return the structural similarity at every place of the window, differentiable in both pictures.

    Args:
        a: float ``[B, C, H, W]`` in [0, 1], both sides at least 11 pixels with the padding. Variances are differences of squares, so 16 bits
            are too few.
        b: The same shape.
        padding: P, pixels by which the window may reach over each edge, where both pictures count as 0. None, as Wang et al. have
            it; 5 gives every pixel a value.

    Returns:
        ``[B, C, H + 2 P - 10, W + 2 P - 10]`` in [-1, 1].
    """
    batch, channels, height, width = a.shape
    x, y = (picture.reshape(-1, 1, height, width) for picture in (a, b))
    taps = window(a.dtype).to(a.device)

    def blur(picture: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(picture, taps.view(1, 1, 1, -1), padding=(0, padding)), taps.view(1, 1, -1, 1), padding=(padding, 0))

    mean_x, mean_y = blur(x), blur(y)
    variance = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + C1) * (2 * covariance + C2) / ((mean_x**2 + mean_y**2 + C1) * (variance + C2))
    return similarity.view(batch, channels, *similarity.shape[2:])


def window(dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the window along a side: ``[11]``, with sum 1."""
    weights = torch.exp(-((torch.arange(TAPS, dtype=torch.float64) - TAPS // 2) ** 2) / (2 * _SIGMA**2))
    return (weights / weights.sum()).to(dtype)
