"""Rows survive the file, and the same rows give the same bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from diorama.curation import manifest
from diorama.curation.manifest import REASONS, Row, pending, read_rows, write_rows
from diorama.errors import DataError

ROW = Row(
    source="a.mp4", key="k-0000", start=0.5, end=2.0, motion=0.25, embedding=(0.5, -0.5), hashes=(-3, 2**62), prints=b"\x00\xff", width=8, height=6
)


def test_rows_come_back(tmp_path: Path) -> None:
    rows = [ROW, dataclasses.replace(ROW, key="k-0001", motion=None, embedding=(), hashes=()).dropped("short", "fates", "too short", figure=0.5)]
    write_rows(tmp_path / "rows.parquet", [rows[:1], rows[1:]])
    assert read_rows(tmp_path / "rows.parquet") == rows


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / name, [[ROW]])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_columns_can_be_left_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", [[ROW]], without=("prints",))
    assert read_rows(tmp_path / "rows")[0] == dataclasses.replace(ROW, prints=b"")
    assert read_rows(tmp_path / "rows", ["source"])[0] == Row(source="a.mp4")


def test_only_open_rows_are_pending_and_reasons_are_known() -> None:
    dropped = ROW.dropped("black", "cuts", "dark")
    assert pending([ROW, dropped]) == [ROW]
    assert (dropped.fate, dropped.reason, dropped.stage) == ("dropped", "black", "cuts")
    assert all(meaning for meaning in REASONS.values())


def test_the_box_is_the_whole_frame_unless_bars_were_found() -> None:
    assert ROW.box == (0, 0, 8, 6)
    assert dataclasses.replace(ROW, top=2, right=8, bottom=4).size == (8, 2)


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="damaged"):
        read_rows(tmp_path / "rows")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "rows", [[ROW]])
    before = (tmp_path / "rows").read_bytes()

    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest.library().parquet.ParquetWriter, "write_table", full)
    with pytest.raises(DataError, match="the disk is full"):
        write_rows(tmp_path / "rows", [[ROW]])
    assert (tmp_path / "rows").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
