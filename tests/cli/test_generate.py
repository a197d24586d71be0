"""Text in, video out, by the packaged model at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from diorama.cli import main
from diorama.cli.generate import numbered
from diorama.media import probe

SMALL = ("--size", "48x32", "--seconds", "0.4", "--steps", "2", "--device", "cpu")


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for file in files:
        main(["generate", "a red ball", *SMALL, "--seed", "3", "-o", str(file)])
    assert files[0].read_bytes() == files[1].read_bytes()
    info = probe(files[0])
    assert (info.width, info.height, info.num_frames) == (48, 32, 5)


def test_variations_and_pictures_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["a blue cube", *SMALL, "--seed", "3", "--variations", "2", "--thumbnail", "--contact-sheet", "-o", str(tmp_path / "v.gif")])
    out = capsys.readouterr().out
    assert "seed 3" in out
    assert "seed 4" in out
    expected = {f"v-{i}{end}" for i in (1, 2) for end in (".gif", "-thumbnail.png", "-sheet.png")}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert (tmp_path / "v-1.gif").read_bytes() != (tmp_path / "v-2.gif").read_bytes()


def test_rewrite_is_shown_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["a crimson orb", *SMALL, "--seed", "3", "--rewrite", "-o", str(tmp_path / "r.mp4")])
    shown = capsys.readouterr().err
    main(["inspect", str(tmp_path / "r.mp4")])
    recorded = capsys.readouterr().out
    assert "prompt:" in shown
    assert "red" in recorded


def test_a_prompt_of_several_moments_becomes_a_storyboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = "a red ball rolls left, then it stops"
    size = ("--size", "48x32", "--steps", "2", "--device", "cpu", "--seed", "3")
    main([story, *size, "--seconds", "2.1", "--rewrite", "-o", str(tmp_path / "s.mp4")])
    shown = capsys.readouterr().err
    assert shown.count("card at") == 2
    assert "card at 0.0 s" in shown
    assert probe(tmp_path / "s.mp4").num_frames == 25
    main(["inspect", str(tmp_path / "s.mp4")])
    assert "storyboard" in capsys.readouterr().out


def test_numbered() -> None:
    assert numbered("a/b.mp4", 0, 1) == "a/b.mp4"
    assert numbered("a/b.mp4", 1, 3) == "a/b-2.mp4"
    assert numbered("a/b/", 1, 3) == "a/b-2/"
