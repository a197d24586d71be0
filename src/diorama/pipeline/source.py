"""A given clip or picture, brought to the model's grid explicitly, and the way back to its own size and rate."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from diorama.errors import InputError
from diorama.media import Audio, Clip, Fit, Pixels, Placement, place, plan, read_clip, resize
from diorama.shapes import MAX_ASPECT, Stride

__all__ = ["Canvas", "Media", "Source", "as_clip", "grid_size", "made_with", "open_source", "part"]

Media: TypeAlias = Clip | Path | str
"""What modes take: a clip, or the path of a video, an animation, a picture or a folder of pictures."""

MAX_PICTURE_SIDE = 1920
"""A larger picture is scaled down to this before it becomes a video of its size."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Size and rate of what is written."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fps: float
    """Frames per second."""
    box: tuple[int, int, int, int] | None = None
    """Part of the model's picture that fills it: left, top, right, bottom in the model's pixels; None for all."""

    def sized(self, frames: Pixels) -> Pixels:
        """Return frames of the model's size at this size."""
        if self.box is not None:
            left, top, right, bottom = self.box
            frames = np.ascontiguousarray(frames[:, top:bottom, left:right])
        return resize(frames, (self.width, self.height))

    def timed(self, frames: Pixels, fps: float) -> Pixels:
        """Return frames of rate ``fps`` at this rate: each moment shows the frame that is on then, none is invented."""
        if fps == self.fps:
            return frames
        count = max(1, round(len(frames) / fps * self.fps))
        return frames[[min(len(frames) - 1, int((i + 0.5) / self.fps * fps)) for i in range(count)]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A given clip and how the model sees it."""

    clip: Clip
    """As given."""
    placement: Placement
    """How its frames come to the model's size."""
    fps: float
    """The model's frames per second."""

    @property
    def num_frames(self) -> int:
        """Frames at the model's rate between the first and the last."""
        return 1 + math.floor((self.clip.num_frames - 1) / self.clip.fps * self.fps + 1e-6)

    @property
    def is_still(self) -> bool:
        """Whether it is a single picture."""
        return self.clip.num_frames == 1

    @property
    def canvas(self) -> Canvas:
        """Size and rate that a video made from this is given back in: its own, less what was cropped; a still plays at the model's rate."""
        left, top, right, bottom = self._box
        fps = self.fps if self.is_still else self.clip.fps
        box = self.placement.target_box if self.placement.fit == "pad" else None
        return Canvas(width=right - left, height=bottom - top, fps=fps, box=box)

    @property
    def _box(self) -> tuple[int, int, int, int]:
        left, top, right, bottom = (round(edge) for edge in self.placement.source_box)
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def length(self, limit: int, stride: Stride) -> int:
        """Return the largest 1 + k * time that is at most ``limit`` and at most the frames there are."""
        most = min(limit, self.num_frames)
        return 1 + max(0, (most - 1) // stride.time) * stride.time

    def head(self, count: int) -> Pixels:
        """Return ``count`` frames ``[T, h, w, 3]`` at the model's size and rate, from the very first on."""
        return self._placed([self._index(k) for k in range(count)])

    def tail(self, count: int) -> Pixels:
        """Return ``count`` frames at the model's size and rate, the last of them the very last."""
        last = self.clip.num_frames - 1
        return self._placed([last - self._index(count - 1 - k) for k in range(count)])

    def whole(self, stride: Stride) -> Pixels:
        """Return all of it at the model's size and rate; the last frame is repeated up to the next 1 + k * time."""
        count = 1 + math.ceil((self.num_frames - 1) / stride.time) * stride.time
        return self.head(count)

    def moments(self) -> list[int]:
        """Return for every given frame the nearest frame at the model's rate."""
        return [min(self.num_frames - 1, round(i / self.clip.fps * self.fps)) for i in range(self.clip.num_frames)]

    def shown(self, canvas: Canvas, first: int = 0, last: int | None = None) -> Pixels:
        """Return given frames ``[first, last)`` as they stand in what is written: untouched if size and rate are the canvas's."""
        left, top, right, bottom = self._box
        frames = self.clip.frames[first:last, top:bottom, left:right]
        if (right - left, bottom - top) != (canvas.width, canvas.height):
            frames = place(frames, (canvas.width, canvas.height), "crop")[0]
        return frames if self.is_still else canvas.timed(frames, self.clip.fps)

    def _index(self, k: int) -> int:
        return min(self.clip.num_frames - 1, round(k / self.fps * self.clip.fps))

    def _placed(self, indices: list[int]) -> Pixels:
        return place(self.clip.frames[indices], self.placement.target, self.placement.fit)[0]


def grid_size(width: int, height: int, area: int, stride: Stride) -> tuple[int, int]:
    """Return the size on the grid whose shape is nearest to ``width x height`` and whose area is near ``area`` square pixels.

    Args:
        width: Of the source, pixels.
        height: Of the source, pixels.
        area: Wanted, square pixels.
        stride: The grid.
    """
    s, aspect = stride.space, min(MAX_ASPECT, max(1 / MAX_ASPECT, width / height))
    rows = math.sqrt(area / aspect) / s
    sizes = [
        (columns * s, r * s)
        for r in range(max(1, math.floor(rows * 0.7)), math.ceil(rows * 1.4) + 1)
        for columns in {max(1, math.floor(r * aspect)), max(1, math.ceil(r * aspect))}
        if max(columns / r, r / columns) <= MAX_ASPECT
    ]
    return min(sizes, key=lambda size: (3 * abs(math.log(size[0] / size[1] / aspect)) + abs(math.log(size[0] * size[1] / area)), size))


def open_source(media: Media, size: tuple[int, int], fps: float, fit: Fit) -> Source:
    """Read what was given and plan how the model sees it.

    Args:
        media: A clip, or a path.
        size: The model's width and height, pixels.
        fps: The model's frames per second.
        fit: ``crop``, ``pad`` or ``stretch``.

    Raises:
        MediaError: the file cannot be read.
        InputError: the clip is larger than can be worked on.
    """
    clip = as_clip(media)
    return Source(clip=clip, placement=plan((clip.width, clip.height), size, fit), fps=fps)


def as_clip(media: Media) -> Clip:
    """Return the clip, read with its sound if a path was given; a picture above 1920 pixels is scaled down.

    Raises:
        MediaError: the file cannot be read.
        InputError: a side is below 2 pixels.
    """
    clip = media if isinstance(media, Clip) else read_clip(media, audio=True)
    if min(clip.width, clip.height) < 2:
        raise InputError(f"a clip of {clip.width}x{clip.height} pixels is too small to work on; both sides must be at least 2")
    longest = max(clip.width, clip.height)
    if clip.num_frames > 1 or longest <= MAX_PICTURE_SIDE:
        return clip
    size = (max(2, round(clip.width * MAX_PICTURE_SIDE / longest)), max(2, round(clip.height * MAX_PICTURE_SIDE / longest)))
    return Clip(resize(clip.frames, size), clip.fps, clip.metadata)


def part(clip: Clip, first: int, last: int) -> Clip:
    """Return frames ``[first, last)`` of a clip with their sound."""
    audio = clip.audio
    if audio is not None:
        begin, end = round(first / clip.fps * audio.rate), round(last / clip.fps * audio.rate)
        audio = Audio(samples=audio.samples[:, begin:end], rate=audio.rate) if audio.samples.shape[1] > begin else None
    return Clip(clip.frames[first:last], clip.fps, clip.metadata, audio)


def made_with(clip: Clip) -> str:
    """Return the prompt that a clip was generated with, empty if it was not generated here."""
    try:
        prompt = json.loads(clip.metadata.get("diorama", "{}")).get("prompt", "")
    except (ValueError, AttributeError):
        return ""
    return prompt if isinstance(prompt, str) else ""
