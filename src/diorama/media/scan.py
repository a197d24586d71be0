"""Every frame of a file once, small: for programs that look at whole libraries.

Full-size RGB costs more than decoding; a scan scales while it converts, and gives only now and then a larger frame and a piece of the
full-resolution luma for measures that need detail. Memory is that of a few frames, whatever the length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diorama.errors import MediaError
from diorama.media.clip import Pixels
from diorama.media.codec import HD_HEIGHT, UNTAGGED, each_frame, libav
from diorama.media.probe import kind_of, opened
from diorama.media.read import iter_frames
from diorama.media.resize import resize

__all__ = ["Luma", "ScanSizes", "ScannedFrame", "scaled_size", "scan"]

Luma: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ScanSizes:
    """How much of each frame a scan gives."""

    small: int = 128
    """Longer side of every frame, pixels."""
    medium: int = 256
    """Longer side of the frames sampled in time, pixels."""
    detail: int = 256
    """Side of the full-resolution piece cut from the middle of sampled frames, pixels."""
    every: float = 0.5
    """Seconds between sampled frames."""

    def __post_init__(self) -> None:
        if min(self.small, self.medium, self.detail) < 8 or not self.every >= 0:
            raise MediaError(
                f"a scan of {self.small}, {self.medium} and {self.detail} pixels every {self.every:g} s is not possible; "
                "sizes must be 8 or more, the step 0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class ScannedFrame:
    """One frame of a scan, upright and with square pixels."""

    index: int
    """Number in the file, from 0."""
    time: float
    """Seconds since the file's first frame."""
    small: Pixels
    """``[h, w, 3]`` uint8."""
    medium: Pixels | None
    """``[h, w, 3]`` uint8 of a sampled frame, else None."""
    detail: Luma | None
    """``[y, x]`` uint8 luma from the middle of a sampled frame at full resolution, as stored and not turned; else None."""


def scaled_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return (width, height) brought down so that the longer side is at most ``longest``; never 0, never enlarged."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def scan(path: str | Path, sizes: ScanSizes | None = None, *, threads: int | None = None) -> Iterator[ScannedFrame]:
    """Yield every frame of a video, an animation or a picture.

    Args:
        path: The file.
        sizes: How large.
        threads: Decoder threads; the library's choice if None.

    Raises:
        MediaError: the file is missing, empty, truncated, damaged, no media file or without pictures; frames before the damage are
            yielded first.
    """
    path, sizes = Path(path), sizes or ScanSizes()
    if kind_of(path) == "video":
        with opened(path) as container:
            yield from _scan_video(container, str(path), sizes, threads)
        return
    sample = 0.0
    for index, frame in enumerate(iter_frames(path)):
        full = (frame.pixels.shape[1], frame.pixels.shape[0])
        small = resize(frame.pixels[None], scaled_size(full, sizes.small))[0]
        if frame.time < sample - 1e-6:
            yield ScannedFrame(index=index, time=frame.time, small=small, medium=None, detail=None)
            continue
        sample = _next_sample(sample, frame.time, sizes.every)
        medium = resize(frame.pixels[None], scaled_size(full, sizes.medium))[0]
        luma = (frame.pixels @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
        yield ScannedFrame(index=index, time=frame.time, small=small, medium=medium, detail=_middle(luma, sizes.detail))


def _next_sample(due: float, time: float, every: float) -> float:
    """Return the next moment after ``time`` on the grid of samples; a gap in the video does not shift the grid."""
    return due + every * (math.floor((time + 1e-6 - due) / every) + 1) if every else time


def _scan_video(container: Any, name: str, sizes: ScanSizes, threads: int | None) -> Iterator[ScannedFrame]:
    reduce = {size: libav().video.reformatter.VideoReformatter() for size in (sizes.small, sizes.medium)}
    numbers, sample = itertools.count(), 0.0

    def take(frame: Any, time: float, aspect: float) -> ScannedFrame:
        nonlocal sample
        medium, detail = None, None
        if time >= sample - 1e-6:
            sample = _next_sample(sample, time, sizes.every)
            medium = _scaled(frame, aspect, sizes.medium, reduce[sizes.medium])
            detail = _middle(_luma(frame), sizes.detail)
        small = _scaled(frame, aspect, sizes.small, reduce[sizes.small])
        return ScannedFrame(index=next(numbers), time=time, small=small, medium=medium, detail=detail)

    return each_frame(container, name, take, threads=threads)


def _scaled(frame: Any, aspect: float, longest: int, reformatter: Any) -> Pixels:
    shown = round(frame.width * max(1.0, aspect)), round(frame.height * max(1.0, 1 / aspect))
    width, height = scaled_size(shown, longest)
    how: dict[str, Any] = {"width": width, "height": height, "format": "rgb24", "interpolation": "AREA", "threads": 1}
    if frame.colorspace == UNTAGGED and frame.height >= HD_HEIGHT:
        how["src_colorspace"] = "ITU709"
    pixels: Pixels = reformatter.reformat(frame, **how).to_ndarray()
    turns = math.floor(frame.rotation / 90 + 0.5) % 4  # counter-clockwise quarter turns
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _luma(frame: Any) -> Luma:
    """Return the luma plane ``[H, W]``: a view where it is stored as bytes, converted else."""
    if frame.format.name.startswith(("yuv4", "yuvj4", "nv12", "gray")) and frame.format.components[0].bits == 8:
        plane = frame.planes[0]
        return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    gray: Luma = frame.to_ndarray(format="gray")
    return gray


def _middle(luma: Luma, side: int) -> Luma:
    """Return a copy of the middle, at most ``side`` on each side."""
    height, width = luma.shape
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return luma[top : top + side, left : left + side].copy()
