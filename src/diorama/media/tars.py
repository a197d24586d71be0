"""Samples into tar files that are written whole or not at all: WebDataset's naming, with an index beside each tar for random access.

``shard-00000.tar`` holds ``<key>.mp4`` (``<key>.png`` for a still) and ``<key>.json``; ``shard-00000.index.json`` says where
each lies and how large its frames are. The index is written last: a shard without one does not exist.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diorama.errors import DataError, cannot_write

__all__ = ["CodedSample", "SampleInfo", "shard_name", "write_tar"]


@dataclass(frozen=True, kw_only=True)
class CodedSample:
    """One clip as it lies in a tar."""

    key: str
    """Name inside the tar: letters, digits, ``-`` and ``_``."""
    kind: str
    """``mp4`` or ``png``."""
    data: bytes
    """The pictures, in that format."""
    record: Mapping[str, Any]
    """What is known about it, as JSON can hold it."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    num_frames: int
    fps: float
    """Frames a second."""


@dataclass(frozen=True, kw_only=True)
class SampleInfo:
    """Where a sample lies and how large it is: its entry in the index."""

    key: str
    kind: str
    """``mp4`` or ``png``."""
    offset: int
    """Byte in the tar at which the pictures start."""
    size: int
    """Bytes of the pictures."""
    record_offset: int
    """Byte in the tar at which the record starts."""
    record_size: int
    """Bytes of the record."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    num_frames: int
    fps: float


def shard_name(number: int) -> str:
    """Return the name of a shard, such as ``shard-00000``."""
    return f"shard-{number:05d}"


def write_tar(folder: Path, number: int, samples: Iterable[CodedSample]) -> list[SampleInfo]:
    """Write one shard whole or not at all in place of an older one; the same samples give the same bytes.

    Args:
        folder: Where; made if absent.
        number: The shard's number.
        samples: Taken one at a time. If there are none, no shard is left.

    Raises:
        DataError: the disk is full, the folder is not writable, or a key is not allowed.
    """
    name = shard_name(number)
    tar_path, index = folder / f"{name}.tar", folder / f"{name}.index.json"
    fresh, fresh_index = (folder / f".{name}.{kind}.{os.getpid()}" for kind in ("tar", "index"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fresh, "w", format=tarfile.USTAR_FORMAT) as tar:
            infos = [_add_sample(tar, sample) for sample in samples]
        fresh_index.write_text(json.dumps({"samples": [dataclasses.asdict(info) for info in infos]}, indent=1) + "\n", encoding="utf-8")
        index.unlink(missing_ok=True)
        if not infos:
            tar_path.unlink(missing_ok=True)
            return infos
        fresh.replace(tar_path)
        fresh_index.replace(index)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        fresh.unlink(missing_ok=True)
        fresh_index.unlink(missing_ok=True)
    return infos


def _add_sample(tar: tarfile.TarFile, sample: CodedSample) -> SampleInfo:
    if re.fullmatch(r"[A-Za-z0-9_-]{1,90}", sample.key) is None:
        raise DataError(f"sample key '{sample.key}' is not allowed: use up to 90 letters, digits, - and _")
    record = json.dumps(dict(sample.record), sort_keys=True).encode()
    return SampleInfo(
        key=sample.key,
        kind=sample.kind,
        offset=_add_member(tar, f"{sample.key}.{sample.kind}", sample.data),
        size=len(sample.data),
        record_offset=_add_member(tar, f"{sample.key}.json", record),
        record_size=len(record),
        height=sample.height,
        width=sample.width,
        num_frames=sample.num_frames,
        fps=sample.fps,
    )


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, io.BytesIO(data))
    return offset
