"""The decoder: from the latent to patches of pixels."""

from __future__ import annotations

from torch import Tensor, nn

from diorama.autoencoder.blocks import MidBlock, ResidualBlock, Up, duplicate_up
from diorama.autoencoder.config import AutoencoderConfig
from diorama.ops.conv import CausalConv3d, TimeCache
from diorama.ops.norm import ChannelNorm

__all__ = ["Decoder"]


class UpBlock(nn.Module):
    """Residual blocks and a step up.

    Args:
        config: The graph.
        level: 0 is the coarsest.
    """

    def __init__(self, config: AutoencoderConfig, level: int) -> None:
        super().__init__()
        widths = config.decoder_widths[::-1]
        in_channels, width = widths[max(level - 1, 0)], widths[level]
        last = level == len(widths) - 1
        time = not last and config.temperal_downsample[::-1][level]
        up_channels = width if config.is_residual else width // 2
        if config.pointwise and not last:
            up_channels = widths[level + 1]
        if level and not config.is_residual:
            in_channels = width if config.pointwise else in_channels // 2
        self.shortcut = (width, 2 if time else 1, 2) if config.is_residual and not last else None
        self.resnets = nn.ModuleList(
            ResidualBlock(width if i else in_channels, width, config.factorized_time) for i in range(config.num_res_blocks + 1)
        )
        self.upsampler = self.upsamplers = None
        if not last:
            step = Up(width, up_channels, time, config.pointwise)
            if config.is_residual:
                self.upsampler = step
            else:
                self.upsamplers = nn.ModuleList([step])

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        """Map ``[B, C, T, H, W]`` to the next finer level."""
        y = x
        for resnet in self.resnets:
            y = resnet(y, cache)
        for step in filter(None, [self.upsampler, *(self.upsamplers or [])]):
            y = step(y, cache)
        if self.shortcut is not None:
            y = y + duplicate_up(x, *self.shortcut, first=cache is None or cache.first)
        return y


class Decoder(nn.Module):
    """Causal convolutional decoder.

    Args:
        config: The graph.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, spatial = config.decoder_widths, (1 if config.factorized_time else 3, 3, 3)
        self.conv_in = CausalConv3d(config.z_dim, widths[-1], spatial)
        self.mid_block = MidBlock(widths[-1], config.factorized_time) if config.mid_block else None
        self.up_blocks = nn.ModuleList(UpBlock(config, level) for level in range(len(widths)))
        self.norm_out = ChannelNorm(widths[0])
        self.conv_out = CausalConv3d(widths[0], config.out_channels, spatial)

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        """Map a latent ``[B, z_dim, T, h, w]`` to patches ``[B, out_channels, T', H, W]``."""
        x = self.conv_in(x, cache)
        if self.mid_block is not None:
            x = self.mid_block(x, cache)
        for block in self.up_blocks:
            x = block(x, cache)
        return self.conv_out(self.norm_out.activated(x), cache)  # type: ignore[no-any-return]
