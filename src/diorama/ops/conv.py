"""Convolutions that are causal in time, over whole videos or chunk by chunk.

A layer that looks back in time asks a ``TimeCache`` for the frames before its chunk. The cache is a value: the tails that
one chunk leaves are passed to the next, and no module keeps any state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diorama.ops.winograd import TAPS, conv_frames

__all__ = ["CausalConv3d", "TimeCache", "conv_by_frames", "is_bound_by_products", "lay_out"]


_TAP_BY_TAP = (2, 0, 3, 4, 1)
"""The axes of a weight ``[D, C, t, h, w]`` as ``conv_by_frames`` reads them: ``[t, D, h, w, C]``."""
_NARROW, _SMALL = 16, 256
"""Channels seen and cells of a frame below which the transforms cost more than they save (measured)."""


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
        past = x.new_zeros(*x.shape[:2], num_frames, *x.shape[3:]) if self.first else next(self._past).to(x.dtype)
        joined = _cat_time(past, x)
        self.tails.append(joined[:, :, joined.shape[2] - num_frames :].clone())
        return joined


def _cat_time(past: Tensor, x: Tensor) -> Tensor:
    """Join frames in the layout of ``x``; torch takes a single frame with channels last for one with channels first."""
    if x.stride(1) != 1:
        return torch.cat([past, x], dim=2)
    return torch.cat([past.movedim(1, -1), x.movedim(1, -1)], dim=1).movedim(-1, 1)


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
        return is_bound_by_products(x) and self.weight.permute(_TAP_BY_TAP).is_contiguous() and min(self.kernel_size) > 1


def is_bound_by_products(x: Tensor) -> bool:
    """Return whether a convolution of ``x`` takes as long as its products: in float32 on a CPU, without a gradient."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


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
            layer.weight.data = weight.permute(_TAP_BY_TAP).contiguous().permute(1, 4, 0, 2, 3)


def conv_by_frames(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve without padding in time as 2-D convolutions of frames.

    In float32 oneDNN is as fast at them as at matrix products, where it is slow at 3-D ones of few channels or frames; and frames that are
    made together need fewer of them, see ``winograd``. On one thread of a CPU with AVX-512, as GFLOP/s of the plain sum: 48 channels, 4 frames
    of 128 x 128: 237 for 106; 96 of 64 x 64: 287 for 123; 192, 2 frames of 32 x 32: 202 for 152. In bf16 the 3-D ones are faster.

    Args:
        x: ``[B, C, T + t - 1, H, W]``, best with channels last.
        weight: ``[D, C, t, h, w]``; no copy is made of one that ``lay_out`` has seen.
        bias: ``[D]`` or None.

    Returns:
        ``[B, D, T, H, W]`` with channels last; height and width are kept.
    """
    taps = weight.permute(_TAP_BY_TAP).contiguous()
    frames = [piece for clip in x.movedim(1, -1) for piece in _runs(clip, taps, bias)]
    together = frames[0] if len(frames) == 1 else torch.cat(frames)
    return together.view(len(x), -1, *together.shape[1:]).movedim(-1, 1)


def _runs(clip: Tensor, taps: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Convolve ``clip [T + t - 1, H, W, C]`` with ``taps [t, D, h, w, C]`` a few frames at a time; return pieces ``[n, H, W, D]``."""
    reach = len(taps) - 1
    frames = len(clip) - reach
    if len(taps) != TAPS or clip.shape[-1] < _NARROW or clip[0, ..., 0].numel() < _SMALL:
        return [_tap_by_tap(clip, taps, bias)]
    pieces, done = list[Tensor](), 0
    for size in (4, 2):
        while frames - done >= size:
            pieces.append(conv_frames(clip[done : done + size + reach], taps, bias))
            done += size
    return pieces if done == frames else [*pieces, _tap_by_tap(clip[done:], taps, bias)]


def _tap_by_tap(clip: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    frames, padding = len(clip) - len(taps) + 1, (taps.shape[2] // 2, taps.shape[3] // 2)
    planes, kernels = clip.movedim(-1, 1), taps.movedim(-1, 2)
    total = F.conv2d(planes[:frames], kernels[0], bias, padding=padding)
    for i in range(1, len(taps)):
        total += F.conv2d(planes[i : i + frames], kernels[i], padding=padding)
    return total.movedim(1, -1)
