from __future__ import annotations

from pathlib import Path

import pytest

from diorama.cli import main

pytest.importorskip("mujoco", reason="MuJoCo is not installed")


def test_reconstruction_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", "reconstruction", "--clips", "1", "--long-seconds", "0", "--device", "cpu"])
    out = capsys.readouterr().out
    assert "PSNR" in out
    assert "reconstruction of 1 clips" in out


def test_prompt_prints_its_table_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "prompt", "--prompts", "2", "--seeds", "1", "--limit", "1", "--steps", "1", "--device", "cpu"]
    command += ["--out", str(tmp_path / "e")]
    main(command)
    first = capsys.readouterr().out
    main(command)
    assert "colour" in first
    assert capsys.readouterr().out.splitlines()[3:] == first.splitlines()[3:]
    assert len(list((tmp_path / "e" / "sheets").iterdir())) == 1
