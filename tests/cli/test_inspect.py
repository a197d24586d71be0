from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diorama.cli import main
from diorama.media import Clip, save_clip

FRAMES = np.zeros((3, 32, 48, 3), np.uint8)


def test_inspect_tells_file_and_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_clip(Clip(FRAMES, 12.0, {"diorama": json.dumps({"prompt": "a red ball", "seed": 7})}), tmp_path / "a.mp4")
    main(["inspect", str(tmp_path / "a.mp4")])
    out = capsys.readouterr().out
    assert "a red ball" in out
    assert "48" in out
    main(["inspect", str(tmp_path / "a.mp4"), "--as-json"])
    parsed = json.loads(capsys.readouterr().out)
    assert parsed["made"]["seed"] == 7
    assert parsed["file"]["num_frames"] == 3


def test_a_file_of_others_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_clip(Clip(FRAMES, 12.0), tmp_path / "a.mp4")
    main(["inspect", str(tmp_path / "a.mp4")])
    assert "not made with Diorama" in capsys.readouterr().out
