"""Convolutions that are causal in time, over whole videos or chunk by chunk.

A layer that looks back in time asks a ``TimeCache`` for the frames before its chunk. The cache is a value: the tails that
one chunk leaves are passed to the next, and no module keeps any state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CausalConv3d", "TimeCache"]


class TimeCache:
    """The last frames that every causal layer of a network has seen, read and replaced in one walk over the network.

    Args:
        past: The ``tails`` of the walk over the chunk before, or None for the first chunk of a video.
    """

    def __init__(self, past: Sequence[Tensor] | None = None) -> None:
        self.first = past is None
        self.tails: list[Tensor] = []
        self._past: Iterator[Tensor] = iter(past or ())

    def join(self, x: Tensor, num_frames: int) -> Tensor:
        """Return ``x [B, C, T, H, W]`` with the ``num_frames`` frames before it in front: zeros before the first chunk."""
        joined = _pad_time(x, num_frames) if self.first else torch.cat([next(self._past).to(x.dtype), x], dim=2)
        self.tails.append(joined[:, :, joined.shape[2] - num_frames :].clone())
        return joined


def _pad_time(x: Tensor, num_frames: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, num_frames, 0)) if num_frames else x


class CausalConv3d(nn.Conv3d):
    """3-D convolution whose output at a frame depends on this frame and earlier ones only; spatial size is kept.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Odd sizes in time, height and width.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int, int]) -> None:
        padding = (0, kernel_size[1] // 2, kernel_size[2] // 2)
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        """Convolve a video or, with a cache, its next chunk.

        Args:
            x: ``[B, C, T, H, W]``.
            cache: Frames before the chunk; None if ``x`` is the whole video, which starts after zeros.

        Returns:
            ``[B, out_channels, T, H, W]``.
        """
        reach = self.kernel_size[0] - 1
        if reach:
            x = _pad_time(x, reach) if cache is None else cache.join(x, reach)
        return super().forward(x)
