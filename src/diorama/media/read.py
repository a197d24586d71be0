"""Files to clips: upright, square pixels, constant rate, opaque.

``iter_frames`` streams in the memory of a few frames; ``read_clip`` gives a whole clip and refuses what does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from diorama.errors import MediaError
from diorama.media.clip import Audio, Clip, Pixels
from diorama.media.codec import TimedFrame, decode, libav
from diorama.media.probe import delays_of, folder_fps, kind_of, opened, pictures_of, probe, read_metadata
from diorama.media.resize import Fit, place

__all__ = ["iter_frames", "read_clip"]

CHECK_BYTES = 2**30  # a smaller clip is read without asking how much memory is free


def iter_frames(
    path: str | Path, *, start: float = 0.0, fps: float | None = None, background: tuple[int, int, int] = (0, 0, 0)
) -> Iterator[TimedFrame]:
    """Yield frames one at a time, in bounded memory.

    Args:
        path: Video, animation, picture or folder of PNG pictures.
        start: Seconds to skip.
        fps: Bring the frames to this constant rate: each moment shows the newest frame so far. None keeps the file's own times.
        background: RGB, 0 to 255, behind transparent parts.

    Yields:
        Frames with ``time`` in seconds since the file's first frame, or since ``start`` when ``fps`` is given.

    Raises:
        MediaError: the file is missing, empty, truncated, damaged, no media file, without pictures, or ends before ``start``.
    """
    path = Path(path)
    if not (math.isfinite(start) and start >= 0) or (fps is not None and not 0 < fps <= 1000):
        raise MediaError(
            f"{path} cannot be read from {start:g} s at {fps} frames a second; start must be 0 or more, the rate above 0 and at most 1000"
        )
    kind = kind_of(path)
    if kind == "folder":
        frames = _folder_frames(path, start, background)
    elif kind == "image":
        frames = _image_frames(path, start, background)
    else:
        frames = _video_frames(path, start, background)
    yield from frames if fps is None else _at_rate(frames, fps, start)


def _video_frames(path: Path, start: float, background: tuple[int, int, int]) -> Iterator[TimedFrame]:
    with opened(path) as container:
        yield from decode(container, str(path), start=start, background=background)


def _image_frames(path: Path, start: float, background: tuple[int, int, int]) -> Iterator[TimedFrame]:
    with opened(path) as image:
        yield from _pillow_frames(image, str(path), start, background)


def _pillow_frames(image: Any, name: str, start: float, background: tuple[int, int, int]) -> Iterator[TimedFrame]:
    from PIL import Image, ImageOps

    time, shown = 0.0, 0
    for index, delay in enumerate(delays_of(image)):
        if time >= start - delay / 2:
            image.seek(index)
            frame = ImageOps.exif_transpose(image)
            if frame.has_transparency_data:
                frame = Image.alpha_composite(Image.new("RGBA", frame.size, (*background, 255)), frame.convert("RGBA"))
            yield TimedFrame(time=time, pixels=np.asarray(frame.convert("RGB")))
            shown += 1
        time += delay
    if not shown:
        raise MediaError(f"{name} has no frame at or after {start:g} s; start earlier")


def _folder_frames(folder: Path, start: float, background: tuple[int, int, int]) -> Iterator[TimedFrame]:
    pictures, fps = pictures_of(folder), folder_fps(folder)
    first = max(0, math.ceil(start * fps - 0.5))
    if first >= len(pictures):
        raise MediaError(f"{folder} has no frame at or after {start:g} s; start earlier")
    for index in range(first, len(pictures)):
        for frame in _image_frames(pictures[index], 0.0, background):
            yield TimedFrame(time=index / fps, pixels=frame.pixels)


def _at_rate(frames: Iterator[TimedFrame], fps: float, start: float) -> Iterator[TimedFrame]:
    slack, count, held, gap = 0.01 / fps, 0, None, 1 / fps
    for frame in frames:
        while held is not None and start + count / fps < frame.time - slack:
            yield TimedFrame(time=count / fps, pixels=held.pixels)
            count += 1
        gap = frame.time - held.time if held is not None else gap
        held = frame
    while held is not None and start + count / fps < held.time + gap - slack:
        yield TimedFrame(time=count / fps, pixels=held.pixels)
        count += 1


def read_clip(
    path: str | Path,
    *,
    start: float = 0.0,
    max_frames: int | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    audio: bool = False,
) -> Clip:
    """Read a clip of constant rate.

    Args:
        path: Video, animation, picture or folder of PNG pictures.
        start: Seconds to skip.
        max_frames: Stop after this many frames; None reads to the end.
        fps: Frames a second to bring it to; None keeps the file's rate (a file of variable rate is brought to its median rate).
        size: (width, height) to bring the frames to; None keeps theirs.
        fit: How, see ``resize.place``.
        audio: Also read the sound.

    Returns:
        The clip with the metadata of the file.

    Raises:
        MediaError: as ``iter_frames``, or ``max_frames`` is below 1.
        TooLargeError: the frames do not fit into memory.
    """
    path = Path(path)
    if max_frames is not None and max_frames < 1:
        raise MediaError(f"{path} cannot be read: {max_frames} frames were asked for, at least 1 is needed")
    info = probe(path)
    expected = math.ceil(max(0.0, info.seconds - start) * (fps or info.fps)) + 1
    width, height = size or (info.width, info.height)
    _check_memory(min(expected, max_frames or expected) * width * height * 3, path)
    times: list[float] = []
    frames: list[Pixels] = []
    for frame in iter_frames(path, start=start, fps=fps):
        frames.append(frame.pixels if size is None else place(frame.pixels[None], size, fit)[0][0])
        times.append(frame.time)
        if len(frames) == max_frames:
            break
    rate = fps
    if rate is None:
        rate, chosen = _constant_rate(times, info.fps)
        frames = [frames[index] for index in chosen][:max_frames]
    if any(frame.shape != frames[0].shape for frame in frames):
        raise MediaError(f"{path} changes its picture size on the way; give the size to bring all frames to")
    seconds = len(frames) / rate
    sound = _read_audio(path, start, seconds) if audio and info.has_audio else None
    return Clip(np.stack(frames), rate, read_metadata(path), sound)


def _check_memory(needed: int, path: Path) -> None:
    if needed > CHECK_BYTES:
        import torch

        from diorama.runtime import check_memory

        check_memory(2 * needed, torch.device("cpu"), remedy=f"read fewer frames of {path}, or bring them to a smaller size")


def _constant_rate(times: list[float], nominal: float) -> tuple[float, list[int]]:
    """Return the rate of frames at ``times`` and which frame each step of that rate shows."""
    count = len(times)
    if count < 2:
        return min(nominal, 1000.0), list(range(count))
    span = times[-1] - times[0]
    rate = nominal if abs(nominal * span - (count - 1)) < 0.5 else (count - 1) / span
    if max(abs(time - times[0] - index / rate) for index, time in enumerate(times)) < 0.75 / rate:
        return rate, list(range(count))
    rate = 1 / float(np.median([after - before for before, after in pairwise(times)]))
    moments = times[0] + np.arange(round(span * rate) + 1) / rate
    return rate, (np.searchsorted(np.asarray(times), moments + 0.01 / rate, side="right") - 1).tolist()


def _read_audio(path: Path, start: float, seconds: float) -> Audio | None:
    av = libav()
    pieces: list[Any] = []
    try:
        with opened(path) as container:
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            resampler = av.AudioResampler(format="fltp", layout="mono" if stream.channels == 1 else "stereo", rate=rate)
            for frame in container.decode(stream):
                if frame.time is not None and frame.time > start + seconds:
                    break
                pieces.extend(piece.to_ndarray() for piece in resampler.resample(frame))
            pieces.extend(piece.to_ndarray() for piece in resampler.resample(None))
    except av.FFmpegError as error:
        raise MediaError(f"the sound of {path} is damaged; read it without sound") from error
    if not pieces:
        return None
    samples = np.concatenate(pieces, axis=1).astype(np.float32)
    first = round(start * rate)
    samples = samples[:, first : first + round(seconds * rate)]
    return Audio(samples=samples, rate=rate) if samples.shape[1] else None
