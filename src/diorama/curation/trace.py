"""One source from end to end: the one decode, and everything that is measured on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from diorama.curation.borders import agree, crop_bars
from diorama.curation.cuts import CutConfig, Shot, cv2_library, shots, trim_fades
from diorama.curation.duplicates import fingerprint
from diorama.curation.manifest import STAGES, Row
from diorama.curation.probe import fault, probe_source
from diorama.curation.scores import Aesthetic, score
from diorama.curation.sources import Source, local_copy
from diorama.curation.still import divide_still
from diorama.errors import DataError, MediaError
from diorama.media import Pixels
from diorama.media.scan import ScannedFrame, ScanSizes, scan

__all__ = ["TraceConfig", "trace_source"]

_THUMBNAIL_HEIGHT = 72


@dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """What decides the figures of a piece; with the stages' versions it names their cache."""

    cuts: CutConfig = field(default_factory=CutConfig)
    """Where shots begin and end."""
    sizes: ScanSizes = field(default_factory=ScanSizes)
    """How large frames are looked at, and how often."""
    licence: str = ""
    """Licence of files that the facts say nothing about."""


def trace_source(source: Source, config: TraceConfig, *, aesthetic: Aesthetic | None = None, threads: int | None = 1) -> list[Row]:
    """Return the rows of a source, which cover it whole, with every figure; only what cannot be used at all has a fate.

    Args:
        source: The file.
        config: How.
        aesthetic: Head for the aesthetic score; none if None.
        threads: Decoder threads; the library's choice if None.
    """
    versions = ", ".join(f"{name} {STAGES[name]}" for name in ("probe", "trace", "cuts", "borders", "scores"))
    try:
        with local_copy(source) as path:
            row = probe_source(source, path)
            row = dataclasses.replace(row, licence=row.licence or config.licence, versions=versions)
            rows = [row] if row.fate else _trace(row, path, config, aesthetic, threads)
    except DataError as error:
        row = Row(source=source.name, key="", file_bytes=max(0, source.bytes), versions=versions)
        rows = [row.dropped("unreadable", "probe", str(error))]
    return [dataclasses.replace(row, piece=i, key=f"{row.key}-{i:04d}") for i, row in enumerate(rows)]


class _Watch:
    """Passes frames on, keeps their times, and remembers the fault that ended them."""

    def __init__(self, frames: Iterator[ScannedFrame]) -> None:
        self.frames = frames
        self.times: list[float] = []
        self.fault: MediaError | None = None

    def __iter__(self) -> Iterator[ScannedFrame]:
        try:
            for frame in self.frames:
                self.times.append(frame.time)
                yield frame
        except MediaError as error:
            self.fault = error


def _trace(row: Row, path: Path, config: TraceConfig, aesthetic: Aesthetic | None, threads: int | None) -> list[Row]:
    watch = _Watch(scan(path, config.sizes, threads=threads))
    measured: list[tuple[Row, bool]] = []
    for shot in shots(watch, config.cuts, gap=0.0 if row.kind == "image" else 1 / row.fps):
        pieces = [shot] if shot.gap else [part for piece in trim_fades(shot) for part in divide_still(piece, config.cuts.max_still)]
        measured.extend(_measure(row, piece, shot, aesthetic) for piece in pieces)
    rows = agree([piece for piece, _ in measured], [certain for _, certain in measured])
    if not rows:
        reason, detail = fault(watch.fault, path, row.source) if watch.fault else ("no frames", f"{row.source} has 0 frames; copy it again")
        return [row.dropped(reason, "trace", detail)]
    rate, variable = _rate(watch.times, row.fps)
    length = 0.0 if row.kind == "image" else max(row.source_seconds, rows[-1].end)
    rows = [dataclasses.replace(piece, fps=rate, variable_rate=variable, source_seconds=length) for piece in rows]
    return _with_rest(rows, row, watch, path, config) if row.kind == "video" else rows


def _measure(row: Row, piece: Shot, shot: Shot, aesthetic: Aesthetic | None) -> tuple[Row, bool]:
    """Return the row of a piece of a shot, and whether the box of its bars is certain."""
    row = dataclasses.replace(
        row,
        start=piece.times[0],
        end=piece.end_time,
        first_frame=piece.first,
        num_frames=piece.num_frames,
        begins=piece.begins,
        ends=piece.ends,
        thumbnail=_thumbnail(piece.medium or shot.medium),
    )
    if row.kind == "image":
        row = dataclasses.replace(row, start=0.0, end=0.0)
    elif piece.gap:
        level = float(np.mean(piece.means)) / 255
        name = "black" if piece.black else "flat"
        return row.dropped(name, "cuts", f"{piece.num_frames} even frames of mean luma {level:.2f}", figure=level), False
    elif piece.fade:
        length = piece.end_time - piece.times[0]
        return row.dropped("fade", "cuts", f"{piece.num_frames} frames on the way from or to an even colour", figure=length), False
    row, certain = crop_bars(row, piece)
    return fingerprint(score(row, piece, aesthetic=aesthetic), piece), certain


def _thumbnail(frames: list[Pixels]) -> bytes:
    if not frames:
        return b""
    cv2 = cv2_library()
    chosen = [frames[round(share * (len(frames) - 1))] for share in ((0.0, 0.5, 1.0) if len(frames) > 2 else (0.0,))]
    size = max(1, round(chosen[0].shape[1] * _THUMBNAIL_HEIGHT / chosen[0].shape[0])), _THUMBNAIL_HEIGHT
    strip = np.concatenate([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in chosen], axis=1)
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(strip, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 70])[1])


def _rate(times: list[float], nominal: float) -> tuple[float, bool]:
    """Return the constant rate of frames and whether their times are uneven, which makes it the median rate."""
    count = len(times)
    if count < 3:
        return nominal, False
    span = times[-1] - times[0]
    rate = nominal if abs(nominal * span - (count - 1)) < 0.5 else (count - 1) / span if span > 0 else nominal
    if max(abs(time - times[0] - i / rate) for i, time in enumerate(times)) < 0.75 / rate:
        return rate, False
    steps = [after - before for before, after in pairwise(times) if after > before]
    return (1 / float(np.median(steps)) if steps else nominal), True


def _with_rest(rows: list[Row], row: Row, watch: _Watch, path: Path, config: TraceConfig) -> list[Row]:
    """Return the rows with one more for what the header promised and the file does not hold."""
    end = rows[-1].end
    missing = row.source_seconds - end
    if watch.fault is None and missing <= max(1.0, 0.02 * row.source_seconds):
        return rows
    if watch.fault is not None:
        reason, detail = fault(watch.fault, path, row.source)
        reason = reason if reason in ("truncated", "damaged") else "damaged"
    else:
        reason = "truncated"
        detail = f"the header of {row.source} promises {row.source_seconds:.1f} s and frames end after {end:.1f} s; copy it again"
    rows[-1] = dataclasses.replace(rows[-1], ends="damage")
    rest = dataclasses.replace(rows[-1], start=end, end=max(end, row.source_seconds), first_frame=len(watch.times), num_frames=0)
    blank = Row(source=row.source)
    figures = {item.name: getattr(blank, item.name) for item in dataclasses.fields(Row) if item.name in _FIGURES}
    rest = dataclasses.replace(rest, **figures, begins="damage", ends="end")
    return [*rows, rest.dropped(reason, "trace", detail, figure=max(0.0, missing))]


_FIGURES = (
    "left", "top", "right", "bottom", "logo_area", "subtitles", "motion", "jitter", "static", "sharpness", "brightness", "contrast", "clipped",
    "quality", "text_area", "watermark", "upside_down", "aesthetic", "embedding", "hashes", "prints", "thumbnail", "fate", "reason", "stage",
    "figure", "limit", "detail",
)  # fmt: skip
