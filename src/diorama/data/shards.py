"""Training clips in tar files: made of frames, and read at random by the index beside each tar.

How the files look is said in ``media.tars``, which writes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from diorama.errors import DataError, MediaError
from diorama.media import Pixels, decode_bytes, decode_picture, encode_bytes, encode_picture
from diorama.media.tars import CodedSample, SampleInfo, write_tar

__all__ = ["Sample", "SampleInfo", "ShardSet", "ShardWriter", "shard_names", "write_shard"]

_INDEX = re.compile(r"shard-(\d{5,})\.index\.json")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip on its way into a shard."""

    key: str
    """Name inside the tar: letters, digits, ``-`` and ``_``."""
    frames: Pixels
    """``[T, H, W, 3]`` uint8; one frame is a still."""
    fps: float
    """Frames a second."""
    record: Mapping[str, Any]
    """What is known about it, as JSON can hold it."""


def shard_names(folder: Path) -> list[str]:
    """Return the names, such as ``shard-00000``, of the complete shards of a folder, in order."""
    names = [match.group(0).removesuffix(".index.json") for path in folder.glob("shard-*.index.json") if (match := _INDEX.fullmatch(path.name))]
    return sorted(names, key=lambda name: int(name.removeprefix("shard-")))


def write_shard(folder: Path, number: int, samples: Iterable[Sample], *, crf: int = 8, full_chroma: bool = True) -> list[SampleInfo]:
    """Write one shard whole or not at all; the same samples give the same bytes.

    Args:
        folder: Where; made if absent.
        number: The shard's number.
        samples: The clips, taken one at a time. If there are none, no shard is left.
        crf: x264's rate factor; 8 keeps 43 to 45 dB on rendered worlds.
        full_chroma: Keep colour at full resolution.

    Raises:
        DataError: the disk is full, the folder is not writable, or a key is not allowed.
    """
    return write_tar(folder, number, (_coded(sample, crf, full_chroma) for sample in samples))


def _coded(sample: Sample, crf: int, full_chroma: bool) -> CodedSample:
    num_frames, height, width = sample.frames.shape[:3]
    still = num_frames == 1
    return CodedSample(
        key=sample.key,
        kind="png" if still else "mp4",
        data=encode_picture(sample.frames[0]) if still else encode_bytes(sample.frames, sample.fps, crf=crf, full_chroma=full_chroma),
        record=sample.record,
        height=height,
        width=width,
        num_frames=num_frames,
        fps=sample.fps,
    )


class ShardWriter:
    """Gathers samples into shards of a bounded size, after those that the folder already holds.

    Args:
        folder: Where.
        max_bytes: A shard is written when its frames, before compression, pass this many bytes.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int = 2**28) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.keys = {info.key for name in shard_names(self.folder) for info in _read_index(self.folder, name)}
        self._waiting: list[Sample] = []
        self._bytes = 0

    def add(self, sample: Sample) -> bool:
        """Take a sample unless its key is already in the folder; return whether it was taken.

        Raises:
            DataError: the disk is full or the folder is not writable.
        """
        if sample.key in self.keys:
            return False
        self.keys.add(sample.key)
        self._waiting.append(sample)
        self._bytes += sample.frames.nbytes
        if self._bytes >= self.max_bytes:
            self.flush()
        return True

    def flush(self) -> None:
        """Write what waits as a shard.

        Raises:
            DataError: the disk is full or the folder is not writable.
        """
        if self._waiting:
            names = shard_names(self.folder)
            number = int(names[-1].removeprefix("shard-")) + 1 if names else 0
            write_shard(self.folder, number, self._waiting)
            self._waiting, self._bytes = [], 0


def _read_index(folder: Path, name: str) -> list[SampleInfo]:
    path = folder / f"{name}.index.json"
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))["samples"]
        return [SampleInfo(**sample) for sample in samples]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"shard index {path} is damaged; delete it and its tar, and make the shard again") from error


class ShardSet:
    """Random access to the samples of one or several shard folders.

    Args:
        folders: A folder or several.

    Raises:
        DataError: a folder is missing or holds no samples, or an index or tar is damaged or missing.
    """

    def __init__(self, folders: str | Path | Sequence[str | Path]) -> None:
        paths = [folders] if isinstance(folders, str | Path) else folders
        self.folders = [Path(path) for path in paths]
        if not self.folders:
            raise DataError("a training set of 0 folders is empty; name at least one folder of shards")
        self._samples: list[tuple[Path, SampleInfo]] = []
        for folder in self.folders:
            self._add_folder(folder)

    def _add_folder(self, folder: Path) -> None:
        before = len(self._samples)
        for name in shard_names(folder) if folder.is_dir() else []:
            tar, infos = folder / f"{name}.tar", _read_index(folder, name)
            size = tar.stat().st_size if tar.is_file() else 0
            if infos and max(info.record_offset + info.record_size for info in infos) > size:
                state = "truncated" if size else "missing"
                raise DataError(f"shard {tar} is {state}: {size} bytes; delete it and its index, and make the shard again")
            self._samples.extend((tar, info) for info in infos)
        if len(self._samples) == before:
            why = "it holds no finished shards" if folder.is_dir() else "there is no such folder"
            raise DataError(f"training set {folder} is empty: {why}; make one with: diorama worlds render --count 1000 --out {folder}")

    def __len__(self) -> int:
        return len(self._samples)

    def info(self, index: int) -> SampleInfo:
        """Return the size of a sample without decoding it."""
        return self._samples[index][1]

    def name(self, index: int) -> str:
        """Return what to call a sample in messages: the tar and the key."""
        tar, info = self._samples[index]
        return f"{tar}:{info.key}"

    def _bytes(self, index: int, offset: int, size: int) -> bytes:
        tar = self._samples[index][0]
        try:
            with tar.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise DataError(f"shard {tar} cannot be read: {(error.strerror or str(error)).lower()}") from error
        if len(data) != size:
            raise DataError(f"shard {tar} is truncated; delete it and its index, and make the shard again")
        return data

    def record(self, index: int) -> dict[str, Any]:
        """Return what is known about a sample.

        Raises:
            DataError: the tar is damaged.
        """
        info = self.info(index)
        try:
            return dict(json.loads(self._bytes(index, info.record_offset, info.record_size)))
        except ValueError as error:
            raise DataError(f"shard {self._samples[index][0]} is damaged at sample {info.key}; delete it and its index, and make it again") from error

    def frames(self, index: int) -> Pixels:
        """Return the frames of a sample, ``[T, H, W, 3]`` uint8.

        Raises:
            DataError: the tar is damaged.
        """
        info = self.info(index)
        data = self._bytes(index, info.offset, info.size)
        try:
            frames = decode_picture(data)[None] if info.kind == "png" else decode_bytes(data)
        except MediaError as error:
            raise DataError(f"shard {self._samples[index][0]} is damaged at sample {info.key}; delete it and its index, and make it again") from error
        if frames.shape[:3] != (info.num_frames, info.height, info.width):
            raise DataError(f"shard {self._samples[index][0]} does not match its index at sample {info.key}; delete both and make the shard again")
        return frames

    def read(self, index: int) -> tuple[Pixels, dict[str, Any]]:
        """Return ``(frames, record)`` of a sample.

        Raises:
            DataError: the tar is damaged.
        """
        return self.frames(index), self.record(index)

    def tars(self) -> list[range]:
        """Return the samples of each tar, in order."""
        starts = [i for i in range(len(self)) if i == 0 or self._samples[i][0] != self._samples[i - 1][0]]
        return [range(start, end) for start, end in pairwise([*starts, len(self)])]

    def fingerprint(self, samples: range | None = None) -> str:
        """Return 16 hex digits that change with the keys and sizes of samples, all of them if None; folders may move."""
        digest = hashlib.sha256()
        for tar, info in self._samples if samples is None else self._samples[samples.start : samples.stop]:
            digest.update(f"{tar.name}/{info.key}/{info.size}/{info.record_size}/{info.num_frames}\n".encode())
        return digest.hexdigest()[:16]
