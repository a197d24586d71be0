"""Where a token lies in time and space, as real numbers."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from diorama.errors import InputError

__all__ = ["REFERENCE_FPS", "REFERENCE_TOKENS", "Coordinates", "positions"]

Coordinates = Literal["index", "view"]
"""``index``: whole token numbers from 0, as Wan. ``view``: time in latent frames at 12 fps, space as a share of the view."""

REFERENCE_FPS = 12.0
"""Frame rate at which neighbouring latent frames are one unit apart in ``view``."""
REFERENCE_TOKENS = 8.0
"""Side in tokens of the square grid whose neighbours are one unit apart in ``view``: 128 pixels of the default model."""


def positions(grid: tuple[int, int, int], coordinates: Coordinates = "view", *, fps: float = REFERENCE_FPS) -> Tensor:
    """Return the position of every token of a grid.

    In ``view``, space is centred and scaled by the square root of the area, so that a clip of any size and resolution
    covers the same field: a trained model sees more tokens between the same borders, not a larger world.

    Args:
        grid: Tokens ``(f, h, w)``.
        coordinates: The convention.
        fps: Frames per second of the clip; only ``view`` uses it.

    Returns:
        ``[f * h * w, 3]`` float32 of ``(t, y, x)``.

    Raises:
        InputError: ``fps`` is not above 0.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"{fps:g} frames per second have no positions in time: allowed is above 0")
    t, y, x = (torch.arange(n, dtype=torch.float64) for n in grid)
    if coordinates == "view":
        unit = REFERENCE_TOKENS / math.sqrt(grid[1] * grid[2])
        t = t * (REFERENCE_FPS / fps)
        y = (y + 0.5 - grid[1] / 2) * unit
        x = (x + 0.5 - grid[2] / 2) * unit
    return torch.stack(torch.meshgrid(t, y, x, indexing="ij"), dim=-1).reshape(-1, 3).float()
