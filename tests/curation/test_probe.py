"""Every way a file can be unusable has its own reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.curation.conftest import pan

from diorama.curation.probe import probe_source
from diorama.curation.sources import Source


def look(path: Path, **facts: str) -> tuple[str, str, str]:
    row = probe_source(Source(name=path.name, address=str(path), bytes=-1, facts=facts), path)
    return row.reason, row.kind, row.detail


def test_a_film_is_described(films: Callable[..., Path]) -> None:
    path = films("film.mp4", pan(0, 12))
    row = probe_source(Source(name="film.mp4", address=str(path), bytes=-1, facts={"caption": "a wall", "licence": "CC0"}), path)
    assert (row.fate, row.kind, row.width, row.height, row.num_frames, row.fps) == ("", "video", 128, 96, 12, 24.0)
    assert (row.licence, row.caption, row.captioner, row.color_range) == ("CC0", "a wall", "facts", "limited")
    assert len(row.sha256) == 64


def test_a_picture_is_one(films: Callable[..., Path]) -> None:
    assert look(films("still.png", pan(0, 1)))[1] == "image"


def test_faults_have_their_reasons(tmp_path: Path) -> None:
    mkv = b"\x1a\x45\xdf\xa3" + b"\x00" * 20 + b"\x18\x53\x80\x67\x01\x00\x00\x00\x00\xff\xff\xff" + b"\x00" * 64
    files = {
        "empty.mp4": b"",
        "cut.mp4": b"\0\0\0\x14ftypisom\0\0\2\0mp41\0\1\0\0mdat" + b"\x55" * 400,
        "notes.mp4": b"just words, no film at all, sorry" * 9,
        "cut.mkv": mkv,
    }
    found = {}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        found[name] = look(tmp_path / name)[0]
    assert found == {"empty.mp4": "empty", "cut.mp4": "truncated", "notes.mp4": "not video", "cut.mkv": "truncated"}


@pytest.mark.parametrize("name", ["gone.mp4"])
def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    reason, kind, detail = look(tmp_path / name)
    assert (reason, kind) == ("unreadable", "file")
    assert name in detail
