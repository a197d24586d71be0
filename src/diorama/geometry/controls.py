"""Negative controls: what a measure of 3D consistency must fail, made from frames.

Each function takes a clip and gives one of the same shape that shows no single rigid world any more; ``negatives`` gives all five.

Source: the SysCON3D controls of mvp18/3DConsistency-metrics (outlier frame, patched region, mixture of scenes, repeated view, noise).
"""

from __future__ import annotations

import numpy as np

from diorama.errors import InputError
from diorama.media import Pixels, place

__all__ = ["CONTROLS", "bent", "mixed", "negatives", "noise", "outlier", "patched", "repeated"]

CONTROLS = ("noise", "repeated frame", "outlier frame", "patched region", "two scenes mixed")
"""Names of what ``negatives`` makes."""


def negatives(frames: Pixels, other: Pixels, seed: int = 0) -> dict[str, Pixels]:
    """Return all five controls of a clip by their names in ``CONTROLS``.

    Args:
        frames: ``[T, H, W, 3]`` uint8, at least 3 frames.
        other: Frames of another scene; any size and length.
        seed: Of the noise.

    Raises:
        InputError: there are fewer than 3 frames.
    """
    made = (noise(frames, seed), repeated(frames), outlier(frames, other), patched(frames, other), mixed(frames, other))
    return dict(zip(CONTROLS, made, strict=True))


def noise(frames: Pixels, seed: int = 0) -> Pixels:
    """Return Gaussian noise with each channel's mean and deviation over the clip; every frame is drawn anew."""
    random = np.random.default_rng(seed)
    mean, deviation = frames.mean((0, 1, 2)), frames.std((0, 1, 2))
    out = np.empty_like(frames)
    for index in range(len(frames)):
        out[index] = np.clip(random.normal(mean, deviation, frames.shape[1:]), 0, 255).round()
    return out


def repeated(frames: Pixels) -> Pixels:
    """Return the middle frame over and over."""
    return np.repeat(frames[len(frames) // 2][None], len(frames), 0)


def outlier(frames: Pixels, other: Pixels) -> Pixels:
    """Return the clip with its middle frame taken from another scene.

    Raises:
        InputError: there are fewer than 3 frames, so that none has a neighbour on both sides.
    """
    if len(frames) < 3:
        raise InputError(f"an outlier among {len(frames)} frames stands beside no other; give at least 3 frames")
    out = frames.copy()
    out[len(frames) // 2] = _like(frames, other)[len(frames) // 2]
    return out


def patched(frames: Pixels, other: Pixels) -> Pixels:
    """Return the clip with the middle quarter of its area (half the width and height) showing another scene."""
    height, width = frames.shape[1:3]
    top, left = height // 4, width // 4
    size = (width - 2 * left, height - 2 * top)
    out = frames.copy()
    out[:, top : height - top, left : width - left] = place(_of_length(other, len(frames)), size)[0]
    return out


def mixed(frames: Pixels, other: Pixels) -> Pixels:
    """Return the clip with every second frame taken from another scene."""
    out = frames.copy()
    out[1::2] = _like(frames, other)[1::2]
    return out


def bent(frames: Pixels, seed: int = 0, pixels: float = 8.0, waves: int = 2) -> Pixels:
    """Return the clip with every frame bent by its own smooth field: a scene that breathes.

    Every frame still resembles its neighbours, but no rigid world explains them all.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        seed: Of the fields.
        pixels: Deviation of the displacement, for a shorter side of 256 pixels.
        waves: Bends across the picture in each direction, at least 1.
    """
    count, height, width = frames.shape[:3]
    random = np.random.default_rng(seed)
    reach = pixels * min(height, width) / 256
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = np.empty_like(frames)
    for index in range(count):
        coarse = random.normal(0, reach, (2, waves + 2, waves + 2))
        down, right = (_stretch(field, height, width) for field in coarse)
        out[index] = _sample(frames[index], y + down, x + right)
    return out


def _like(frames: Pixels, other: Pixels) -> Pixels:
    return place(_of_length(other, len(frames)), (frames.shape[2], frames.shape[1]))[0]


def _of_length(frames: Pixels, count: int) -> Pixels:
    """Return ``count`` frames: the first ones, played forward and back again for as long as it takes."""
    period = np.concatenate([np.arange(len(frames)), np.arange(len(frames) - 2, 0, -1)])
    return frames[np.resize(period, count)]


def _stretch(field: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a coarse field as one value per pixel, interpolated with smooth steps between its nodes."""

    def places(size: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
        at = np.linspace(0, nodes - 1, size)
        low = np.minimum(at.astype(int), nodes - 2)
        part = at - low
        return low, part * part * (3 - 2 * part)

    (row, down), (column, right) = places(height, field.shape[0]), places(width, field.shape[1])
    rows = field[row] * (1 - down[:, None]) + field[row + 1] * down[:, None]
    return np.asarray(rows[:, column] * (1 - right) + rows[:, column + 1] * right)


def _sample(frame: Pixels, y: np.ndarray, x: np.ndarray) -> Pixels:
    """Return the frame read at real-valued places, bilinearly; beyond its edges they are those of the edges."""
    height, width = frame.shape[:2]
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = np.minimum(y.astype(int), max(0, height - 2)), np.minimum(x.astype(int), max(0, width - 2))
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (y - top)[..., None], (x - left)[..., None]
    upper = frame[top, left] * (1 - across) + frame[top, right] * across
    lower = frame[bottom, left] * (1 - across) + frame[bottom, right] * across
    return np.asarray((upper * (1 - down) + lower * down).round().astype(np.uint8))
