"""The encoder: from patches of pixels to the moments of the latent."""

from __future__ import annotations

from torch import Tensor, nn

from diorama.autoencoder.blocks import Down, MidBlock, ResidualBlock, average_down
from diorama.autoencoder.config import AutoencoderConfig
from diorama.ops.conv import CausalConv3d, TimeCache
from diorama.ops.norm import ChannelNorm

__all__ = ["Encoder"]


class DownBlock(nn.Module):
    """Residual blocks and a step down, beside an averaging shortcut (one level of Wan 2.2's encoder)."""

    def __init__(self, config: AutoencoderConfig, level: int) -> None:
        super().__init__()
        widths = config.encoder_widths
        width, self.out_channels = widths[max(level - 1, 0)], widths[level]
        last = level == len(widths) - 1
        time = not last and config.temperal_downsample[level]
        self.block = (2 if time else 1, 1 if last else 2)
        self.resnets = nn.ModuleList()
        for _ in range(config.num_res_blocks):
            self.resnets.append(ResidualBlock(width, self.out_channels, config.factorized_time))
            width = self.out_channels
        self.downsampler = None if last else Down(width, time)

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        shortcut = average_down(x, self.out_channels, *self.block)
        for resnet in self.resnets:
            x = resnet(x, cache)
        return shortcut + (x if self.downsampler is None else self.downsampler(x, cache))


class Encoder(nn.Module):
    """Causal convolutional encoder.

    Args:
        config: The graph.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, spatial = config.encoder_widths, (1 if config.factorized_time else 3, 3, 3)
        ends = (1, 1, 1) if config.pointwise else spatial
        self.conv_in = CausalConv3d(config.in_channels, widths[0], ends)
        self.down_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            if config.is_residual:
                self.down_blocks.append(DownBlock(config, level))
                continue
            for i in range(config.num_res_blocks):
                previous = width if i else widths[max(level - 1, 0)]
                self.down_blocks.append(ResidualBlock(previous, width, config.factorized_time))
            if level < len(widths) - 1:
                self.down_blocks.append(Down(width, config.temperal_downsample[level]))
        self.mid_block = MidBlock(widths[-1], config.factorized_time) if config.mid_block else None
        self.norm_out = ChannelNorm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], 2 * config.z_dim, ends)

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        """Map patches ``[B, in_channels, T, H, W]`` to features ``[B, 2 * z_dim, T', h, w]``."""
        x = self.conv_in(x, cache)
        for block in self.down_blocks:
            x = block(x, cache)
        if self.mid_block is not None:
            x = self.mid_block(x, cache)
        return self.conv_out(self.norm_out.activated(x), cache)  # type: ignore[no-any-return]
