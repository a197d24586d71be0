"""A folder to shards and a manifest without a row that has no fate; killed anywhere and started again it gives the same bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation import curate as module
from diorama.curation.curate import MANIFEST, Curation, CurationConfig, curate
from diorama.curation.fates import Limits
from diorama.curation.manifest import STAGES, Row, read_rows
from diorama.curation.report import write_report
from diorama.data import ShardSet
from diorama.errors import DataError, InputError
from diorama.media import Clip, resize, save_clip
from diorama.runtime import lock_folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a film of three shots, its copy in another codec, a still, a film that stands still, and four that are broken."""
    folder = tmp_path_factory.mktemp("raw")
    black = np.zeros((12, 96, 128, 3), np.uint8)
    film = Clip(np.concatenate([pan(0, 30), pan(1, 30), black, pan(2, 30)]), 24.0)
    save_clip(film, folder / "film.mp4")
    save_clip(Clip(resize(film.frames, (112, 84)), 24.0), folder / "sub" / "copy.webm")
    save_clip(Clip(np.repeat(pan(5, 1), 36, axis=0), 24.0), folder / "still stands.mp4")
    save_clip(Clip(pan(6, 1), 1.0), folder / "picture.png")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "notes.mp4").write_bytes(b"words and no film at all, nothing to see here" * 8)
    (folder / "gone.mp4").symlink_to(folder / "nowhere")
    (folder / "facts.tsv").write_text("file\tlicence\tcaption\nfilm.mp4\tCC0\ta wall\n")
    return folder


def config_of(**limits: float | None) -> CurationConfig:
    """Return a config whose limits do not ask blocks of colour to look natural."""
    return CurationConfig(limits=Limits(**{"max_quality": None, "max_upside_down": None} | limits))  # type: ignore[arg-type]


def run_of(raw: Path, out: Path, **changes: Any) -> Curation:
    return dataclasses.replace(Curation(source=str(raw), out=out, workers=0, facts=raw / "facts.tsv", config=config_of()), **changes)


def digest(folder: Path) -> dict[str, str]:
    names = [MANIFEST, *(path.name for path in folder.glob("shard-*"))]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module")
def done(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done")
    curate(run_of(raw, out))
    return out


def test_every_piece_has_a_fate_and_every_second_is_told(raw: Path, done: Path) -> None:
    rows = read_rows(done / MANIFEST)
    assert all(row.fate in ("kept", "dropped") and row.reason and row.stage for row in rows)
    reasons = {(row.source, row.piece): row.reason for row in rows}
    assert reasons["film.mp4", 2] == "black"
    assert [reasons["film.mp4", i] for i in (0, 1, 3)] == ["kept"] * 3
    assert [reasons["sub/copy.webm", i] for i in (0, 1, 3)] == ["duplicate"] * 3
    assert [reasons[name, 0] for name in ("still stands.mp4", "picture.png", "empty.mp4", "notes.mp4", "gone.mp4")] == [
        "static", "kept", "empty", "not video", "unreadable"
    ]  # fmt: skip
    film = [row for row in rows if row.source == "film.mp4"]
    assert sum(row.seconds for row in film) == pytest.approx(film[0].source_seconds)
    assert all(row.versions.endswith(f"shards {STAGES['shards']}") for row in rows if row.fate == "kept")


def test_what_was_changed_about_kept_pieces_is_said(tmp_path: Path, films: Callable[..., Path]) -> None:
    frames = np.concatenate([pan(0, 30), pan(1, 30)])
    frames[:, :12] = frames[:, -12:] = 0
    summary = curate(Curation(source=str(films("barred.mp4", frames)), out=tmp_path, workers=0, config=config_of()))
    assert summary.mended == {"bars cropped": 2}
    assert summary.lines()[2] == "    of these: 2 bars cropped"
    assert "<p>2 bars cropped.</p>" in write_report(tmp_path).read_text(encoding="utf-8")


def test_the_shards_open_as_training_data(done: Path) -> None:
    shards = ShardSet(done)
    assert [shards.info(i).num_frames for i in range(len(shards))] == [30, 30, 30, 1]
    record = shards.record(0)
    assert (record["captions"]["dense"], record["provenance"]["source"], record["provenance"]["licence"]) == (["a wall"], "film.mp4", "CC0")


def test_a_second_run_does_nothing_and_processes_change_nothing(raw: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(done)
    curate(run_of(raw, tmp_path / "two", workers=2))
    assert digest(tmp_path / "two") == before
    monkeypatch.setattr(module, "trace_source", lambda *args, **kwargs: pytest.fail("traced again"))
    monkeypatch.setattr(module, "write_shard", lambda *args, **kwargs: pytest.fail("written again"))
    curate(run_of(raw, done))
    assert digest(done) == before


_KILLED = """
import os, sys
from pathlib import Path
import diorama.curation.curate as module, diorama.curation.shards as shards, diorama.curation.manifest as manifest
left = int(sys.argv[3])
def dying(real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return real(*args, **kwargs)
    return call
Path.replace = dying(Path.replace)
limits = module.Limits(max_quality=None, max_upside_down=None)
config = module.CurationConfig(limits=limits)
module.curate(module.Curation(source=sys.argv[1], out=Path(sys.argv[2]), workers=0, facts=Path(sys.argv[1]) / "facts.tsv", config=config))
"""


@pytest.mark.parametrize("moves", [0, 3, 7, 8, 9, 10])
def test_killed_at_any_stage_it_goes_on_to_the_same_bytes(raw: Path, done: Path, tmp_path: Path, moves: int) -> None:
    out = tmp_path / "out"
    # The traced parts come first, then the tar, its index, the rows of the shard and the manifest; each is moved into place.
    if moves >= 7:
        shutil.copytree(done / "stages" / "trace", out / "stages" / "trace")
    command = [sys.executable, "-c", _KILLED, str(raw), str(out), str(moves - 7 if moves >= 7 else moves)]
    assert subprocess.run(command, env=os.environ, check=False).returncode == -9
    assert not (out / MANIFEST).exists()
    curate(run_of(raw, out))
    assert digest(out) == digest(done)


def test_other_limits_choose_anew_without_looking_again(raw: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(done, tmp_path / "out")
    monkeypatch.setattr(module, "trace_source", lambda *args, **kwargs: pytest.fail("traced again"))
    summary = curate(run_of(raw, tmp_path / "out", config=config_of(min_seconds=1.1, max_static=None)))
    assert summary.kept == 5
    summary = curate(run_of(raw, tmp_path / "out", config=config_of(min_seconds=9.0)))
    assert summary.kept == 1
    assert len(ShardSet(tmp_path / "out")) == 1
    assert "kept" in summary.lines()[1]


def test_killed_amid_another_choice_the_first_one_is_written_anew(raw: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(done, tmp_path / "out")
    with monkeypatch.context() as patch:
        real = module.write_rows
        patch.setattr(module, "write_rows", lambda path, *rest, **more: real(path, *rest, **more) if "shards" not in path.parts else 1 // 0)
        with pytest.raises(ZeroDivisionError):  # the tar of the second choice is in place, its rows are not
            curate(run_of(raw, tmp_path / "out", config=config_of(min_seconds=1.1, max_static=None)))
    assert len(ShardSet(tmp_path / "out")) == 5
    curate(run_of(raw, tmp_path / "out"))
    assert digest(tmp_path / "out") == digest(done)


class Words:
    identity = "words 1"

    def __call__(self, rows: Sequence[Row], clip: Callable[[Row], Clip]) -> list[Row]:
        return [row if row.caption else dataclasses.replace(row, caption=f"{clip(row).num_frames} frames", captioner="words") for row in rows]


def test_captions_are_written_into_rows_and_records(raw: Path, tmp_path: Path) -> None:
    curate(run_of(raw, tmp_path), captions=Words())
    kept = [row for row in read_rows(tmp_path / MANIFEST) if row.fate == "kept"]
    assert [(row.caption, row.captioner) for row in kept] == [("a wall", "facts")] * 3 + [("1 frames", "words")]
    assert ShardSet(tmp_path).record(3)["captions"]["dense"] == ["1 frames"]
    assert all("captions 1" in row.versions for row in kept)


def test_one_run_at_a_time(raw: Path, tmp_path: Path) -> None:
    with lock_folder(tmp_path, "curating into"), pytest.raises(DataError, match="another run"):
        curate(run_of(raw, tmp_path))


def test_nothing_to_curate_is_said(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError, match="no files"):
        curate(Curation(source=str(tmp_path / "raw"), out=tmp_path / "out", workers=0))


def test_a_full_disk_stops_and_the_next_run_finishes(raw: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tarfile.TarFile.addfile", full)
        with pytest.raises(DataError, match="disk is full"):
            curate(run_of(raw, tmp_path))
    assert not (tmp_path / MANIFEST).exists()
    curate(run_of(raw, tmp_path))
    assert digest(tmp_path) == digest(done)
