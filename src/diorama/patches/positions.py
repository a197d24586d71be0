"""Where a token lies in time and space, as real numbers."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from diorama.errors import InputError

__all__ = ["NUM_PLACE_FEATURES", "REFERENCE_FPS", "REFERENCE_TOKENS", "Coordinates", "places", "positions"]

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


_WAVES, _TIME_WAVES = 6, 3
NUM_PLACE_FEATURES = 2 * _WAVES + 3 + _TIME_WAVES + 1
"""Width of ``places``."""


def places(grid: tuple[int, int, int], *, begins: bool = True) -> Tensor:
    """Return where in the picture and when in the clip every token is, in absolute terms, and whether its frame is the first of a clip.

    Rotary positions tell tokens only how far apart they are. A small model learns much sooner where sky and floor belong if it is told,
    and which way time runs: without that, a turn to the left and one to the right, played backwards, are the same to it in deep noise.
    And the first latent frame of a clip codes one frame where later ones code several: a window that begins in mid-clip must say so.

    Args:
        grid: Tokens ``(f, h, w)``.
        begins: Whether the first of the frames is the first of a clip.

    Returns:
        ``[f * h * w, NUM_PLACE_FEATURES]`` float32: cosines of the share of height and of width, the distances from the middle as in
        ``view`` divided by 4, 1 in the first frame of a clip, cosines of the share of time, and the frames from its middle divided by 4.
    """
    f, h, w = grid
    unit = REFERENCE_TOKENS / math.sqrt(h * w) / 4
    waves = math.pi * torch.arange(1, _WAVES + 1, dtype=torch.float64)
    rows, columns = ((torch.arange(n, dtype=torch.float64) + 0.5)[:, None] for n in (h, w))
    down = torch.cat([(waves * rows / h).cos(), (rows - h / 2) * unit], dim=1)
    across = torch.cat([(waves * columns / w).cos(), (columns - w / 2) * unit], dim=1)
    plane = torch.cat([down[:, None].expand(-1, w, -1), across[None].expand(h, -1, -1)], dim=2).flatten(0, 1)
    first = torch.zeros(f, 1, dtype=torch.float64)
    first[0] = float(begins)
    frames = (torch.arange(f, dtype=torch.float64) + 0.5)[:, None]
    when = torch.cat([first, (waves[:_TIME_WAVES] * frames / f).cos(), (frames - f / 2) / 4], dim=1)
    return torch.cat([plane.expand(f, -1, -1), when[:, None].expand(-1, h * w, -1)], dim=2).flatten(0, 1).float()
