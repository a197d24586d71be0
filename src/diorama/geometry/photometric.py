"""How far a render is from a photograph, with the gradient: absolute difference and structural similarity.

``plain`` is PyTorch, on any device; ``compiled`` is the same number and gradient from compiled loops on the CPU.

Source: B. Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023), section 6; structural similarity is
that of ``image_metrics``, with pixels of 0 around the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diorama.geometry.compiled import spread
from diorama.geometry.image_metrics import ssim_map
from diorama.ops.similarity import TAPS

__all__ = ["compiled", "plain"]


def plain(image: Tensor, target: Tensor, weight: Tensor, ssim_weight: float) -> Tensor:
    """Return (1 - s) |x - y| + s (1 - SSIM(x, y)) summed with weights.

    Args:
        image: x, float32 ``[H, W, 3]`` in [0, 1]; the gradient flows to it.
        target: y, float32 ``[H, W, 3]`` in [0, 1].
        weight: float32 ``[H, W, 3]``; where every weight is 1 / (3 H W), the sum is a mean.
        ssim_weight: s, in [0, 1].

    Returns:
        A number.
    """
    ssim = ssim_map(*(picture.permute(2, 0, 1)[None] for picture in (image, target)), padding=TAPS // 2)
    difference = (image - target).abs() * weight
    return (1 - ssim_weight) * difference.sum() + ssim_weight * (weight.sum() - (ssim[0].permute(1, 2, 0) * weight).sum())


def compiled(image: Tensor, target: Tensor, weight: Tensor, ssim_weight: float) -> Tensor:
    """Return the same as ``plain`` by compiled loops, on the CPU.

    Args:
        image: See ``plain``; like the others contiguous.
        target: See ``plain``.
        weight: See ``plain``.
        ssim_weight: See ``plain``.

    Raises:
        MissingExtraError: numba is not installed.
    """
    loss: Tensor = _Compiled.apply(image, target, weight, ssim_weight)  # type: ignore[no-untyped-call]
    return loss


class _Compiled(torch.autograd.Function):
    """Value and gradient are made together; backward only scales the gradient."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, weight: Tensor, ssim_weight: float) -> Tensor:
        from diorama.geometry import loss_kernels

        height = image.shape[0]
        x, y, w = (tensor.detach().reshape(height, -1).numpy() for tensor in (image, target, weight))
        blurred, slopes = np.empty((5, *x.shape), np.float32), np.empty((3, *x.shape), np.float32)
        similar, absolute, gradient = np.empty(height), np.empty(height), np.empty_like(x)
        spread(loss_kernels.across, height, x, y, blurred)
        spread(loss_kernels.down, height, blurred, w, slopes, similar)
        spread(loss_kernels.across_gradients, height, slopes, blurred[:3])
        spread(loss_kernels.down_gradients, height, (x, y, w), blurred[:3], ssim_weight, gradient, absolute)
        ctx.gradient = torch.from_numpy(gradient).view(image.shape)
        total = (1 - ssim_weight) * absolute.sum() + ssim_weight * (w.sum(dtype=np.float64) - similar.sum())
        return torch.tensor(total, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.gradient * gradients[0], None, None, None
