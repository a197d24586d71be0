"""The manifest: one row for every piece of every source, with its figures and its fate.

The rows of a source cover it from its first frame to its last, so that nothing is lost in silence; a file that cannot be read is one
row that says why. Parquet files are written whole or not at all, and the same rows give the same bytes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from diorama.errors import DataError, MissingExtraError, cannot_write

__all__ = ["REASONS", "STAGES", "Row", "library", "pending", "read_rows", "write_rows"]

STAGES = {
    "probe": 1,
    "trace": 1,
    "cuts": 3,
    "borders": 1,
    "scores": 2,
    "fates": 1,
    "duplicates": 1,
    "captions": 1,
    "shards": 2,
}
"""Stages in order, with the version of what each computes; a new version makes old results void."""

REASONS = {
    "kept": "nothing speaks against it",
    "unreadable": "the file cannot be opened or read",
    "empty": "the file has no bytes",
    "not video": "the file is no video and no picture",
    "no frames": "the file has a picture track without a frame",
    "truncated": "the end of the file is missing",
    "damaged": "the file cannot be decoded from here on",
    "black": "nothing but black",
    "flat": "nothing but one even colour",
    "fade": "fades from or to an even colour",
    "short": "a shot too short to train on",
    "small": "too few pixels",
    "static": "nothing moves",
    "jitter": "the picture shakes or jumps",
    "upside down": "the picture stands on its head",
    "dark": "too dark to see anything",
    "bright": "too bright to see anything",
    "blurred": "no detail anywhere",
    "poor quality": "compressed or noisy beyond use",
    "text": "text covers too much of the picture",
    "watermark": "a watermark lies over the picture",
    "unsightly": "the aesthetic head rates it too low",
    "duplicate": "another piece shows the same",
}
"""Every reason a row can have, and what it means."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A piece of a source: a shot, a fade, a black gap, a picture, or a whole file that could not be read."""

    source: str
    """Path of the file inside the folder, or its address."""
    piece: int = 0
    """Number of the piece in its source, from 0."""
    key: str = ""
    """Name of the piece in the shards: hash of the source's name and content, and the piece."""
    kind: str = "file"
    """video, image, or file for what could not be opened."""
    start: float = 0.0
    """Seconds since the first frame of the source."""
    end: float = 0.0
    """Seconds; the end of the last frame."""
    first_frame: int = 0
    """Number of the first frame in the source."""
    num_frames: int = 0
    begins: str = "start"
    """What is before it: start, cut, fade, still for a stretch in which nothing moves, or limit for a shot divided because of its length."""
    ends: str = "end"
    """What is after it: end, cut, fade, still, limit or damage."""

    fate: str = ""
    """kept or dropped; empty while it is open."""
    reason: str = ""
    """A key of ``REASONS``."""
    stage: str = ""
    """The stage that decided."""
    figure: float | None = None
    """What was measured, in the unit that ``detail`` names."""
    limit: float | None = None
    """What was allowed."""
    detail: str = ""
    """One sentence."""

    format: str = ""
    """Container."""
    codec: str = ""
    width: int = 0
    """Pixels of the source as shown: upright, square pixels."""
    height: int = 0
    """Pixels of the source as shown."""
    fps: float = 0.0
    """Frames a second."""
    rotation: int = 0
    """Counter-clockwise degrees by which stored frames are turned for showing."""
    pixel_aspect: float = 1.0
    """Width over height of a stored pixel."""
    variable_rate: bool = False
    """Whether the frames of the source come at uneven times."""
    color_range: str = ""
    """limited, full or untagged."""
    has_audio: bool = False
    file_bytes: int = 0
    """Size of the source."""
    source_seconds: float = 0.0
    """Duration of the source."""
    sha256: str = ""
    """Hash of the source's bytes, hexadecimal."""
    licence: str = ""
    """As the facts file or the command said; empty if unknown."""

    left: int = 0
    """Edge of what is kept of each frame, pixels as shown."""
    top: int = 0
    right: int = 0
    bottom: int = 0
    logo_area: float = 0.0
    """Share of the frame under marks that never change while the rest moves."""
    subtitles: float = 0.0
    """Share of sampled frames with lines of text in the lower third."""

    motion: float | None = None
    """Median optical flow, frame heights per second."""
    jitter: float | None = None
    """Sudden changes of the whole picture's shift, frame heights per second."""
    static: float | None = None
    """Share of the time in which next to nothing moves."""
    sharpness: float | None = None
    """Energy of the finest detail over that of coarser detail, at full resolution."""
    brightness: float | None = None
    """Mean luma, 0 to 1."""
    contrast: float | None = None
    """Standard deviation of luma, 0 to 1."""
    clipped: float | None = None
    """Share of pixels at the ends of the range."""
    quality: float | None = None
    """Distance from the statistics of undistorted pictures as in NIQE; lower is better."""
    text_area: float | None = None
    """Share of the frame under text."""
    watermark: float | None = None
    """Strength of a faint pattern that stays in place, 0 to 1."""
    upside_down: float | None = None
    """How sure it is that the picture stands on its head, 0 to 1."""
    aesthetic: float | None = None
    """Score of the head the user gave; None without one."""

    embedding: tuple[float, ...] = ()
    """What the piece looks like, a unit vector."""
    hashes: tuple[int, ...] = ()
    """Perceptual hashes of frames a fixed time apart, 64 bits each as signed integers."""
    prints: bytes = b""
    """The same frames, 16 x 16 luma each."""
    duplicate_of: str = ""
    """Key of the piece that is kept instead."""
    similarity: float | None = None
    """To that piece, 0 to 1."""

    caption: str = ""
    """Dense caption."""
    caption_short: str = ""
    captioner: str = ""
    """What wrote the captions; ``facts`` if they came with the files."""

    shard: str = ""
    """Name of the shard it lies in."""
    stored: str = ""
    """copied if the shard holds the source's own packets, encoded if they were made anew."""
    versions: str = ""
    """Stages that made this row, with their versions."""
    thumbnail: bytes = b""
    """JPEG of frames from the beginning, the middle and the end beside each other."""

    @property
    def seconds(self) -> float:
        """Duration of the piece."""
        return self.end - self.start

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what is kept of each frame, pixels as shown."""
        return (self.left, self.top, self.right, self.bottom) if self.right else (0, 0, self.width, self.height)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is kept, pixels."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    def dropped(self, reason: str, stage: str, detail: str, *, figure: float | None = None, limit: float | None = None) -> Row:
        """Return the row with its fate: dropped, and why."""
        assert reason in REASONS
        return dataclasses.replace(self, fate="dropped", reason=reason, stage=stage, detail=detail, figure=figure, limit=limit)


def pending(rows: Iterable[Row]) -> list[Row]:
    """Return the rows whose fate is open."""
    return [row for row in rows if not row.fate]


def library() -> Any:
    """Return pyarrow.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "curation", "curating a folder") from error
    return pa


@cache
def _schema(pa: Any) -> Any:
    kinds = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        bytes: pa.binary(),
        float | None: pa.float64(),
        tuple[float, ...]: pa.list_(pa.float32()),
        tuple[int, ...]: pa.list_(pa.int64()),
    }
    return pa.schema([pa.field(name, kinds[kind]) for name, kind in get_type_hints(Row).items()])


def write_rows(path: Path, batches: Iterable[Sequence[Row]], *, without: Sequence[str] = ()) -> None:
    """Write rows as Parquet, whole or not at all, a row group for each batch.

    Args:
        path: Where.
        batches: Rows, taken one batch at a time.
        without: Columns to leave out.

    Raises:
        DataError: the disk is full or the place is not writable.
    """
    pa = library()
    schema = pa.schema([field for field in _schema(pa) if field.name not in without])
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.parquet.ParquetWriter(fresh, schema, compression="zstd") as writer:
            for rows in batches:
                columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
                writer.write_table(pa.Table.from_pydict(columns, schema=schema))
        fresh.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        fresh.unlink(missing_ok=True)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """Read rows back; columns left out take their defaults.

    Raises:
        DataError: the file is missing, damaged, or of another version.
    """
    pa = library()
    try:
        with pa.parquet.ParquetFile(path) as file:
            table = file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is missing or damaged ({str(error).splitlines()[0]}); delete it and run curate again") from error
    names = {field.name for field in dataclasses.fields(Row)}
    values = {name: table[name].to_pylist() for name in table.column_names if name in names}
    for name in ("embedding", "hashes"):
        if name in values:
            values[name] = [tuple(value or ()) for value in values[name]]
    return [Row(**{name: column[i] for name, column in values.items()}) for i in range(table.num_rows)]
