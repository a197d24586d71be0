from __future__ import annotations

from pathlib import Path

import pytest

from diorama.cli import main
from diorama.data import ShardSet
from diorama.media import probe

pytest.importorskip("mujoco", reason="MuJoCo is not installed")


def test_preview_writes_a_clip_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["worlds", "preview", "--seed", "5", "--size", "64x48", "--seconds", "0.4", "--device", "cpu", "-o", str(tmp_path / "w.mp4")])
    assert probe(tmp_path / "w.mp4").num_frames == 5
    assert (tmp_path / "w-sheet.png").exists()
    assert "dense: " in capsys.readouterr().out


def test_render_fills_a_folder_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count in ("1", "2"):
        main(["worlds", "render", "--count", count, "--out", str(tmp_path / "w"), "--workers", "0"])
    assert len(ShardSet(tmp_path / "w")) == 2
    assert "2 clips" in capsys.readouterr().out


def test_stills_are_pictures(tmp_path: Path) -> None:
    main(["worlds", "render", "--count", "2", "--stills", "--out", str(tmp_path / "w"), "--workers", "0"])
    stills = ShardSet(tmp_path / "w")
    assert [(stills.info(i).kind, stills.info(i).num_frames) for i in range(2)] == [("png", 1)] * 2


def test_every_world_has_the_bodies_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["worlds", "render", "--stills", "--out", str(tmp_path / "w"), "--workers", "0"]
    main([*ask, "--count", "2", "--bodies", "3"])
    shards = ShardSet(tmp_path / "w")
    assert [len(shards.record(index)["scene"]["bodies"]) for index in range(2)] == [3, 3]
    for bodies, said in (("2", "another mixture"), ("5", "allowed are 1 to 4")):
        with pytest.raises(SystemExit):
            main([*ask, "--count", "3", "--bodies", bodies])
        assert said in capsys.readouterr().err
