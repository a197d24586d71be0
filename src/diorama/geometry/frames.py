"""Any video to the frames that reconstruction is given: spread over the camera's motion, sharp, without black bars, of a sensible size.

The video is read twice, a frame at a time, so memory does not grow with its length: once to see how the picture moves and how sharp it
is, once to keep the chosen frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from diorama.errors import InputError, MissingExtraError
from diorama.geometry.cameras import Floats
from diorama.media import Pixels, TimedFrame, iter_frames, probe, resize

__all__ = ["MAX_SECONDS", "MIN_FRAMES", "NUM_FRAMES", "Footage", "footage_of", "opencv", "read_footage"]

NUM_FRAMES = 48
MIN_FRAMES = 3
MAX_SECONDS = 60.0
"""Longer videos need a part named: frames further apart than this over ``NUM_FRAMES`` rarely show the same things."""
MAX_CANDIDATES = 480
MAX_AREA = 854 * 480
"""Pixels of a frame: larger ones are brought down to it."""
GLANCE = 160
"""Longer side in pixels at which motion is seen."""
DARK = 20
"""Grey level up to which a border that never brightens is a bar."""


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Frames chosen from a video."""

    frames: Pixels
    """``[T, H, W, 3]`` uint8."""
    times: Floats
    """``[T]`` seconds since the video's first frame."""
    numbers: tuple[int, ...]
    """Which frames of the video they are, counted from 0 at the start of the part that was read."""
    num_source: int
    """Frames in the part that was read."""
    motion: Floats
    """``[T]`` how far the picture moved since the chosen frame before, as a share of its diagonal; 0 for the first."""
    bars: tuple[int, int, int, int]
    """Black bars cut away: left, top, right, bottom, source pixels."""


def opencv() -> ModuleType:
    """Return OpenCV.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("opencv-python-headless", "geometry", "measuring geometry") from error
    module: ModuleType = cv2
    return module


def read_footage(
    path: str | Path,
    *,
    num_frames: int = NUM_FRAMES,
    start: float = 0.0,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Footage:
    """Choose frames from a video file.

    A part with up to a quarter more frames than wanted is taken whole.

    Args:
        path: Video, animation or folder of PNG pictures.
        num_frames: How many frames to choose, 3 to 480.
        start: Seconds to skip.
        seconds: How much to read from there; None reads to the end, which may be at most ``MAX_SECONDS`` away.
        progress: Called with frames read and frames expected, over both readings.

    Returns:
        The chosen frames in order, of at most ``MAX_AREA`` pixels.

    Raises:
        MediaError: the file cannot be read.
        InputError: the part has fewer than 3 frames or is longer than allowed.
    """
    if not MIN_FRAMES <= num_frames <= MAX_CANDIDATES:
        raise InputError(f"{num_frames} frames cannot be chosen; allowed is {MIN_FRAMES} to {MAX_CANDIDATES}")
    if seconds is not None and not 0 < seconds <= 3600:
        raise InputError(f"a part of {seconds:g} seconds cannot be read; allowed is above 0 and at most 3600")
    info = probe(path)
    length = info.seconds - start
    if seconds is None and length > MAX_SECONDS:
        raise InputError(
            f"{path} has {length:.0f} seconds, more than {MAX_SECONDS:.0f}: {num_frames} frames of it would hardly overlap; "
            "name the part to measure by its start and seconds, 5 to 30 of them without a cut"
        )
    expected = max(1, round(min(length, seconds or length) * info.fps))
    stride = max(1, expected // MAX_CANDIDATES)

    def reading(done: int) -> Iterator[tuple[int, TimedFrame]]:
        for index, frame in enumerate(iter_frames(path, start=start)):
            if seconds is not None and frame.time - start >= seconds - 0.5 / info.fps:
                return
            if progress is not None:
                progress(min(done + index + 1, 2 * expected), 2 * expected)
            yield index, frame

    glance, count = _Glance(), 0
    for index, frame in reading(0):
        count = index + 1
        if index % stride == 0:
            glance.see(index, frame)
    if count < MIN_FRAMES:
        raise InputError(f"{path} has {count} frame{'s' * (count != 1)} from {start:g} s on; 3D needs at least {MIN_FRAMES} of a moving camera")
    return _collect(reading(expected), glance, num_frames, count)


def footage_of(frames: Pixels, fps: float = 12.0, *, num_frames: int = NUM_FRAMES) -> Footage:
    """Choose frames from a clip in memory as ``read_footage`` does from a file.

    Args:
        frames: ``[T, H, W, 3]`` uint8, at least 3 frames.
        fps: Frames a second.
        num_frames: How many frames to choose.

    Raises:
        InputError: there are fewer than 3 frames.
    """
    if len(frames) < MIN_FRAMES:
        raise InputError(f"the clip has {len(frames)} frame{'s' * (len(frames) != 1)}; 3D needs at least {MIN_FRAMES} of a moving camera")
    glance, stride = _Glance(), max(1, len(frames) // MAX_CANDIDATES)
    timed = [TimedFrame(time=index / fps, pixels=pixels) for index, pixels in enumerate(frames)]
    for index in range(0, len(frames), stride):
        glance.see(index, timed[index])
    return _collect(enumerate(timed), glance, num_frames, len(frames))


def _collect(reading: Iterable[tuple[int, TimedFrame]], glance: _Glance, num_frames: int, num_source: int) -> Footage:
    """Keep the chosen frames of a second reading."""
    chosen = choose(glance.motion, glance.sharpness, num_frames)
    numbers, bars = [glance.numbers[i] for i in chosen], glance.bars()
    wanted, kept, times = set(numbers), [], []
    for index, frame in reading:
        if index in wanted:
            kept.append(_fit(frame.pixels, bars))
            times.append(frame.time)
        if index >= numbers[-1]:
            break
    if any(pixels.shape != kept[0].shape for pixels in kept):
        raise InputError(f"the video changes its picture size on the way, from {kept[0].shape[1]}x{kept[0].shape[0]} pixels; give a part of one size")
    moved = np.cumsum([0.0, *glance.motion[1:]])[chosen]
    return Footage(
        frames=np.stack(kept),
        times=np.asarray(times),
        numbers=tuple(numbers),
        num_source=num_source,
        motion=np.diff(moved, prepend=moved[0]),
        bars=bars,
    )


def choose(motion: list[float], sharpness: list[float], num_frames: int) -> list[int]:
    """Return which frames to take: evenly spread over the motion, each the sharpest near its place.

    Progress is three quarters motion and one quarter time, so that a camera that waits is still seen; a jump counts as three of the
    usual steps at most, so that a cut does not swallow the clip.

    Args:
        motion: Of each frame since the one before, any unit.
        sharpness: Of each frame, any unit.
        num_frames: How many are wanted.

    Returns:
        Increasing numbers; at most ``num_frames``, or all of up to a quarter more.
    """
    count = len(motion)
    if count <= num_frames * 1.25:
        return list(range(count))
    steps = np.asarray(motion[1:])
    usual = float(np.mean(steps[steps > 0])) if (steps > 0).any() else 1.0
    steps = np.minimum(steps, 3 * usual)
    time = np.arange(count) / (count - 1)
    moved = np.concatenate([[0.0], np.cumsum(steps)])
    progress = 0.75 * moved / moved[-1] + 0.25 * time if moved[-1] > 0 else time
    half = 0.5 / (num_frames - 1)
    sharp = np.asarray(sharpness)
    chosen: list[int] = []
    for place in np.linspace(0, 1, num_frames):
        distance = np.abs(progress - place) / half
        near = np.flatnonzero(distance <= 1)
        if not len(near):
            near = np.array([int(distance.argmin())])
        # sharpness is compared with its neighbours only: what the camera looks at changes it more than blur does
        score = sharp[near] / (sharp[near].max() or 1.0) - 0.3 * distance[near]
        best = int(near[score.argmax()])
        if not chosen or best > chosen[-1]:
            chosen.append(best)
    return chosen


class _Glance:
    """What is remembered of each frame of the first reading: a few numbers, and the brightest that each pixel ever was."""

    def __init__(self) -> None:
        cv2 = opencv()
        self.numbers: list[int] = []
        self.motion: list[float] = []
        self.sharpness: list[float] = []
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: Pixels | None = None
        self._brightest: Pixels | None = None

    def see(self, number: int, frame: TimedFrame) -> None:
        """Take in one frame."""
        cv2 = opencv()
        grey = cv2.cvtColor(np.ascontiguousarray(frame.pixels), cv2.COLOR_RGB2GRAY)
        scale = GLANCE / max(grey.shape)
        small = cv2.resize(grey, (max(16, round(grey.shape[1] * scale)), max(16, round(grey.shape[0] * scale))), interpolation=cv2.INTER_AREA)
        step = 0.0
        if self._before is not None:
            flow = self._flow.calc(self._before, small, None)
            step = float(np.median(np.hypot(flow[..., 0], flow[..., 1]))) / math.hypot(*small.shape)
        middle = cv2.resize(grey, None, fx=min(1.0, 3 * scale), fy=min(1.0, 3 * scale), interpolation=cv2.INTER_AREA)
        self.numbers.append(number)
        self.motion.append(step)
        self.sharpness.append(float(cv2.Laplacian(middle, cv2.CV_32F).var()))
        self._before = small
        if self._brightest is None:
            self._brightest = grey
        elif self._brightest.shape == grey.shape:
            np.maximum(self._brightest, grey, out=self._brightest)

    def bars(self) -> tuple[int, int, int, int]:
        """Return the width of borders that stayed black throughout: left, top, right, bottom, pixels."""
        if self._brightest is None or self._brightest.max() <= DARK:
            return 0, 0, 0, 0
        widths = []
        for lines in (self._brightest.T, self._brightest):
            bright = np.percentile(lines, 98, axis=1) > DARK
            first, last = int(bright.argmax()), int(bright[::-1].argmax())
            # a bar fades into the picture over a pixel or two
            widths.append(tuple(edge + 2 if 0 < edge < 0.3 * len(bright) else 0 for edge in (first, last)))
        (left, right), (top, bottom) = widths
        return left, top, right, bottom


def _fit(pixels: Pixels, bars: tuple[int, int, int, int]) -> Pixels:
    """Return a frame without its bars, of at most ``MAX_AREA`` pixels."""
    left, top, right, bottom = bars
    pixels = pixels[top : pixels.shape[0] - bottom, left : pixels.shape[1] - right]
    height, width = pixels.shape[:2]
    scale = math.sqrt(MAX_AREA / (width * height))
    if scale >= 1:
        return pixels
    return np.asarray(resize(pixels[None], (round(width * scale), round(height * scale)))[0], dtype=np.uint8)
