"""Clips to and from the tensors that models take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diorama.media.clip import Clip

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["from_tensor", "to_tensor"]


def to_tensor(clip: Clip) -> Tensor:
    """Return a clip as ``[1, 3, T, H, W]`` float32 RGB in [-1, 1]."""
    import torch

    return torch.from_numpy(np.array(clip.frames)).permute(3, 0, 1, 2)[None].float().div_(127.5).sub_(1.0)


def from_tensor(video: Tensor, fps: float, metadata: dict[str, str] | None = None) -> Clip:
    """Return ``[3, T, H, W]`` or ``[1, 3, T, H, W]`` RGB in [-1, 1] as a clip; values outside are clamped.

    Raises:
        ValueError: the tensor holds several clips or has no 3 channels.
    """
    if video.ndim == 5 and video.shape[0] == 1:
        video = video[0]
    if video.ndim != 4 or video.shape[0] != 3:
        raise ValueError(f"a clip needs [3, T, H, W] or [1, 3, T, H, W], got {list(video.shape)}")
    levels = video.detach().float().add(1.0).mul(127.5).round().clamp(0, 255).byte()
    return Clip(levels.permute(1, 2, 3, 0).contiguous().cpu().numpy(), fps, dict(metadata or {}))
