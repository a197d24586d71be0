"""How alike two pictures are: the numbers that held-out views and whole clips are graded by."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diorama.errors import InputError
from diorama.ops.similarity import TAPS, similarity_map

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


def ssim_map(a: Tensor, b: Tensor, *, padding: int = 0) -> Tensor:
    """Return the structural similarity at every place of the window, differentiable in both pictures; see ``similarity_map``.

    Args:
        a: float ``[B, C, H, W]`` in [0, 1], both sides at least 11 pixels with the padding.
        b: The same shape.
        padding: P, pixels by which the window may reach over each edge.

    Returns:
        ``[B, C, H + 2 P - 10, W + 2 P - 10]`` in [-1, 1].

    Raises:
        InputError: a side is below 11 pixels.
    """
    height, width = a.shape[2:]
    if min(height, width) + 2 * padding < TAPS:
        raise InputError(f"structural similarity needs sides of at least {TAPS} pixels, got {width}x{height}")
    return similarity_map(a, b, padding=padding)
