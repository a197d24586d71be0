"""How alike two pictures are: the numbers that held-out views are graded by."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from diorama.errors import InputError

__all__ = ["psnr", "ssim", "ssim_map"]

Picture = Tensor | NDArray[np.generic]


def _unit(picture: Picture) -> Tensor:
    """Return a picture or a stack of them as float in [0, 1]; float pictures are clamped as a screen does."""
    tensor = torch.from_numpy(np.ascontiguousarray(picture)) if isinstance(picture, np.ndarray) else picture.detach()
    if tensor.dtype == torch.uint8:
        return tensor.double() / 255.0
    if not tensor.is_floating_point():
        raise InputError(f"pictures must be uint8 or float in [0, 1], got {tensor.dtype}")
    return tensor.double().clamp(0.0, 1.0)


def _pair(a: Picture, b: Picture) -> tuple[Tensor, Tensor]:
    x, y = _unit(a), _unit(b)
    if x.shape != y.shape or x.ndim < 3 or x.shape[-1] != 3:
        raise InputError(f"pictures to compare must have one shape [..., H, W, 3], got {list(x.shape)} and {list(y.shape)}")
    return x, y.to(x.device)


def psnr(a: Picture, b: Picture, mask: Tensor | NDArray[np.bool_] | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB, from the mean square over all pixels.

    Args:
        a: ``[..., H, W, 3]``, uint8 or float in [0, 1].
        b: The same shape.
        mask: bool ``[..., H, W]``, True where pixels count; None: all do.

    Returns:
        dB; infinite where the pictures are equal, NaN where no pixel counts.

    Raises:
        InputError: shapes differ or are not pictures.
    """
    x, y = _pair(a, b)
    square = (x - y).square().mean(-1)
    if mask is not None:
        chosen = torch.as_tensor(mask, device=square.device).bool()
        if chosen.shape != square.shape:
            raise InputError(f"a mask must have its pictures' shape {list(square.shape)}, got {list(chosen.shape)}")
        square = square[chosen]
    if square.numel() == 0:
        return math.nan
    mean = float(square.mean())
    return -10.0 * math.log10(mean) if mean > 0 else math.inf


def ssim(a: Picture, b: Picture) -> float:
    """Return the structural similarity: the mean of ``ssim_map`` over pictures, places and colour channels.

    Args:
        a: ``[..., H, W, 3]``, uint8 or float in [0, 1], both sides at least 11 pixels.
        b: The same shape.

    Returns:
        In [-1, 1]; 1 where the pictures are equal.

    Raises:
        InputError: shapes differ, are not pictures, or a side is below 11 pixels.
    """
    x, y = _pair(a, b)
    height, width = x.shape[-3:-1]
    pictures = (v.reshape(-1, height, width, 3).permute(0, 3, 1, 2) for v in (x, y))
    return float(ssim_map(*pictures).mean())


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity at every place where the window fits, differentiable in both pictures.

    Args:
        a: float ``[B, C, H, W]`` in [0, 1], both sides at least 11 pixels.
        b: The same shape.

    Returns:
        ``[B, C, H - 10, W - 10]`` in [-1, 1].

    Raises:
        InputError: a side is below 11 pixels.

    Source: Wang et al. 2004, "Image quality assessment", sections III.B and III.C: an 11 x 11 Gaussian window of
    sigma 1.5 laid only where it fits, K1 = 0.01, K2 = 0.03.
    """
    batch, channels, height, width = a.shape
    if min(height, width) < 11:
        raise InputError(f"structural similarity needs sides of at least 11 pixels, got {width}x{height}")
    offsets = torch.arange(-5, 6, dtype=a.dtype, device=a.device)
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = window / window.sum()
    maps = torch.stack([a, b, a * a, b * b, a * b]).reshape(-1, 1, height, width)
    maps = functional.conv2d(functional.conv2d(maps, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))
    mean_a, mean_b, aa, bb, ab = maps.view(5, batch, channels, height - 10, width - 10)
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * (ab - mean_a * mean_b) + c2)
    bottom = (mean_a.square() + mean_b.square() + c1) * (aa - mean_a.square() + bb - mean_b.square() + c2)
    similarity: Tensor = top / bottom
    return similarity
