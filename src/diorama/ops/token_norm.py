"""Root-mean-square norm over the width of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["rms_norm", "rms_norm_plain"]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide tokens by their root mean square and multiply by a weight per channel.

    torch keeps and multiplies out every step where a gradient is wanted; here the backward is written down.

    Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization".

    Args:
        x: ``[..., D]``.
        weight: ``[D]``.
        eps: Added to the mean square.

    Returns:
        ``[..., D]`` float32.
    """
    if not torch.is_grad_enabled():
        return _normed(x, weight, eps)[0]
    result: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return result


def _normed(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the normed tokens and the inverse of their root mean square."""
    wide = x.float()
    square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
    inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide * inverse).mul_(weight), inverse


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, inverse = _normed(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return normed

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        grad = grads[0].float()
        unit = x.float() * inverse
        product = grad * unit
        along = (product * weight).sum(-1, keepdim=True).div_(-x.shape[-1])
        grad_x = (grad * weight).addcmul_(unit, along).mul_(inverse)
        return grad_x.to(x.dtype), product.flatten(0, -2).sum(0).to(weight.dtype), None


def rms_norm_plain(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Plain twin of `rms_norm`."""
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps)
