"""What there is to curate: files of a local folder, of an S3-like store or of the web, listed in order of their names."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from diorama.errors import DataError, InputError, MissingExtraError

__all__ = ["Source", "content_hash", "list_sources", "local_copy", "read_facts"]

_CHUNK = 2**20
_SIDE = (".txt", ".json", ".srt", ".vtt", ".md", ".csv", ".tsv")  # what lies beside videos and is none


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file."""

    name: str
    """Path inside the folder, with forward slashes; the last part of the address for a single file."""
    address: str
    """Where to read it: a local path or a URL."""
    bytes: int
    """Size; -1 if the store does not say."""
    facts: Mapping[str, str]
    """What the facts file or a text file beside it says: licence, caption, caption_short."""


def _is_remote(address: str) -> bool:
    return "://" in address


def _filesystem(address: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "curation", f"reading {address}") from error
    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address} cannot be opened ({error}); install what that kind of address needs, or copy the files to a folder") from error
    return system, path


def list_sources(address: str, facts: Mapping[str, Mapping[str, str]] | None = None) -> list[Source]:
    """Return the files under an address, in order of their names; hidden files and notes beside videos are left out.

    Args:
        address: A local folder or file, or any address fsspec reads, such as ``s3://bucket/videos`` or ``https://host/clip.mp4``.
        facts: What is known about files by name, see ``read_facts``.

    Raises:
        InputError: there is nothing there, or nothing of it is in the facts.
    """
    for local in ("file://", "local://"):
        address = address.removeprefix(local)
    found = _list_remote(address) if _is_remote(address) else _list_local(Path(address))
    if not found:
        raise InputError(f"{address} holds no files; give a folder of videos or pictures")
    known = facts or {}
    if known and known.keys().isdisjoint(name for name, _, _ in found):
        raise InputError(
            f"none of the {len(known)} files that the facts name, such as '{next(iter(known))}', is in {address}; "
            f"its files are named by their path inside it, such as '{min(found)[0]}'"
        )
    return [Source(name=name, address=where, bytes=size, facts={**_beside(where), **known.get(name, {})}) for name, where, size in sorted(found)]


def _list_local(root: Path) -> list[tuple[str, str, int]]:
    if root.is_file():
        return [(root.name, str(root), root.stat().st_size)]
    if not root.is_dir():
        raise InputError(f"there is no folder or file {root}; check the name")
    found = []
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if any(part.startswith(".") for part in inside.parts) or path.is_dir() or path.suffix.lower() in _SIDE:
            continue
        with contextlib.suppress(OSError):
            found.append((inside.as_posix(), str(path), path.stat().st_size))
            continue
        found.append((inside.as_posix(), str(path), -1))
    return found


def _list_remote(address: str) -> list[tuple[str, str, int]]:
    system, root = _filesystem(address)
    try:
        if urlsplit(address).scheme in ("http", "https") and Path(urlsplit(address).path).suffix:
            return [(Path(urlsplit(address).path).name, address, int(system.info(root).get("size") or -1))]
        entries = system.find(root, detail=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{address} cannot be listed ({error}); check the address and your access to it") from error
    found = []
    for path, entry in entries.items():
        name = path.removeprefix(root).lstrip("/") or Path(path).name
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not hidden and Path(name).suffix.lower() not in _SIDE and entry.get("type", "file") != "directory":
            found.append((name, system.unstrip_protocol(path), int(entry.get("size") or -1)))
    return found


def _beside(address: str) -> dict[str, str]:
    """Return the caption in a text file of the same name beside a local file, as image and video trainers keep them."""
    path = Path(address)
    if _is_remote(address) or not path.with_suffix(".txt").is_file():
        return {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return {"caption": path.with_suffix(".txt").read_text(encoding="utf-8").strip()}
    return {}


def read_facts(path: Path) -> dict[str, dict[str, str]]:
    """Read what is known about files: a table (csv, tsv) or JSON lines with a ``file`` and any of licence, caption, caption_short.

    Raises:
        InputError: the file cannot be read or has no ``file`` column.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() in (".jsonl", ".json"):
            rows = [dict(json.loads(line)) for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(text.splitlines(), delimiter="," if path.suffix.lower() == ".csv" else "\t"))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"facts file {path} cannot be read ({error}); give a csv or tsv table, or JSON lines") from error
    if not rows or "file" not in rows[0]:
        raise InputError(f"facts file {path} has no column 'file'; name the columns file, licence, caption and caption_short in its first line")
    wanted = ("licence", "caption", "caption_short")
    return {str(row["file"]): {name: str(row[name]) for name in wanted if row.get(name)} for row in rows}


@contextlib.contextmanager
def local_copy(source: Source) -> Iterator[Path]:
    """Give a local path for a source; a remote file is copied to a temporary one for as long as it is needed.

    Raises:
        DataError: the remote file cannot be read, or the disk is full.
    """
    if not _is_remote(source.address):
        yield Path(source.address)
        return
    system, path = _filesystem(source.address)
    with tempfile.TemporaryDirectory(prefix="diorama-") as folder:
        copy = Path(folder) / (Path(source.name).name or "file")
        try:
            with system.open(path, "rb") as remote, copy.open("wb") as file:
                shutil.copyfileobj(remote, file, _CHUNK)
        except OSError as error:
            raise DataError(f"{source.address} cannot be read ({error}); check your access to it and run the same command again") from error
        yield copy


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; an empty string if it cannot be read or is a pipe, a socket or a device."""
    if not path.is_file():  # a pipe without a writer would be read for ever
        return ""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
