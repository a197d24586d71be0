"""Small clips with known content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diorama.media import Clip, Pixels, save_clip


def texture(seed: int, height: int, width: int) -> Pixels:
    """Return a picture with structure at several scales, ``[h, w, 3]``."""
    rng = np.random.default_rng(seed)
    out = np.zeros((height, width, 3))
    for cells in (3, 9, 27):
        grid = rng.random((cells, cells, 3))
        y, x = (np.linspace(0, cells - 1, side).round().astype(int) for side in (height, width))
        out += grid[y][:, x] * 85
    return out.clip(0, 255).astype(np.uint8)


def pan(seed: int, frames: int, *, size: tuple[int, int] = (128, 96), speed: int = 2) -> Pixels:
    """Return a camera that moves over a texture, ``[t, h, w, 3]``."""
    width, height = size
    wide = texture(seed, height, width + speed * frames)
    return np.stack([wide[:, speed * i : speed * i + width] for i in range(frames)])


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes frames once and gives the file."""
    folder = tmp_path_factory.mktemp("films")

    def write(name: str, frames: Pixels, fps: float = 24.0) -> Path:
        path = folder / name
        return path if path.exists() else save_clip(Clip(frames, fps), path)

    return write
