"""Frames to and from compressed containers, on disk or in memory.

Everything PyAV does happens here. Colours are converted by what the file says (matrix and range) and written as
limited-range BT.709, tagged so. The same frames and settings give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any, TypeVar

import numpy as np

from diorama.errors import MediaError
from diorama.media.clip import Audio, Pixels

__all__ = [
    "Encoding",
    "TimedFrame",
    "decode",
    "decode_bytes",
    "decode_picture",
    "each_frame",
    "encode",
    "encode_bytes",
    "encode_picture",
    "encode_planes",
    "libav",
    "pixel_aspect",
]

T = TypeVar("T")

BT709 = 1  # AVCOL_SPC_BT709, AVCOL_PRI_BT709 and AVCOL_TRC_BT709 share the number
LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED
HD_HEIGHT = 720  # untagged video from this height up is BT.709 by convention, below it BT.601
ONE_THREAD_AREA = 512 * 512  # below it a second encoder thread costs more than it gives


@dataclass(frozen=True, kw_only=True)
class TimedFrame:
    """One decoded frame."""

    time: float
    """Seconds since the first frame of the stream."""
    pixels: Pixels
    """``[H, W, 3]`` uint8, upright and with square pixels."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How frames become a file."""

    container: str
    """FFmpeg muxer: mp4, webm or gif."""
    codec: str
    """FFmpeg encoder of the pictures."""
    options: Mapping[str, str]
    """Options of that encoder."""
    audio_codec: str | None = None
    """FFmpeg encoder of the sound; None where the format holds none."""
    full_chroma: bool = False
    """Keep colour at full resolution (yuv444p) instead of a quarter (yuv420p); odd sizes always do."""


def libav() -> Any:
    """Return the PyAV module, silenced: its faults arrive as exceptions.

    No level but None will do: with any other, decoder threads take the GIL to log an error while closing a half-read file holds it
    and waits for them, for ever.
    """
    import av

    av.logging.set_level(None)
    return av


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def encode(
    file: str | IO[bytes],
    chunks: Iterable[Pixels],
    encoding: Encoding,
    *,
    fps: float,
    comment: str = "",
    audio: Audio | None = None,
) -> int:
    """Encode chunks of frames and return how many frames there were.

    Args:
        file: Path or binary file to write.
        chunks: Arrays ``[t, H, W, 3]`` uint8, all of one size; taken one at a time.
        encoding: Container, encoder and options.
        fps: Frames a second.
        comment: Text kept in the container's comment tag.
        audio: Sound to go with it; ignored where ``encoding.audio_codec`` is None.

    Raises:
        MediaError: there is no frame, or the frames change size.
        OSError: the file cannot be written.
    """
    av = libav()
    count, stream, sound, size = 0, None, None, (0, 0)
    with _written(av, file, encoding) as container:
        if comment:
            container.metadata["comment"] = comment
        for chunk in chunks:
            if stream is None:
                size = chunk.shape[1:3]
                stream = _add_picture_stream(container, encoding, fps, *size)
                if audio is not None and encoding.audio_codec is not None:
                    sound = container.add_stream(encoding.audio_codec, rate=_audio_rate(encoding.audio_codec, audio.rate))
            if chunk.shape[1:3] != size:
                raise MediaError(f"frames of {chunk.shape[2]}x{chunk.shape[1]} do not fit a video of {size[1]}x{size[0]}; resize them first")
            for pixels in chunk:
                for packet in stream.encode(_to_yuv(av, pixels, stream.pix_fmt, count)):
                    container.mux(packet)
                count += 1
        if stream is None or not count:
            raise MediaError("a video with 0 frames cannot be written; give at least 1")
        for packet in stream.encode():
            container.mux(packet)
        if sound is not None and audio is not None:
            _encode_audio(av, container, sound, audio)
    return count


def encode_planes(file: str | IO[bytes], frames: Iterable[Any], encoding: Encoding, *, fps: float, box: tuple[int, int, int, int]) -> int:
    """Encode decoded frames, cropped, whose planes are taken as they are, without a way through RGB, and return how many there were.

    Args:
        file: Path or binary file to write.
        frames: PyAV frames in ``yuv420p``, all of one size, upright and with square pixels; the file is tagged with the colours of the first.
        encoding: Container, encoder and options.
        fps: Frames a second.
        box: Left, top, right and bottom of what is kept, even pixels.

    Raises:
        MediaError: there is no frame, or the frames change size or format.
        OSError: the file cannot be written.
    """
    av = libav()
    left, top, right, bottom = box
    count, stream, kind = 0, None, (0, 0, "")
    crop: Any = None
    with _written(av, file, encoding) as container:
        for frame in frames:
            if stream is None:
                kind = frame.width, frame.height, frame.format.name
                stream = _add_picture_stream(container, encoding, fps, bottom - top, right - left)
                _tag(stream.codec_context, frame)
                stream.codec_context.thread_count = 1  # who encodes many pieces does it in many processes
                crop = _crop(av, frame, f"{right - left}:{bottom - top}:{left}:{top}")
            if (frame.width, frame.height, frame.format.name) != kind:
                raise MediaError(
                    f"frames of {frame.width}x{frame.height} do not fit a video of {kind[0]}x{kind[1]}, or change their format; resize them first"
                )
            crop.push(frame)
            part = crop.pull()
            part.pts, part.time_base = count, 1 / _rate(fps)
            part.pict_type = av.video.frame.PictureType.NONE  # the encoder decides anew
            for packet in stream.encode(part):
                container.mux(packet)
            count += 1
        if stream is None:
            raise MediaError("a video with 0 frames cannot be written; give at least 1")
        for packet in stream.encode():
            container.mux(packet)
    return count


def _crop(av: Any, frame: Any, how: str) -> Any:
    """Return a filter graph that crops frames like one; it moves pointers and copies nothing."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    crop, sink = graph.add("crop", f"{how}:exact=1"), graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    return graph


def _written(av: Any, file: str | IO[bytes], encoding: Encoding) -> Any:
    """Return an output container; the same frames give the same bytes in it."""
    movflags = "+faststart" if isinstance(file, str) else "+default_base_moof"
    options = {"fflags": "+bitexact"} | ({"movflags": movflags} if encoding.container == "mp4" else {})
    return av.open(file, "w", format=encoding.container, options=options)


def _tag(context: Any, frame: Any) -> None:
    """Tag a stream with the colours of a frame; the matrix that an untagged one has by its height is written out, for a part is lower."""
    untagged_hd = frame.colorspace == UNTAGGED and frame.height >= HD_HEIGHT
    context.colorspace = BT709 if untagged_hd else frame.colorspace
    context.color_range, context.color_primaries, context.color_trc = frame.color_range, frame.color_primaries, frame.color_trc


def _add_picture_stream(container: Any, encoding: Encoding, fps: float, height: int, width: int) -> Any:
    # x264's fast macroblock-tree code reads memory it never wrote, so that equal input gives unequal bytes; its portable twin does not.
    steady = {"x264-params": "cpu-independent=1"} if encoding.codec == "libx264" else {}
    stream = container.add_stream(encoding.codec, rate=_rate(fps), options={**encoding.options, **steady})
    stream.width, stream.height = width, height
    odd = width % 2 or height % 2
    stream.pix_fmt = "yuv444p" if encoding.full_chroma or odd else "yuv420p"
    context = stream.codec_context
    context.time_base = 1 / _rate(fps)
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED_RANGE
    if width * height <= ONE_THREAD_AREA:
        context.thread_count = 1
    return stream


def _to_yuv(av: Any, pixels: Pixels, pix_fmt: str, index: int) -> Any:
    interpolation = av.video.reformatter.Interpolation
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
        format=pix_fmt,
        dst_colorspace="ITU709",
        dst_color_range="MPEG",
        interpolation=interpolation.AREA | interpolation.ACCURATE_RND | interpolation.FULL_CHR_H_INP | interpolation.BITEXACT,
        threads=1,
    )
    frame.pts = index
    return frame


def _audio_rate(codec: str, rate: int) -> int:
    return 48000 if codec == "libopus" else rate


def _encode_audio(av: Any, container: Any, stream: Any, audio: Audio) -> None:
    layout = "mono" if audio.samples.shape[0] == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio.samples, dtype=np.float32), format="fltp", layout=layout)
    frame.sample_rate = audio.rate
    frame.pts = 0
    resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=stream.rate, frame_size=stream.codec_context.frame_size or 1024)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        for packet in stream.encode(piece):
            container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)


def encode_bytes(frames: Pixels, fps: float, *, crf: int = 10, preset: str = "veryfast", full_chroma: bool = True) -> bytes:
    """Return ``[T, H, W, 3]`` uint8 frames as an H.264 mp4 in memory.

    Args:
        frames: The frames.
        fps: Frames a second.
        crf: x264's constant rate factor, 0 (exact but for colour conversion) to 51.
        preset: x264's speed.
        full_chroma: Keep colour at full resolution.
    """
    buffer = io.BytesIO()
    encoding = Encoding(container="mp4", codec="libx264", options={"crf": str(crf), "preset": preset}, full_chroma=full_chroma)
    encode(buffer, [frames], encoding, fps=fps)
    return buffer.getvalue()


def decode_bytes(data: bytes, name: str = "video in memory") -> Pixels:
    """Return every frame of a video held in memory, ``[T, H, W, 3]`` uint8.

    Raises:
        MediaError: the bytes are no video, or damaged.
    """
    av = libav()
    try:
        with av.open(io.BytesIO(data)) as container:
            frames = [frame.pixels for frame in decode(container, name)]
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{name} is damaged or no video; make it again") from error
    return np.stack(frames)


def encode_picture(frame: Pixels) -> bytes:
    """Return one ``[H, W, 3]`` uint8 frame as a PNG in memory."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def decode_picture(data: bytes, name: str = "picture in memory") -> Pixels:
    """Return a picture held in memory, ``[H, W, 3]`` uint8.

    Raises:
        MediaError: the bytes are no picture, or damaged.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise MediaError(f"{name} is damaged or no picture; make it again") from error


def pixel_aspect(stream: Any, name: str) -> float:
    """Return width over height of one pixel of a video stream.

    Raises:
        MediaError: the file asks for pixels more than 8 times as wide as high, or the reverse.
    """
    ratio = float(stream.sample_aspect_ratio or 1)
    if not 1 / 8 <= ratio <= 8:
        raise MediaError(f"{name} has a pixel aspect of {ratio:g}; allowed is 1/8 to 8, so repair its header")
    return ratio


def decode(container: Any, name: str, *, start: float = 0.0, background: tuple[int, int, int] = (0, 0, 0)) -> Iterator[TimedFrame]:
    """Yield the frames of the first video stream, upright, with square pixels, one at a time.

    Args:
        container: An open PyAV input.
        name: What to call it in messages.
        start: Seconds; frames before it are left out.
        background: RGB, 0 to 255, put behind transparent parts.

    Raises:
        MediaError: there is no video stream or no frame at or after ``start``, or the file is damaged or truncated; frames before the
            damage are yielded first.
    """
    av = libav()

    def take(frame: Any, time: float, aspect: float) -> TimedFrame:
        return TimedFrame(time=time, pixels=_to_rgb(av, frame, aspect, background))

    return each_frame(container, name, take, start=start)


def each_frame(
    container: Any, name: str, take: Callable[[Any, float, float], T], *, start: float = -math.inf, threads: int | None = None
) -> Iterator[T]:
    """Decode the first video stream and yield what is made of its frames, one at a time.

    Args:
        container: An open PyAV input.
        name: What to call it in messages.
        take: Makes something of a PyAV frame, its time in seconds since the first, and width over height of its pixels.
        start: Seconds; frames before it are left out.
        threads: Decoder threads; the library's choice if None.

    Raises:
        MediaError: there is no video stream or no frame at or after ``start``, or the file is damaged or truncated; frames before the
            damage are yielded first.
    """
    av = libav()
    if not container.streams.video:
        raise MediaError(f"{name} holds no video stream; give a file with pictures")
    stream = container.streams.video[0]
    if threads is not None:
        stream.codec_context.thread_count = threads
    stream.thread_type = "AUTO" if stream.codec_context.width * stream.codec_context.height > ONE_THREAD_AREA else "NONE"
    aspect = pixel_aspect(stream, name)
    origin = float((stream.start_time or 0) * stream.time_base)
    if start > 0 and stream.duration is not None:
        container.seek(int((start + origin) / stream.time_base), stream=stream)
    gap = 1 / float(stream.average_rate or stream.guessed_rate or 25)
    count, last = 0, -gap
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise MediaError(f"{name} is truncated or damaged after {count} frames; copy it again, or cut it before that")
            for frame in packet.decode():
                last = last + gap if frame.pts is None else float(frame.pts * stream.time_base) - origin
                if last >= start - 0.5 * gap:
                    yield take(frame, last, aspect)
                    count += 1
    except av.FFmpegError as error:
        raise MediaError(f"{name} is truncated or damaged after {count} frames ({error.strerror}); copy it again, or cut it before that") from error
    if not count:
        why = (
            f"no frame at or after {start:g} s; start earlier"
            if last >= 0
            else "a video stream with 0 frames; it is empty or truncated, so copy it again"
        )
        raise MediaError(f"{name} has {why}")


def _to_rgb(av: Any, frame: Any, aspect: float, background: tuple[int, int, int]) -> Pixels:
    interpolation = av.video.reformatter.Interpolation
    width, height = frame.width, frame.height
    if aspect > 1:
        width = max(1, round(width * aspect))
    elif aspect < 1:
        height = max(1, round(height / aspect))
    how: dict[str, Any] = {"width": width, "height": height, "threads": 1}
    how["interpolation"] = interpolation.BICUBIC | interpolation.ACCURATE_RND | interpolation.FULL_CHR_H_INT | interpolation.BITEXACT
    if frame.colorspace == UNTAGGED and frame.height >= HD_HEIGHT:
        how["src_colorspace"] = "ITU709"
    if any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba", **how).astype(np.uint16)
        alpha = rgba[..., 3:]
        pixels = ((rgba[..., :3] * alpha + np.asarray(background, np.uint16) * (255 - alpha) + 127) // 255).astype(np.uint8)
    else:
        pixels = frame.to_ndarray(format="rgb24", **how)
    turns = math.floor(frame.rotation / 90 + 0.5) % 4  # counter-clockwise quarter turns
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
