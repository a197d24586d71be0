"""What encoder and decoder are built of: residual blocks, spatial attention, steps between levels, patches.

Every block maps ``[B, C, T, H, W]`` and an optional ``TimeCache`` to ``[B, C', T', H', W']``. Given a cache, the video arrives in
chunks; the first chunk starts with the first frame, which is coded alone, and has 1 + k * stride frames, later ones k * stride.

Source: the graph and the parameter names of Wan 2.1 and 2.2 (Wan Team 2025, arXiv 2503.20314).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diorama.ops.conv import CausalConv3d, TimeCache, is_bound_by_products
from diorama.ops.norm import ChannelNorm
from diorama.ops.upsample import upsampled_conv

__all__ = ["Attention", "Down", "MidBlock", "ResidualBlock", "Up", "average_down", "duplicate_up", "patchify", "unpatchify"]


class ResidualBlock(nn.Module):
    """Two normed convolutions beside a shortcut.

    Args:
        in_channels: Channels in.
        out_channels: Channels out; the shortcut is a 1x1x1 convolution if they differ.
        factorized_time: Two 1x3x3 convolutions with a causal 3x1x1 between them, in place of two causal 3x3x3.
    """

    def __init__(self, in_channels: int, out_channels: int, factorized_time: bool) -> None:
        super().__init__()
        kernel = (1, 3, 3) if factorized_time else (3, 3, 3)
        self.norm1 = ChannelNorm(in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels, kernel)
        if factorized_time:
            self.time_conv = CausalConv3d(out_channels, out_channels, (3, 1, 1))
            with torch.no_grad():  # begins as "this frame", so that time is learned on top of a working image network
                self.time_conv.weight.mul_(0.1)
                self.time_conv.weight[:, :, -1, 0, 0].diagonal().add_(1)
        self.norm2 = ChannelNorm(out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels, kernel)
        self.conv_shortcut = CausalConv3d(in_channels, out_channels, (1, 1, 1)) if in_channels != out_channels else None

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        """Map ``[B, in_channels, T, H, W]`` to ``[B, out_channels, T, H, W]``."""
        h = self.conv1(self.norm1.activated(x), cache)
        if hasattr(self, "time_conv"):
            h = self.time_conv(h, cache)
        h = self.conv2(self.norm2.activated(h), cache)
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(x)
        if torch.is_grad_enabled() or h.dtype != shortcut.dtype:
            return shortcut + h  # type: ignore[no-any-return]
        return h.add_(shortcut)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Single-head self-attention among the positions of each frame.

    Args:
        num_channels: C.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(num_channels, num_axes=2)
        self.to_qkv = nn.Conv2d(num_channels, 3 * num_channels, 1)
        self.proj = nn.Conv2d(num_channels, num_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, T, H, W]`` to the same shape."""
        frames = _fold(x)
        s, c, h, w = frames.shape
        q, k, v = self.to_qkv(self.norm(frames)).reshape(s, 3, c, h * w).transpose(2, 3).unbind(1)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + _unfold(self.proj(mixed.transpose(1, 2).reshape(s, c, h, w)), x.shape[0])


class MidBlock(nn.Module):
    """Two residual blocks around an attention.

    Args:
        num_channels: C.
        factorized_time: See ``ResidualBlock``.
    """

    def __init__(self, num_channels: int, factorized_time: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(num_channels, num_channels, factorized_time) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(num_channels)])

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        """Map ``[B, C, T, H, W]`` to the same shape."""
        x = self.resnets[0](x, cache)
        x = self.attentions[0](x)
        return self.resnets[1](x, cache)  # type: ignore[no-any-return]


class Down(nn.Module):
    """Halve height and width, and time if asked; the first frame stays alone.

    Args:
        num_channels: C.
        time: Whether time is halved too.
    """

    def __init__(self, num_channels: int, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(num_channels, num_channels, 3, stride=2))
        self.time_conv = nn.Conv3d(num_channels, num_channels, (3, 1, 1), stride=(2, 1, 1)) if time else None

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        """Map ``[B, C, T, H, W]`` to ``[B, C, T', H / 2, W / 2]``; T' is T, or 1 + (T - 1) / 2 with time, or T / 2 in later chunks."""
        x = _unfold(self.resample(_fold(x)), x.shape[0])
        if self.time_conv is None:
            return x
        if cache is not None and not cache.first:
            return self.time_conv(cache.join(x, 1))  # type: ignore[no-any-return]
        if cache is not None:
            cache.join(x, 1)
        return x if x.shape[2] == 1 else torch.cat([x[:, :, :1], self.time_conv(x).to(x.dtype)], dim=2)


class Up(nn.Module):
    """Double height and width, and time after the first frame if asked.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        time: Whether time is doubled too.
        pointwise: 1x1 convolution and pixel shuffle in place of nearest neighbour and a 3x3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, time: bool, pointwise: bool) -> None:
        super().__init__()
        self.pointwise = pointwise
        if pointwise:
            self.resample = nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))
        else:
            self.resample = nn.Sequential(nn.Upsample(scale_factor=2.0, mode="nearest-exact"), nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.time_conv = CausalConv3d(in_channels, 2 * in_channels, (3, 1, 1)) if time else None

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        """Map ``[B, in, T, H, W]`` to ``[B, out, T', 2 H, 2 W]``; T' is T, or 1 + 2 (T - 1) with time, or 2 T in later chunks."""
        if self.time_conv is not None:
            x = self._double_time(x, cache)
        fast = not self.pointwise and is_bound_by_products(x)
        frames = upsampled_conv(_fold(x), *self.resample[1].parameters()) if fast else self.resample(_fold(x))
        return _unfold(frames, x.shape[0])

    def _double_time(self, x: Tensor, cache: TimeCache | None) -> Tensor:
        assert self.time_conv is not None
        alone = 1 if cache is None or cache.first else 0  # the first frame makes one frame and is not seen by the others
        rest = x[:, :, alone:]
        if not rest.shape[2]:
            if cache is not None:
                cache.join(rest, self.time_conv.kernel_size[0] - 1)
            return x
        # With channels last, as the convolutions want them: a copy is made anyway.
        y = self.time_conv(rest, cache).unflatten(1, (2, -1))
        doubled = y.permute(0, 3, 1, 4, 5, 2).flatten(1, 2).movedim(-1, 1)
        return torch.cat([x[:, :, :1].to(doubled.dtype), doubled], dim=2) if alone else doubled


def average_down(x: Tensor, out_channels: int, time: int, space: int) -> Tensor:
    """Fold blocks of ``time x space x space`` into channels and average groups of them; the first frame is joined by zeros before it.

    Args:
        x: ``[B, C, T, H, W]``.
        out_channels: Channels out; divides C * time * space ** 2.
        time: Frames per block.
        space: Pixels per block side.

    Returns:
        ``[B, out_channels, ceil(T / time), H / space, W / space]``.
    """
    x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % time, 0))
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // time, time, h // space, space, w // space, space).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, out_channels, -1, t // time, h // space, w // space).mean(dim=2)


def duplicate_up(x: Tensor, out_channels: int, time: int, space: int, *, first: bool) -> Tensor:
    """Repeat channels and unfold them into blocks of ``time x space x space``.

    Args:
        x: ``[B, C, T, H, W]``.
        out_channels: Channels out; ``out_channels * time * space ** 2`` is a multiple of C.
        time: Frames per block.
        space: Pixels per block side.
        first: Whether ``x`` starts with the first frame of the video, of whose block only the last frame is kept.

    Returns:
        ``[B, out_channels, T * time (less time - 1 if first), H * space, W * space]``.
    """
    b, c, t, h, w = x.shape
    x = x.repeat_interleave(out_channels * time * space * space // c, dim=1)
    x = x.reshape(b, out_channels, time, space, space, t, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    x = x.reshape(b, out_channels, t * time, h * space, w * space)
    return x[:, :, time - 1 :] if first else x


def patchify(video: Tensor, patch: tuple[int, int, int], *, first: bool) -> Tensor:
    """Fold patches of pixels into channels.

    Args:
        video: ``[B, C, T, H, W]``.
        patch: Patch size in time, height and width.
        first: Whether the video starts with the first frame, which is repeated to fill its patch.

    Returns:
        ``[B, C * volume, T', H / ph, W / pw]``, channels in the order (C, time, width, height) as in Wan 2.2.
    """
    pt, ph, pw = patch
    if first and pt > 1:
        video = torch.cat([video[:, :, :1].expand(-1, -1, pt - 1, -1, -1), video], dim=2)
    b, c, t, h, w = video.shape
    video = video.reshape(b, c, t // pt, pt, h // ph, ph, w // pw, pw).permute(0, 1, 3, 7, 5, 2, 4, 6)
    return video.reshape(b, c * pt * ph * pw, t // pt, h // ph, w // pw)


def unpatchify(x: Tensor, patch: tuple[int, int, int], *, first: bool) -> Tensor:
    """Undo ``patchify``; of the first frame's patch only the last frame is kept."""
    pt, ph, pw = patch
    b, c, t, h, w = x.shape
    x = x.reshape(b, c // (pt * ph * pw), pt, pw, ph, t, h, w).permute(0, 1, 5, 2, 6, 4, 7, 3)
    x = x.reshape(b, -1, t * pt, h * ph, w * pw)
    return x[:, :, pt - 1 :] if first else x


def _fold(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _unfold(x: Tensor, batch: int) -> Tensor:
    return x.reshape(batch, -1, *x.shape[1:]).transpose(1, 2)
