"""The training loss: squared error of the velocity, each frame counted once whatever its size."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["frame_losses", "velocity_loss"]


def frame_losses(predicted: Tensor, target: Tensor, tokens_per_frame: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared error of every frame of a pack.

    Args:
        predicted: Velocity tokens ``[L, D]``, frame after frame.
        target: Velocity tokens ``[L, D]``.
        tokens_per_frame: Tokens of each of the F frames ``[F]`` int64, summing to L.
        weights: How much each token counts within its frame ``[L]``, above 0; all alike if None.

    Returns:
        Losses ``[F]`` float32.
    """
    errors = (predicted.float() - target.float()).square().mean(dim=-1)
    sizes = tokens_per_frame.to(errors.device)
    frames = torch.arange(len(sizes), device=errors.device)
    owner = torch.repeat_interleave(frames, sizes, output_size=len(errors))
    total = torch.zeros(len(frames), device=errors.device)
    if weights is None:
        return total.index_add(0, owner, errors) / sizes
    return total.index_add(0, owner, errors * weights) / total.index_add(0, owner, weights)


def velocity_loss(predicted: Tensor, target: Tensor, tokens_per_frame: Tensor, mask: Tensor) -> Tensor:
    """Return the mean loss of the frames that count.

    Args:
        predicted: Velocity tokens ``[L, D]``.
        target: Velocity tokens ``[L, D]``.
        tokens_per_frame: ``[F]`` int64.
        mask: ``[F]`` bool, false for frames given clean; if none counts the loss is 0.

    Returns:
        A scalar float32.
    """
    weights = mask.to(predicted.device, torch.float32)
    return (frame_losses(predicted, target, tokens_per_frame) * weights).sum() / weights.sum().clamp(min=1)
