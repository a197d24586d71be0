"""A clip in memory: frames as files and screens hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diorama.errors import MediaError

__all__ = ["Audio", "Clip", "Pixels"]

Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Audio:
    """Sound that belongs to a clip."""

    samples: NDArray[np.float32]
    """``[C, N]`` in [-1, 1]: 1 or 2 channels of N samples."""
    rate: int
    """Samples a second."""


@dataclass(frozen=True)
class Clip:
    """Frames at a constant rate, with what is known about them."""

    frames: Pixels
    """``[T, H, W, 3]`` uint8, upright, square pixels, full-range sRGB."""
    fps: float
    """Frames a second."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What made it; kept inside every file format that is written."""
    audio: Audio | None = None
    """Sound, starting with the first frame."""

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise MediaError(f"a clip needs frames of shape [T, H, W, 3] in uint8 and at least one, got {list(shape)} in {self.frames.dtype}")
        if not 0 < self.fps <= 1000:
            raise MediaError(f"a clip cannot play {self.fps:g} frames a second; allowed is above 0 and at most 1000")

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return int(self.frames.shape[0])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.frames.shape[1])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.frames.shape[2])

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.num_frames / self.fps

    def save(self, path: str | Path, *, quality: int = 80) -> Path:
        """Write the clip to a file or folder chosen by the ending; see ``write.save_clip``."""
        from diorama.media.write import save_clip

        return save_clip(self, path, quality=quality)
