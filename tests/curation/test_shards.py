"""Shards hold the pieces exactly, open as training data, and the same rows give the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation.fates import keep
from diorama.curation.manifest import Row
from diorama.curation.shards import Plan, plan_shards, write_shard
from diorama.curation.sources import Source
from diorama.curation.trace import TraceConfig, trace_source
from diorama.data import ShardSet
from diorama.errors import DataError
from diorama.media import read_clip


def plan_of(*paths: Path, change: Callable[[Row], Row] = lambda row: row) -> Plan:
    sources = [Source(name=path.name, address=str(path), bytes=-1, facts={"caption": f"about {path.stem}"}) for path in paths]
    rows = [keep(change(row)) for source in sources for row in trace_source(source, TraceConfig(licence="CC0")) if not row.fate]
    return Plan(number=0, rows=tuple(rows), sources=tuple(sources))


def test_pieces_are_copied_to_the_frame_and_pictures_kept(tmp_path: Path, films: Callable[..., Path]) -> None:
    film, still = films("cuts.mp4", np.concatenate([pan(0, 30), pan(1, 26)])), films("still.png", pan(4, 1))
    rows = write_shard(tmp_path, plan_of(film, still))
    assert [(row.stored, row.shard, row.fate) for row in rows] == [("copied", "shard-00000", "kept")] * 2 + [("encoded", "shard-00000", "kept")]
    shards, whole = ShardSet(tmp_path), read_clip(film).frames
    np.testing.assert_array_equal(shards.frames(0), whole[:30])
    np.testing.assert_array_equal(shards.frames(1), whole[30:])
    np.testing.assert_array_equal(shards.frames(2), read_clip(still).frames)
    record = shards.record(1)
    assert record["captions"]["dense"] == ["about cuts"]
    assert record["provenance"]["licence"] == "CC0"
    assert record["provenance"]["span"] == [1.25, pytest.approx(56 / 24)]
    assert len(record["provenance"]["sha256"]) == 64
    assert record["scores"]["motion"] > 0


def test_cropped_pieces_are_encoded_without_the_bars(tmp_path: Path, films: Callable[..., Path]) -> None:
    frames = pan(2, 30).copy()
    frames[:, :, :20] = 0
    film = films("pillar.mp4", frames)
    (row,) = write_shard(tmp_path, plan_of(film))
    assert row.stored == "encoded"
    stored = ShardSet(tmp_path).frames(0)
    assert stored.shape == (30, 96, 128 - row.left, 3)
    assert np.abs(stored.astype(int) - read_clip(film).frames[:, :, row.left :]).mean() < 5


def test_uneven_times_are_brought_to_a_constant_rate(tmp_path: Path, films: Callable[..., Path]) -> None:
    film = films("even.mp4", pan(2, 30))
    (row,) = write_shard(tmp_path, plan_of(film, change=lambda row: dataclasses.replace(row, variable_rate=True, fps=12.0)))
    assert (row.stored, ShardSet(tmp_path).info(0).num_frames, ShardSet(tmp_path).info(0).fps) == ("encoded", 15, 12.0)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path, films: Callable[..., Path]) -> None:
    plan = plan_of(films("cuts.mp4", np.concatenate([pan(0, 30), pan(1, 26)])))
    write_shard(tmp_path / "a", plan)
    write_shard(tmp_path / "b", plan)
    for name in ("shard-00000.tar", "shard-00000.index.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["shard-00000.index.json", "shard-00000.tar"]


def test_a_source_that_went_away_is_a_dropped_row(tmp_path: Path, films: Callable[..., Path]) -> None:
    plan = plan_of(films("cuts.mp4", np.concatenate([pan(0, 30), pan(1, 26)])))
    gone = dataclasses.replace(plan, sources=(dataclasses.replace(plan.sources[0], address=str(tmp_path / "gone.mp4")),))
    rows = write_shard(tmp_path / "out", gone)
    assert [(row.fate, row.reason) for row in rows] == [("dropped", "damaged")] * 2
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, films: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(films("cuts.mp4", np.concatenate([pan(0, 30), pan(1, 26)])))

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tarfile.TarFile.addfile", full)
    with pytest.raises(DataError, match="disk is full"):
        write_shard(tmp_path, plan)
    assert not list(tmp_path.iterdir())


def test_shards_are_planned_by_size_alone() -> None:
    rows = [Row(source=f"{i // 3}", key=f"{i}", start=float(i % 3), end=i % 3 + 1.0, source_seconds=3.0, file_bytes=300) for i in range(9)]
    sources = {str(i): Source(name=str(i), address="", bytes=0, facts={}) for i in range(3)}
    plans = list(plan_shards(iter(rows), sources, max_bytes=400))
    assert [len(plan.rows) for plan in plans] == [4, 4, 1]
    assert [[source.name for source in plan.sources] for plan in plans] == [["0", "1"], ["1", "2"], ["2"]]
    assert [row for plan in plans for row in plan.rows] == rows
