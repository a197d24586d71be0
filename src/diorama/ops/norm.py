"""Normalisation over channels, one position at a time.

A norm that sees one position only is what makes chunks in time and tiles in space equal to the whole.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChannelNorm"]

_CACHED = 96 * 1024
"""Numbers that are normed and activated at a time in bf16: in float32 they stay in a core's own cache (measured: 64 to 256 thousand)."""


class ChannelNorm(nn.Module):
    """Root-mean-square norm over the channels of every position, with a gain per channel.

    Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization"; parameter name and shape as in the Wan autoencoder.

    Args:
        num_channels: C.
        num_axes: Axes after the channels: 3 for ``[B, C, T, H, W]``, 2 for ``[B, C, H, W]``.
    """

    def __init__(self, num_channels: int, num_axes: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(num_channels, *(1,) * num_axes))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x [B, C, ...]`` divided by its root mean square over C and multiplied by the gain, in the dtype of ``x``."""
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        inverse = self.gamma.shape[0] ** 0.5 / norm.clamp_min(1e-12)
        scaled: Tensor = x * inverse.to(x.dtype)
        gain = self.gamma.to(x.dtype)
        return scaled * gain if torch.is_grad_enabled() else scaled.mul_(gain)

    def activated(self, x: Tensor) -> Tensor:
        """Return SiLU of the normed ``x [B, C, ...]``, in the dtype of ``x``.

        In bf16 on a CPU without a gradient, piece by piece in float32: rounded once in place of four times, and faster, since torch multiplies
        bf16 by a number per position slowly. One thread, 48 channels, 4 frames of 128 x 128: 5.7 ms for 10.4; 96 of 64 x 64: 3.0 for 4.1.
        """
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.bfloat16:
            return self.activated_plain(x)
        rows = x.movedim(1, -1).contiguous()  # whatever the layout, or a stream would round otherwise than the whole
        result, gain = torch.empty_like(rows), self.gamma.flatten().float() * self.gamma.shape[0] ** 0.5
        size = max(1, _CACHED // x.shape[1])
        for piece, out in zip(torch.split(rows.flatten(0, -2), size), torch.split(result.flatten(0, -2), size), strict=True):
            wide = piece.float()
            inverse = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min_(1e-12).reciprocal_()
            out.copy_(F.silu(wide.mul_(inverse).mul_(gain), inplace=True))
        return result.movedim(-1, 1)

    def activated_plain(self, x: Tensor) -> Tensor:
        """Plain twin of `activated`."""
        return F.silu(self(x), inplace=not torch.is_grad_enabled())
