"""The command runs the room, says what was kept, and refuses an empty result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diorama.cli.curate import run
from diorama.data import ShardSet
from diorama.errors import DataError
from diorama.media import Clip, save_clip


def make(path: Path, frames: int) -> None:
    rng = np.random.default_rng(0)
    base = np.repeat(np.repeat(rng.integers(0, 256, (12, 40, 3)), 8, 0), 8, 1).astype(np.uint8)
    save_clip(Clip(np.stack([base[:, 3 * i : 3 * i + 128] for i in range(frames)]), 24.0), path)


def test_a_folder_becomes_shards_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "raw" / "a.mp4", 30)
    out = tmp_path / "out"
    run([str(tmp_path / "raw"), "--out", str(out), "--workers", "0", "--limits.max-quality", "None", "--limits.max-upside-down", "None"])
    said = capsys.readouterr().out
    assert "1 files, 1.2 s: 1 of 1 pieces kept" in said
    assert len(ShardSet(out)) == 1
    assert (out / "report.html").is_file()
    run(["report", str(out), "-o", str(tmp_path / "page.html")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")


def test_an_empty_result_is_an_error_that_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "raw" / "a.mp4", 6)
    with pytest.raises(DataError, match="none of 1 pieces was kept"):
        run([str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--workers", "0"])
    assert "short" in capsys.readouterr().out
