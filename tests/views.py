"""Pictures of known motion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from diorama.media import Pixels

SIDE = 64


def texture(seed: int = 0, side: int = 160) -> torch.Tensor:
    """Return a smooth random picture ``[3, side, side]`` in levels."""
    coarse = torch.rand(1, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)[0] * 255


def view(places: Sequence[tuple[int, int]], seed: int = 0) -> Pixels:
    """Return 64 x 64 frames of a texture that has moved by so many pixels to the right and down."""
    big = texture(seed)
    cuts = [big[:, 48 - y : 48 - y + SIDE, 48 - x : 48 - x + SIDE].permute(1, 2, 0) for x, y in places]
    return torch.stack(cuts).round().byte().numpy()


def waves(right: float, down: float = 0.0, *, seed: int = 5, contrast: float = 12.0) -> Pixels:
    """Return a picture ``[64, 64, 3]`` of waves that have moved so far, by any part of a pixel."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    levels = np.full((SIDE, SIDE, 3), 128.0)
    for _ in range(16):
        (across, along), phase, color = chance.normal(0, 0.3, 2), chance.uniform(0, 6.28), chance.normal(0, contrast, 3)
        levels += np.sin(across * (x - right) + along * (y - down) + phase)[..., None] * color
    return levels.round().clip(0, 255).astype(np.uint8)
