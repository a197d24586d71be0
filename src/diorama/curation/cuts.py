"""Where shots begin and end, found while the frames pass by once.

Hard cuts come from PySceneDetect's adaptive detector on small frames, confirmed by looking whether the picture before could have moved
into the one after; what that detector misses amid fast motion is found by the same look. Runs of even frames (black, white) become
gaps, and the fades that lead into them are trimmed off the shots. A shot is held as samples, never as frames, and one that goes on is
divided, so that memory does not grow with the length of a film.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diorama.errors import ConfigError, MissingExtraError
from diorama.media import Pixels
from diorama.media.scan import Luma, ScannedFrame

__all__ = ["CutConfig", "Frame", "Shot", "cv2_library", "shots", "trim_fades"]

_AHEAD = 3  # frames that are seen before one is decided
_BAR = 24  # luma up to which a row or column counts as a black bar
_EVEN = 16  # range of luma within which a blurred frame is even
_SAME = 0.95  # correlation above which two frames show the same under another light
_BLACK = 32  # mean luma up to which an even frame is black


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    """How shots are told apart."""

    adaptive_threshold: float = 3.0
    """PySceneDetect's: change of a frame over the change of its neighbours."""
    min_content: float = 15.0
    """PySceneDetect's: least change of colour, 0 to 255."""
    max_seconds: float = 20.0
    """Longer shots are divided."""
    min_seconds: float = 1.0
    """A shot is not divided so that less is left."""
    max_still: float = 3.0
    """A stretch in which nothing moves becomes a piece of its own if it lasts longer, seconds."""

    def __post_init__(self) -> None:
        if not (self.adaptive_threshold > 1 and self.min_content > 0 and self.max_seconds > self.min_seconds > 0 and self.max_still > 0):
            raise ConfigError(
                f"cuts with adaptive_threshold {self.adaptive_threshold:g}, min_content {self.min_content:g}, max_seconds {self.max_seconds:g}, "
                f"min_seconds {self.min_seconds:g}, max_still {self.max_still:g} are not possible; thresholds above 1 and 0, max_seconds above "
                "min_seconds above 0, and max_still above 0"
            )


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What is kept of a frame that has passed."""

    index: int
    time: float
    gray: Luma
    """``[h, w]`` small luma."""
    mean: float
    """Of the luma, 0 to 255."""
    even: bool
    """Whether it is one colour outside black bars."""
    change: float
    """Mean absolute change of luma against the frame before."""
    medium: Pixels | None
    detail: Luma | None


@dataclass(kw_only=True)
class Shot:
    """A run of frames that belong together, or a gap of even frames."""

    first: int
    """Number of its first frame."""
    times: list[float] = field(default_factory=list)
    """Seconds of every frame."""
    means: list[float] = field(default_factory=list)
    """Mean luma of every frame, 0 to 255."""
    medium: list[Pixels] = field(default_factory=list)
    """Sampled frames ``[h, w, 3]``."""
    detail: list[Luma] = field(default_factory=list)
    """Middles of the sampled frames at full resolution, ``[y, x]``."""
    sampled: list[int] = field(default_factory=list)
    """Numbers of the sampled frames, counted from the first of the shot."""
    steps: list[Luma] = field(default_factory=list)
    """``[3, h, w]`` small luma of each sampled frame and the two after it; fewer at the end."""
    gap: bool = False
    fade: bool = False
    """Whether it is a fade that was trimmed off a shot."""
    begins: str = "start"
    ends: str = "end"
    end_time: float = 0.0
    """Seconds at which its last frame ends."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.times)

    @property
    def black(self) -> bool:
        """Whether a gap is black, else it is of another even colour."""
        return float(np.mean(self.means)) <= _BLACK

    def part(self, start: int, stop: int, end_time: float, begins: str, ends: str) -> Shot:
        """Return frames ``start`` to ``stop`` of it as a shot."""
        chosen = [i for i, number in enumerate(self.sampled) if start <= number < stop]
        return Shot(
            first=self.first + start,
            times=self.times[start:stop],
            means=self.means[start:stop],
            medium=[self.medium[i] for i in chosen],
            detail=[self.detail[i] for i in chosen],
            sampled=[self.sampled[i] - start for i in chosen],
            steps=[self.steps[i] for i in chosen],
            gap=self.gap,
            begins=begins,
            ends=ends,
            end_time=end_time,
        )


def cv2_library() -> Any:
    """Return OpenCV.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("opencv-python-headless", "curation", "curating a folder") from error
    return cv2


def _look(cv2: Any, frame: ScannedFrame, before: Frame | None) -> Frame:
    gray: Luma = cv2.cvtColor(frame.small, cv2.COLOR_RGB2GRAY)
    inside = gray
    if cv2.minMaxLoc(gray)[0] <= _BAR:
        inside = gray[gray.max(axis=1) > _BAR][:, gray.max(axis=0) > _BAR]
    if inside.shape != gray.shape:
        inside = inside[1:-1, 1:-1]  # the rim of a bar is mixed with the picture
    if inside.size:
        darkest, brightest, _, _ = cv2.minMaxLoc(cv2.blur(inside, (3, 3)))
        even = brightest - darkest <= _EVEN
    else:
        even = True
    change = cv2.norm(gray, before.gray, cv2.NORM_L1) / gray.size if before is not None and before.gray.shape == gray.shape else 0.0
    return Frame(
        index=frame.index, time=frame.time, gray=gray, mean=cv2.mean(gray)[0], even=even, change=change, medium=frame.medium, detail=frame.detail
    )


class _Detector:
    """PySceneDetect's adaptive detector with a second look at what it says."""

    def __init__(self, config: CutConfig) -> None:
        try:
            from scenedetect import FrameTimecode
            from scenedetect.detectors import AdaptiveDetector
        except ImportError as error:
            raise MissingExtraError("scenedetect-headless", "curation", "finding cuts") from error
        self._cv2 = cv2_library()
        self._timecode = FrameTimecode
        self._make: Any = partial(AdaptiveDetector, adaptive_threshold=config.adaptive_threshold, min_content_val=config.min_content, min_scene_len=1)
        self._detector, self._shape = self._make(), (0, 0)
        self._flow = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._said: set[int] = set()

    def see(self, number: int, small: Pixels) -> None:
        """Take the next frame; the detector begins anew where frames change their size."""
        if small.shape[:2] != self._shape:
            self._detector, self._shape = self._make(), small.shape[:2]
        half = small if min(small.shape[:2]) < 32 else self._cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=self._cv2.INTER_AREA)
        self._said.update(cut.frame_num for cut in self._detector.process_frame(self._timecode(number, fps=25.0), half))

    def is_cut(self, near: list[Frame], at: int) -> bool:
        """Return whether frame ``at`` of ``near`` begins a shot."""
        frame, before = near[at], near[at - 1]
        said = frame.index in self._said
        self._said.discard(frame.index)
        if frame.gray.shape != before.gray.shape:
            return True
        others = [near[i].change for i in (at - 1, at + 1) if 0 <= i < len(near) and near[i].change]
        sudden = frame.change >= 20 and frame.change >= 1.8 * max(others, default=0.0)
        if not (said or sudden) or _correlation(before.gray, frame.gray) >= _SAME:
            return False
        if any(near[i].gray.shape == before.gray.shape and _correlation(before.gray, near[i].gray) >= _SAME for i in range(at + 1, len(near))):
            return False  # a flash: what was there before is there again
        if said:
            return True
        left = [self._unexplained(near[i - 1].gray, near[i].gray) for i in range(max(1, at - 1), min(len(near), at + 2))]
        here = left[min(1, at - 1)]
        return here >= 12 and here >= 2 * max(value for i, value in enumerate(left) if i != min(1, at - 1))

    def _unexplained(self, before: Luma, after: Luma) -> float:
        """Return the change of luma that no motion of the frame before explains."""
        if before.shape != after.shape:
            return 255.0
        flow = self._flow.calc(after, before, None)
        grid = np.stack(np.meshgrid(np.arange(after.shape[1]), np.arange(after.shape[0])), -1).astype(np.float32)
        moved = self._cv2.remap(before, grid + flow, None, self._cv2.INTER_LINEAR)
        return float(self._cv2.absdiff(after, moved).mean())


def _correlation(a: Luma, b: Luma) -> float:
    x, y = a.astype(np.float32) - a.mean(), b.astype(np.float32) - b.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / norm if norm > a.size else 0.0  # below one level of deviation there is no structure to compare


def shots(frames: Iterable[ScannedFrame], config: CutConfig, *, gap: float) -> Iterator[Shot]:
    """Yield the shots and gaps of a video in order; together they hold every frame.

    Args:
        frames: The frames, each looked at once.
        config: How.
        gap: Seconds from the last frame to the end of the video.
    """
    detector, near, current = _Detector(config), deque[Frame](maxlen=_AHEAD + 3), None
    decided, before, settled = 0, None, 0

    def settle(shot: Shot | None, at: int) -> tuple[Shot | None, list[Shot]]:
        nonlocal settled
        frame, frames_near = near[at], list(near)
        new = shot is None or frame.even != shot.gap or (not frame.even and at > 0 and detector.is_cut(frames_near, at))
        finished: list[Shot] = []
        if new:
            how = "start" if shot is None else "fade" if frame.even or shot.gap else "cut"
            if shot is not None:
                shot.ends, shot.end_time = how, frame.time
                finished.append(shot)
            shot = Shot(first=frame.index, gap=frame.even, begins=how)
        assert shot is not None
        _append(shot, frames_near[at:])
        settled += 1
        if frame.time - shot.times[0] >= config.max_seconds + config.min_seconds:
            at_limit = next(i for i, time in enumerate(shot.times) if time - shot.times[0] >= config.max_seconds)
            finished.append(shot.part(0, at_limit, shot.times[at_limit], shot.begins, "limit"))
            shot = shot.part(at_limit, shot.num_frames, 0.0, "limit", "end")
        return shot, finished

    cv2 = cv2_library()
    for frame in frames:
        before = _look(cv2, frame, before)
        detector.see(frame.index, frame.small)
        near.append(before)
        decided += 1
        if decided - settled > _AHEAD:
            current, finished = settle(current, len(near) - 1 - _AHEAD)
            yield from finished
    while settled < decided:
        current, finished = settle(current, len(near) - (decided - settled))
        yield from finished
    if current is not None:
        current.end_time = current.times[-1] + gap
        yield current


def _append(shot: Shot, following: list[Frame]) -> None:
    frame = following[0]
    if frame.medium is not None and frame.detail is not None:
        shot.sampled.append(shot.num_frames)
        shot.medium.append(frame.medium)
        shot.detail.append(frame.detail)
        shot.steps.append(np.stack([near.gray for near in following[:3] if near.gray.shape == frame.gray.shape]))
    shot.times.append(frame.time)
    shot.means.append(frame.mean)


def trim_fades(shot: Shot, *, longest: float = 3.0) -> list[Shot]:
    """Return a shot without the fades at its ends, and the fades as shots of their own, in order.

    Args:
        shot: A shot that begins or ends at a gap.
        longest: Fades are followed this far, seconds.
    """
    means, times = np.array(shot.means), np.array([*shot.times, shot.end_time])
    count = len(means)
    head = _fade_length(means, times, longest) if shot.begins == "fade" else 0
    tail = _fade_length(means[::-1], times[-1] - times[::-1], longest) if shot.ends == "fade" else 0
    if head + tail >= count:
        return [shot]
    edges = [0, head, count - tail, count]
    names = [shot.begins, "fade" if head else shot.begins, "fade" if tail else shot.ends, shot.ends]
    parts = []
    for i, (a, b) in enumerate(pairwise(edges)):
        if b > a:
            part = shot.part(a, b, float(times[b]), names[i], names[i + 1])
            part.fade = i != 1
            parts.append(part)
    return parts


def _fade_length(means: NDArray[np.float64], times: NDArray[np.float64], longest: float) -> int:
    """Return how many frames at the beginning lead from an even colour to the brightness that the shot has then."""
    limit = int(np.searchsorted(times[1:] - times[0], longest, side="right"))
    level = float(np.median(means))
    start = float(means[0])
    from_dark, from_bright = start <= 0.4 * level, start >= level + 0.6 * (255 - level)
    if limit < 2 or abs(level - start) < 6 or not (from_dark or from_bright):
        return 0
    progress = (means[:limit] - start) / (level - start)
    done = np.flatnonzero(progress >= 0.85)
    if not len(done):
        return 0
    length = int(done[0])
    steady = np.diff(progress[: length + 1])
    return length if length >= 2 and float((steady > -0.02).mean()) >= 0.8 else 0
