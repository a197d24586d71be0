"""What an autoencoder is trained for: pixels, edges at several scales, and a latent that bears noise.

Source: L1 with edge terms in place of a perceptual network or an adversary, whose weights cannot be shipped; KL weight 1e-6 as in
Rombach et al. 2022 (arXiv 2112.10752), section 4.3.2; noise on the latent so that the decoder bears the transformer's error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diorama.autoencoder.model import Autoencoder
from diorama.errors import ConfigError
from diorama.ops.similarity import similarity_map

__all__ = ["LossConfig", "gradient_loss", "kl_loss", "reconstruction_loss", "structure_loss"]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms."""

    gradient: float = 0.5
    """Weight of the difference of edges beside the mean absolute difference of pixels."""
    scales: int = 3
    """Scales at which edges are compared: full size, half, quarter and so on."""
    square: float = 0.0
    """Weight of the mean square difference of pixels, which the signal-to-noise ratio measures."""
    structure: float = 0.0
    """Weight of 1 - the structural similarity of frames, which weighs faint texture as much as strong."""
    joins: float = 0.0
    """Weight of the mean absolute difference of the steps from one latent frame's frames to the next one's: without it details are drawn anew
    with every latent frame and moving things judder."""
    kl: float = 1e-6
    """Weight of the divergence of the latent from a standard normal, per latent number."""
    noise: float = 0.1
    """Largest noise on the latent in training, in units of each channel's standard deviation; each clip draws between 0 and this."""

    def __post_init__(self) -> None:
        for name in ("gradient", "square", "structure", "joins", "kl", "noise"):
            if not 0 <= getattr(self, name) <= 10:
                raise ConfigError(f"loss.{name} is {getattr(self, name)}; allowed is 0 to 10")
        if not 1 <= self.scales <= 6:
            raise ConfigError(f"loss.scales is {self.scales}; allowed is 1 to 6")


def gradient_loss(a: Tensor, b: Tensor, scales: int) -> Tensor:
    """Return the mean absolute difference of the horizontal, vertical and temporal steps of two videos, averaged over scales.

    Args:
        a: ``[B, 3, T, H, W]``.
        b: The same shape.
        scales: Number of scales, each half of the one before in height and width.
    """
    difference, total = a - b, a.new_zeros(())
    for scale in range(scales):
        if scale:
            difference = F.avg_pool3d(difference, (1, 2, 2))
        axes = [axis for axis in (2, 3, 4) if difference.shape[axis] > 1]
        for axis in axes:
            total = total + difference.diff(dim=axis).abs().mean() / len(axes)
    return total / scales


def structure_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - the mean structural similarity of the frames of two videos, 0 where they are equal.

    Args:
        a: ``[B, 3, T, H, W]`` in [-1, 1], both sides at least 11 pixels.
        b: The same shape.
    """
    with torch.autocast(a.device.type, enabled=False):
        return 1 - similarity_map(*(video.float().transpose(1, 2).flatten(0, 1) / 2 + 0.5 for video in (a, b))).mean()


def kl_loss(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return the divergence from a standard normal of normals with this mean and log variance, averaged over elements."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def reconstruction_loss(model: Autoencoder, video: Tensor, config: LossConfig, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    """Code a video, disturb the latent, decode it and compare.

    Args:
        model: The autoencoder in training.
        video: ``[B, 3, T, H, W]`` in [-1, 1].
        config: Weights.
        generator: Source of the noise.

    Returns:
        Scalar loss, and its terms: ``l1``, ``gradient``, ``kl``, ``psnr`` in dB (of the disturbed latent), and ``ssim`` and ``joins`` if they have
        a weight.
    """
    mean, logvar = (moment.float() for moment in model.moments(video))
    share = config.noise * torch.rand(len(mean), 1, 1, 1, 1, generator=generator, device=mean.device)
    spread = mean.detach().std(dim=(0, 2, 3, 4), keepdim=True)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    decoded = model.reconstruct(mean + noise * (logvar.exp() + (share * spread).square()).sqrt()).float()
    difference = decoded - video
    square, absolute = difference.square().mean(), difference.abs().mean()
    edges, kl = gradient_loss(decoded, video, config.scales), kl_loss(mean, logvar)
    loss = absolute + config.gradient * edges + config.square * square + config.kl * kl
    figures = {"l1": absolute.item(), "gradient": edges.item(), "kl": kl.item(), "psnr": -10 * torch.log10(square.detach() / 4).item()}
    if config.structure:
        structure = structure_loss(decoded, video)
        loss, figures = loss + config.structure * structure, figures | {"ssim": 1 - structure.item()}
    if config.joins and video.shape[2] > 1:
        joins = difference.diff(dim=2)[:, :, :: model.config.stride.time].abs().mean()
        loss, figures = loss + config.joins * joins, figures | {"joins": joins.item()}
    return loss, figures
