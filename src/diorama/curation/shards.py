"""Kept pieces into shards: the tars of ``media.tars``, which ``diorama train`` reads.

Pieces keep their size, length and rate. Where the source's own packets can be cut to the frame they are copied, without loss and
without work; else its planes are encoded anew, or where those will not do, its frames as they are shown. The record of a sample holds
its captions, figures and where it comes from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from diorama.curation.manifest import STAGES, Row
from diorama.curation.sources import Source, local_copy
from diorama.errors import DataError, MediaError
from diorama.media import Pixels, encode_picture, iter_frames
from diorama.media.codec import Encoding, encode
from diorama.media.extract import PlaneReader, copy_span
from diorama.media.probe import kind_of
from diorama.media.tars import CodedSample, shard_name, write_tar

__all__ = ["SCORES", "Plan", "plan_shards", "record_of", "write_shard"]

SCORES = (
    "motion", "jitter", "static", "sharpness", "brightness", "contrast", "clipped", "quality", "text_area", "subtitles", "logo_area",
    "watermark", "upside_down", "aesthetic",
)  # fmt: skip
"""Figures of a row that go into a sample's record and may be appended to its caption; one that was not measured is left out."""
_ENCODING = Encoding(container="mp4", codec="libx264", options={"crf": "15", "preset": "ultrafast"})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One shard to be written."""

    number: int
    rows: tuple[Row, ...]
    """Kept pieces in order; those of one source follow each other."""
    sources: tuple[Source, ...]
    """Where they come from."""


def plan_shards(rows: Iterator[Row], sources: Mapping[str, Source], *, max_bytes: int, max_samples: int = 512) -> Iterator[Plan]:
    """Yield shards of about ``max_bytes`` in the order of the rows, whose contents depend on the rows alone.

    Args:
        rows: Kept pieces.
        sources: By name.
        max_bytes: Size to aim at, going by the sizes of the sources.
        max_samples: Most samples.
    """
    number, waiting, size = 0, list[Row](), 0.0
    for row in rows:
        share = row.seconds / row.source_seconds if row.source_seconds else 1.0
        if waiting and (size + share * row.file_bytes > max_bytes or len(waiting) >= max_samples):
            yield _plan(number, waiting, sources)
            number, waiting, size = number + 1, [], 0.0
        waiting.append(row)
        size += share * row.file_bytes
    if waiting:
        yield _plan(number, waiting, sources)


def _plan(number: int, rows: Sequence[Row], sources: Mapping[str, Source]) -> Plan:
    return Plan(number=number, rows=tuple(rows), sources=tuple(sources[name] for name in dict.fromkeys(row.source for row in rows)))


def record_of(row: Row, width: int, height: int, num_frames: int, fps: float) -> dict[str, Any]:
    """Return what a shard says about a sample."""
    dense, short = row.caption, row.caption_short or row.caption
    return {
        "captions": {"dense": [dense], "short": [short], "captioner": row.captioner},
        "scores": {name: round(value, 6) for name in SCORES if (value := getattr(row, name)) is not None},
        "provenance": {
            "source": row.source,
            "span": [round(row.start, 6), round(row.end, 6)],
            "first_frame": row.first_frame,
            "sha256": row.sha256,
            "licence": row.licence,
            "box": list(row.box),
            "rotation": row.rotation,
            "pixel_aspect": row.pixel_aspect,
            "stored": row.stored,
            "stages": row.versions,
        },
        "size": {"width": width, "height": height, "num_frames": num_frames, "fps": fps},
    }


def write_shard(folder: Path, plan: Plan) -> list[Row]:
    """Write one shard whole or not at all and return its rows, kept ones with the shard's name; the same rows give the same bytes.

    Pieces whose source fails on the way are dropped with the reason, and a shard without pieces is not written.

    Raises:
        DataError: the disk is full or the folder is not writable.
    """
    name = shard_name(plan.number)
    rows: list[Row] = []

    def kept() -> Iterator[CodedSample]:
        for row, sample in _samples(plan):
            rows.append(row if sample is None else dataclasses.replace(row, shard=name))
            if sample is not None:
                yield sample

    write_tar(folder, plan.number, kept())
    return rows


def _samples(plan: Plan) -> Iterator[tuple[Row, CodedSample | None]]:
    sources = {source.name: source for source in plan.sources}
    for name, group in groupby(plan.rows, key=lambda row: row.source):
        rows = [dataclasses.replace(row, versions=f"{row.versions}, shards {STAGES['shards']}") for row in group]
        try:
            with local_copy(sources[name]) as path:
                yield from _samples_of(path, rows)
        except DataError as error:
            yield from ((row.dropped("unreadable", "shards", str(error)), None) for row in rows)


def _samples_of(path: Path, rows: Sequence[Row]) -> Iterator[tuple[Row, CodedSample | None]]:
    with contextlib.ExitStack() as stack:
        planes: PlaneReader | None = None
        shown: _Reader | None = None
        for row in rows:
            span = row.start, row.num_frames, row.fps
            try:
                if row.kind == "image":
                    pixels = _cropped(row, next(iter(iter_frames(path))).pixels)
                    yield _stored(row, "encoded", encode_picture(pixels), 1)
                    continue
                data = None if row.variable_rate else copy_span(path, *span, box=_stored_box(row))
                if data is not None:
                    yield _stored(row, "copied", data, row.num_frames)
                    continue
                if not row.variable_rate and kind_of(path) == "video":
                    planes = planes or stack.enter_context(contextlib.closing(PlaneReader(path)))
                    data = planes.encode(*span, _ENCODING, box=row.box)
                if data is not None:
                    yield _stored(row, "encoded", data, row.num_frames)
                    continue
                shown = shown or stack.enter_context(contextlib.closing(_Reader(path, row)))
                yield _stored(row, "encoded", *shown.encode(row))
            except MediaError as error:
                planes = shown = None
                yield row.dropped("damaged", "shards", str(error).replace(str(path), row.source)), None


def _stored(row: Row, how: str, data: bytes, num_frames: int) -> tuple[Row, CodedSample]:
    """Return a row that says how its piece is stored, and the piece."""
    row = dataclasses.replace(row, stored=how)
    width, height = row.size
    still = row.kind == "image"
    fps = 1.0 if still else row.fps
    record = record_of(row, width, height, num_frames, fps)
    kind = "png" if still else "mp4"
    return row, CodedSample(key=row.key, kind=kind, data=data, record=record, height=height, width=width, num_frames=num_frames, fps=fps)


def _stored_box(row: Row) -> tuple[int, int, int, int] | None:
    return None if row.box == (0, 0, row.width, row.height) else row.box


def _cropped(row: Row, pixels: Pixels) -> Pixels:
    left, top, right, bottom = row.box
    return pixels[top:bottom, left:right]


class _Reader:
    """Encodes pieces of one source one after the other in a single pass over its frames."""

    def __init__(self, path: Path, first: Row) -> None:
        self.path = path
        self.origin = first.start if first.variable_rate else 0.0
        self.frames = iter_frames(path, start=first.start, fps=first.fps if first.variable_rate else None)

    def encode(self, row: Row) -> tuple[bytes, int]:
        """Return the piece as an mp4 and its number of frames.

        Raises:
            MediaError: the source ends or fails before the piece does.
        """
        wanted = max(1, round(row.seconds * row.fps)) if row.variable_rate else row.num_frames
        buffer = io.BytesIO()
        count = encode(buffer, self._chunks(row, wanted), _ENCODING, fps=row.fps)
        if count != wanted:
            raise MediaError(f"{self.path} gave {count} of {wanted} frames from {row.start:.2f} s; it has changed, so run curate again")
        return buffer.getvalue(), count

    def _chunks(self, row: Row, wanted: int) -> Iterator[Pixels]:
        count = 0
        for frame in self.frames:
            if frame.time + self.origin < row.start - 0.5 / row.fps:
                continue
            yield _cropped(row, frame.pixels)[None]
            count += 1
            if count == wanted:
                return

    def close(self) -> None:
        """Close the file."""
        close = getattr(self.frames, "close", None)
        if close is not None:
            close()
