"""Normalisation over channels, one position at a time.

A norm that sees one position only is what makes chunks in time and tiles in space equal to the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ChannelNorm"]


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
