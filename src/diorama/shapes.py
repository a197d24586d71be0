"""Pixel, latent and time arithmetic, in one place.

A clip has ``1 + k * time`` frames; its latent has ``1 + k`` frames and is ``space`` times smaller on both sides.
Sizes are checked, never rounded in silence.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from diorama.errors import InputError

__all__ = ["MAX_ASPECT", "MAX_SECONDS", "Stride", "VideoShape", "num_frames_for", "parse_size"]

MAX_ASPECT = 3.0
MAX_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Stride:
    """How many pixels and frames one latent cell covers."""

    time: int = 4
    """Frames per latent frame after the first."""
    space: int = 16
    """Pixels per latent cell, on both sides; sizes must be multiples of it."""


@dataclass(frozen=True, kw_only=True)
class VideoShape:
    """Size of a clip in frames and pixels."""

    num_frames: int
    """Frames, at least 1."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""

    def check(self, stride: Stride) -> VideoShape:
        """Return self if the clip is on the grid of ``stride``.

        Raises:
            InputError: a side is not a positive multiple of ``stride.space``, the aspect ratio is outside 1:3 to
                3:1, or the number of frames is not ``1 + k * stride.time``.
        """
        s = stride.space
        if min(self.width, self.height) < s or self.width % s or self.height % s:
            near = "x".join(str(max(s, round(side / s) * s)) for side in (self.width, self.height))
            raise InputError(
                f"size {self.width}x{self.height} is off the grid: width and height must be multiples of {s}; the nearest size is {near}"
            )
        aspect = max(self.width / self.height, self.height / self.width)
        if aspect > MAX_ASPECT:
            raise InputError(
                f"size {self.width}x{self.height} has an aspect ratio of {aspect:.2f}:1; allowed is 3:1 to 1:3, so make the longer side shorter"
            )
        if self.num_frames < 1 or (self.num_frames - 1) % stride.time:
            near_frames = 1 + max(0, round((self.num_frames - 1) / stride.time)) * stride.time
            raise InputError(
                f"{self.num_frames} frames do not fit the latent grid: allowed is 1 + a multiple of {stride.time}; "
                f"the nearest number is {near_frames}"
            )
        return self

    def latent(self, stride: Stride) -> tuple[int, int, int]:
        """Return latent ``(frames, height, width)`` of a checked shape."""
        return 1 + (self.num_frames - 1) // stride.time, self.height // stride.space, self.width // stride.space


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``"1280x720"`` into ``(width, height)`` in pixels.

    Raises:
        InputError: the text is not two whole numbers joined by an x.
    """
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX×]\s*(\d{1,6})\s*", text)
    if match is None:
        raise InputError(f"size '{text}' is not understood: write width x height in pixels, for example 176x96")
    return int(match[1]), int(match[2])


def num_frames_for(seconds: float, fps: float, stride: Stride) -> int:
    """Return the largest number of frames on the grid that plays for at most ``seconds`` plus half a latent frame.

    Args:
        seconds: Duration, above 0 and at most ``MAX_SECONDS``.
        fps: Frames per second, above 0 and at most 120.
        stride: The grid.

    Raises:
        InputError: a value is outside its range.
    """
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise InputError(f"{seconds:g} seconds cannot be made: allowed is above 0 and at most {MAX_SECONDS:g}")
    if not (math.isfinite(fps) and 0 < fps <= 120):
        raise InputError(f"{fps:g} frames per second cannot be made: allowed is above 0 and at most 120")
    return 1 + max(0, round((seconds * fps - 1) / stride.time)) * stride.time
