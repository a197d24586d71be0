"""A span of a video as an mp4: its own packets where they can be cut to the frame, else its own planes encoded anew.

``copy_span`` loses nothing and computes little. The packets from the key frame before the span stay inside, hidden by the edit list that
every player and FFmpeg itself obey; borders are cropped in the stream's header. ``PlaneReader`` never leaves the colours of the file:
what it writes is the decoded planes, cropped. What one cannot do is refused with None, and the caller tries the next way.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from diorama.errors import MediaError
from diorama.media.codec import Encoding, each_frame, encode_planes, libav, pixel_aspect
from diorama.media.probe import kind_of, opened

__all__ = ["Box", "PlaneReader", "copy_span"]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom of the part to keep, in pixels as shown."""

_CROPPED_BY = {"h264": "h264_metadata", "hevc": "hevc_metadata"}  # bitstream filters that set the header's cropping
_LEFT_STEP = 64  # FFmpeg rounds a cropped left edge down to whole vector registers
_COPIED = ("h264", "hevc", "av1", "vp9", "mpeg4")  # codecs that an mp4 holds
_LONGEST_LEAD = 10.5  # seconds before the span that may stay hidden inside (encoders set a key frame every ten); as many as are shown if more


def copy_span(path: str | Path, start: float, num_frames: int, fps: float, *, box: Box | None = None) -> bytes | None:
    """Return ``num_frames`` frames from ``start`` as an mp4 that holds the original packets, or None if they cannot be copied.

    They cannot where the codec does not go into an mp4, the key frame lies far before the span, packets carry no times, the count of
    frames does not come out, or a box asks for what the header of the stream cannot say (odd pixels, turned frames, other codecs).

    Args:
        path: The file.
        start: Time of the first frame, seconds since the file's first frame.
        num_frames: Frames to keep.
        fps: Their constant rate, to tell one frame from the next.
        box: Part of the frame to keep; all of it if None.

    Raises:
        MediaError: the file cannot be read.
    """
    path = Path(path)
    if kind_of(path) != "video":
        return None
    av = libav()
    try:
        with opened(path) as source:
            stream = source.streams.video[0]
            filters = _crop_filter(source, stream, box, str(path))
            if stream.codec_context.name not in _COPIED or filters is None:
                return None
            packets = _packets(source, stream, start, num_frames, fps)
            return None if packets is None else _mux(av, stream, packets, filters, Fraction(num_frames) / Fraction(fps).limit_denominator(100_000))
    except (av.FFmpegError, IndexError) as error:
        raise MediaError(f"{path} cannot be cut at {start:g} s ({error}); copy it again") from error


class PlaneReader:
    """Spans of one video, encoded anew from its planes; what follows a span is decoded on from there.

    Args:
        path: The file; not a picture or an animation.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = contextlib.ExitStack()
        self._stream: Any = None
        self._frames: Iterator[tuple[Any, float, float]] = iter(())
        self._reached = math.inf
        """Time of the last frame that was decoded."""

    def encode(self, start: float, num_frames: int, fps: float, encoding: Encoding, *, box: Box) -> bytes | None:
        """Return a span as a file, or None where the planes do not do as they are: other than 8-bit 4:2:0, turned, oblong, odd edges.

        Args:
            start: Time of the first frame, seconds since the file's first frame.
            num_frames: Frames to keep.
            fps: Their constant rate.
            encoding: Container, encoder and options.
            box: Part of the frame to keep.

        Raises:
            MediaError: the file is missing, no video or damaged there, or ends before the span does.
        """
        if any(edge % 2 for edge in box):
            return None
        if not self._reached < start or self._key_before(start) > self._reached:
            self._seek(start)
        span = itertools.islice(self._from(start - 0.5 / fps), num_frames)
        frame, aspect = next(span, (None, 1.0))
        if frame is not None and (frame.format.name != "yuv420p" or frame.rotation or aspect != 1.0):
            return None
        buffer, frames = io.BytesIO(), () if frame is None else itertools.chain([frame], (frame for frame, _ in span))
        count = encode_planes(buffer, frames, encoding, fps=fps, box=box)
        if count != num_frames:
            raise MediaError(f"{self._path} gave {count} of {num_frames} frames from {start:.2f} s; copy it again")
        return buffer.getvalue()

    def close(self) -> None:
        """Close the file; another span opens it again."""
        self._file.close()
        self._frames, self._reached = iter(()), math.inf

    def _seek(self, start: float) -> None:
        self.close()
        source = self._file.enter_context(opened(self._path))
        self._stream = source.streams.video[0]
        self._frames = each_frame(source, str(self._path), lambda frame, time, aspect: (frame, time, aspect), start=start, threads=1)

    def _from(self, start: float) -> Iterator[tuple[Any, float]]:
        """Yield the frames from a time on and the aspects of their pixels."""
        for frame, time, aspect in self._frames:
            self._reached = time
            if time >= start:
                yield frame, aspect

    def _key_before(self, start: float) -> float:
        """Return the time of the key frame before a time, as far as the file's index tells."""
        base, origin = self._stream.time_base, self._stream.start_time or 0
        entries = self._stream.index_entries
        place = entries.search_timestamp(round(start / base) + origin, backward=True)
        return -math.inf if place < 0 else float((entries[place].timestamp - origin) * base)


def _crop_filter(source: Any, stream: Any, box: Box | None, name: str) -> str | None:
    """Return the bitstream filter that crops to a box, an empty string for no crop, or None if there is no such filter."""
    context = stream.codec_context
    width, height = context.width, context.height
    if box is None or box == (0, 0, width, height):
        return ""
    if context.name not in _CROPPED_BY or any(edge % 2 for edge in box) or context.pix_fmt not in ("yuv420p", "yuvj420p"):
        return None
    frame = next(source.decode(stream))  # the coded size is known once the header has been decoded
    if frame.rotation or pixel_aspect(stream, name) != 1.0:
        return None
    left, top, right, bottom = box
    if left % _LEFT_STEP:
        return None
    sides = {"left": left, "right": context.coded_width - right, "top": top, "bottom": context.coded_height - bottom}
    return f"{_CROPPED_BY[context.name]}=" + ":".join(f"crop_{side}={pixels}" for side, pixels in sides.items())


def _packets(source: Any, stream: Any, start: float, num_frames: int, fps: float) -> list[Any] | None:
    """Return the packets that decode to the span, shifted so that it starts at 0, or None."""
    base = stream.time_base
    first = round(start / base) + (stream.start_time or 0)
    slack = round(0.4 / fps / base)
    end = first + round(num_frames / fps / base)
    source.seek(first + slack // 2, stream=stream)
    packets: list[Any] = []
    for packet in source.demux(stream):
        if not packet.size or (packet.dts is not None and packet.dts >= end - slack):
            break
        if packet.pts is None or packet.is_corrupt:
            return None
        packets.append(packet)
    if not packets or not _fill_decoding_times(packets, max(1, round(1 / fps / base))):
        return None
    shown = sorted(packet.pts for packet in packets if first - slack <= packet.pts < end - slack)
    if (
        len(shown) != num_frames
        or not packets[0].is_keyframe
        or packets[0].pts > shown[0]
        or (shown[0] - packets[0].pts) * base > max(_LONGEST_LEAD, num_frames / fps)
    ):
        return None
    last = max(i for i, packet in enumerate(packets) if packet.pts <= shown[-1])
    for packet in packets[: last + 1]:
        packet.pts -= shown[0]
        packet.dts -= shown[0]
    return packets[: last + 1]


def _fill_decoding_times(packets: list[Any], gap: int) -> bool:
    """Give the first packets the decoding times that Matroska leaves out; return False if later ones lack them too."""
    known = next((i for i, packet in enumerate(packets) if packet.dts is not None), None)
    if known is None or any(packet.dts is None for packet in packets[known:]):
        return False
    for i in range(known - 1, -1, -1):
        packets[i].dts = packets[i + 1].dts - gap
    return True


def _mux(av: Any, stream: Any, packets: list[Any], filters: str, seconds: Fraction) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact", "avoid_negative_ts": "disabled", "use_editlist": "1"}) as out:
        copy = out.add_stream_from_template(stream)
        copy.time_base = stream.time_base
        bitstream = av.BitStreamFilterContext(filters, stream, copy) if filters else None
        for packet in packets:
            for piece in [packet] if bitstream is None else bitstream.filter(packet):
                piece.stream = copy
                out.mux(piece)
        for piece in [] if bitstream is None else bitstream.filter(None):
            piece.stream = copy
            out.mux(piece)
    return _end_at(buffer.getvalue(), seconds)


def _end_at(data: bytes, seconds: Fraction) -> bytes:
    """Let the edit list of an mp4 end after ``seconds``, so that frames which others were predicted from stay hidden."""
    header, edits = data.rfind(b"mvhd"), data.rfind(b"elst")
    if header < 0 or edits < 0:
        return data
    wide = data[header + 4] == 1
    scale = struct.unpack_from(">I", data, header + (24 if wide else 16))[0]
    count = struct.unpack_from(">I", data, edits + 8)[0]
    long = data[edits + 4] == 1
    at = edits + 12 + (count - 1) * (20 if long else 12)
    patched = bytearray(data)
    struct.pack_into(">Q" if long else ">I", patched, at, math.floor(seconds * scale))
    return bytes(patched)
