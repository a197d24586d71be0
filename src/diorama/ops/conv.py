"""Convolutions that are causal in time, over whole videos or chunk by chunk.

A layer that looks back in time asks a ``TimeCache`` for the frames before its chunk. The cache is a value: the tails that
one chunk leaves are passed to the next, and no module keeps any state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CausalConv3d", "TimeCache", "conv_by_frames", "lay_out"]


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
        if not reach:
            return super().forward(x)
        alone = x.shape[2] == 1 and (cache is None or cache.first) and min(self.kernel_size) > 1 and not torch.is_grad_enabled()
        joined = _pad_time(x, reach) if cache is None else cache.join(x, reach)
        # The frames before a first one are zeros: one tap of three is enough.
        seen, weight = (x, self.weight[:, :, -1:]) if alone else (joined, self.weight)
        return conv_by_frames(seen, weight, self.bias) if self._goes_by_frames(x) else self._conv_forward(seen, weight, self.bias)

    def _goes_by_frames(self, x: Tensor) -> bool:
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        return plain and self.weight.stride() == _by_frames_stride(self)


def lay_out(module: nn.Module) -> None:
    """Lay the weights of a network's convolutions out in memory as a CPU reads them, or every call would copy them.

    In float32 that is for those of 3 x 3 x 3 what ``conv_by_frames`` takes, in bf16 channels last. Names, shapes and values stay.

    Args:
        module: Changed in place.
    """
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Conv3d) or layer.weight.device.type != "cpu":
            continue
        weight = layer.weight.data
        if weight.dtype == torch.bfloat16:
            layer.weight.data = weight.contiguous(memory_format=torch.channels_last if weight.ndim == 4 else torch.channels_last_3d)
        elif weight.dtype == torch.float32 and isinstance(layer, CausalConv3d) and min(layer.kernel_size) > 1:
            layer.weight.data = weight.permute(0, 3, 4, 2, 1).contiguous().permute(0, 4, 3, 1, 2)


def _by_frames_stride(conv: CausalConv3d) -> tuple[int, ...]:
    channels, (time, _, width) = conv.in_channels, conv.kernel_size
    return channels * math.prod(conv.kernel_size), 1, channels, width * time * channels, time * channels


def conv_by_frames(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve without padding in time as 2-D convolutions of frames whose channels are those of the frames seen together.

    In float32 oneDNN has fast kernels for it where its 3-D ones are slow: 143 GFLOP/s for 33 with 48 channels, 4 frames of 64 x 64, and 167
    for 47 with 96 of 32 x 32, on one thread of a CPU with AMX. In bf16 the 3-D ones are faster.

    Args:
        x: ``[B, C, T + t - 1, H, W]``, best with channels last.
        weight: ``[D, C, t, h, w]``; no copy is made of one that ``lay_out`` has seen.
        bias: ``[D]`` or None.

    Returns:
        ``[B, D, T, H, W]`` with channels last; height and width are kept.
    """
    batch, frames, time = x.shape[0], x.shape[2] - weight.shape[2] + 1, weight.shape[2]
    seen = [x[:, :, i : i + frames] for i in range(time)]
    together = seen[0] if time == 1 else torch.cat(seen, dim=1)
    planes = together.transpose(1, 2).flatten(0, 1)
    kernel = weight.transpose(1, 2).flatten(1, 2)
    y = F.conv2d(planes, kernel, bias, padding=(weight.shape[3] // 2, weight.shape[4] // 2))
    return y.reshape(batch, frames, *y.shape[1:]).transpose(1, 2)
