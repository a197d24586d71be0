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

__all__ = ["Canvas", "Media", "Source", "as_clip", "grid_size", "is_file", "made_with", "open_source", "part"]

Media: TypeAlias = Clip | Path | str
"""What modes take: a clip, or the path of a video, an animation, a picture or a folder of pictures."""

_ENDINGS = (".mp4", ".webm", ".gif", ".mov", ".mkv", ".avi", ".png", ".jpg", ".jpeg", ".webp")
"""A word that ends so is a file, also one that is not there."""
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
        return frames if fps == self.fps else frames[self.order(len(frames), fps)]

    def order(self, num_frames: int, fps: float) -> list[int]:
        """Return which of ``num_frames`` frames of rate ``fps`` is on at each frame of this rate; a frame at least, if there are any."""
        if fps == self.fps or not num_frames:
            return list(range(num_frames))
        count = max(1, round(num_frames / fps * self.fps))
        return [min(num_frames - 1, int((i + 0.5) / self.fps * fps)) for i in range(count)]


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
        left, top, right, bottom = self.placement.source_box
        width, height = max(1, round(right - left)), max(1, round(bottom - top))
        return int(left), int(top), int(left) + width, int(top) + height

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

    def moments(self, canvas: Canvas | None = None) -> list[int]:
        """Return for every given frame, or for every one that stands on a canvas, the nearest frame at the model's rate."""
        count = self.clip.num_frames
        order = range(count) if canvas is None or self.is_still else canvas.order(count, self.clip.fps)
        return [min(self.num_frames - 1, round(i / self.clip.fps * self.fps)) for i in order]

    def shown(self, canvas: Canvas, first: int = 0, last: int | None = None) -> Pixels:
        """Return given frames ``[first, last)`` as they stand in what is written: untouched if size and rate are the canvas's."""
        frames = self.clip.frames[first:last]
        if (canvas.box or (0, 0, *self.placement.target)) == self.placement.target_box:
            left, top, right, bottom = self._box
            frames = resize(frames[:, top:bottom, left:right], (canvas.width, canvas.height))
        else:
            # The canvas shows another part of the model's picture than this source fills, so its padding is seen or it is cut.
            frames = canvas.sized(self.seen(frames))
        return frames if self.is_still else canvas.timed(frames, self.clip.fps)

    def seen(self, frames: Pixels) -> Pixels:
        """Return frames of the clip's size as the model sees them: ``[T, h, w, 3]`` at its size."""
        left, top, right, bottom = self._box
        # Cut to whole pixels first: what the model sees is then exactly what the canvas shows.
        fit: Fit = "pad" if self.placement.fit == "pad" else "stretch"
        return place(frames[:, top:bottom, left:right], self.placement.target, fit)[0]

    def _index(self, k: int) -> int:
        return min(self.clip.num_frames - 1, round(k / self.fps * self.clip.fps))

    def _placed(self, indices: list[int]) -> Pixels:
        return self.seen(self.clip.frames[indices])


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
        MediaError: the file cannot be read, or the fit is unknown.
        InputError: a side is below 2 pixels.
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


def is_file(subject: str) -> bool:
    """Return whether a text is the path of a file rather than a prompt: one that is there, or a word with a file's ending."""
    try:
        return Path(subject).exists() or (" " not in subject.strip() and Path(subject).suffix.lower() in _ENDINGS)
    except OSError:  # longer than any path
        return False


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
    except (ValueError, AttributeError, RecursionError):
        return ""
    return prompt if isinstance(prompt, str) else ""
