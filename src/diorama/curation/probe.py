"""The first look at a source: what it is, or why it cannot be used."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from diorama.curation.manifest import Row
from diorama.curation.sources import Source, content_hash
from diorama.errors import MediaError
from diorama.media import probe

__all__ = ["fault", "probe_source"]

_MAGIC = (b"\x1a\x45\xdf\xa3", b"RIFF", b"GIF8", b"\x89PNG", b"\xff\xd8\xff", b"FLV", b"OggS", b"\x00\x00\x01\xba", b"\x47\x40", b"0&\xb2u")
_TYPES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # first boxes of mp4 and mov files


def probe_source(source: Source, path: Path) -> Row:
    """Return the row of a source: facts if it opens, else dropped with the reason.

    Args:
        source: Where it comes from.
        path: A local copy.
    """
    digest = content_hash(path)
    name = hashlib.sha256(f"{source.name}\n{digest}".encode()).hexdigest()[:12]
    caption = source.facts.get("caption", "")
    size = path.stat().st_size if path.is_file() else max(0, source.bytes)
    row = Row(
        source=source.name,
        key=name,
        file_bytes=size,
        sha256=digest,
        licence=source.facts.get("licence", ""),
        caption=caption,
        caption_short=source.facts.get("caption_short", ""),
        captioner="facts" if caption else "",
    )
    if not digest:
        return row.dropped("unreadable", "probe", f"{source.name} cannot be read; check that it exists, that it is a file and that you may read it")
    if not size:
        return row.dropped("empty", "probe", f"{source.name} has 0 bytes; copy it again", figure=0.0, limit=1.0)
    try:
        info = probe(path)
    except MediaError as error:
        reason, detail = fault(error, path, source.name)
        return row.dropped(reason, "probe", detail)
    return dataclasses.replace(
        row,
        kind="image" if info.num_frames == 1 and info.codec in _PICTURES else "video",
        end=info.seconds,
        num_frames=info.num_frames,
        format=info.format,
        codec=info.codec,
        width=info.width,
        height=info.height,
        fps=info.fps,
        rotation=info.rotation,
        pixel_aspect=info.pixel_aspect,
        color_range=info.color_range,
        has_audio=info.has_audio,
        source_seconds=info.seconds,
    )


_PICTURES = ("png", "jpeg", "mpo", "webp", "bmp", "tiff", "avif", "gif")


def fault(error: MediaError, path: Path, name: str) -> tuple[str, str]:
    """Return the reason for a fault of a file, and the sentence, with the source's name in place of the path of a copy."""
    text = str(error).replace(str(path), name)
    if "no video stream" in text:
        return "not video", text
    if "0 frames" in text:
        return "no frames", text
    if "truncated:" in text:
        return "truncated", text
    if "not a media file" in text:
        with path.open("rb") as file:
            head = file.read(16)
        known = head.startswith(_MAGIC) or head[4:8] in _TYPES
        return ("truncated", text) if known else ("not video", text)
    if "cannot be read" in text or "no file" in text:
        return "unreadable", text
    return "damaged", text
