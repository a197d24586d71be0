from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from diorama.cli import main
from diorama.text import Captioner, CaptionerConfig, PromptTokenizer, build_vocabulary

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
    with pytest.raises(SystemExit):
        main([*command, "--part", "first"])
    assert "such as 1/2" in capsys.readouterr().err


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a captioner that learned nothing."""
    folder = tmp_path_factory.mktemp("captioner")
    vocabulary = build_vocabulary(["[UNK]", "red", "ball"], ["red ball"], 160)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = CaptionerConfig(
            vocabulary_size=len(vocabulary), max_tokens=4, num_frames=2, area=1024, widths=(8, 8, 16), reach=1, num_heads=2, depth=1
        )
        Captioner(size, PromptTokenizer(vocabulary)).save(folder)
    return folder


def test_captions_prints_its_table(tmp_path: Path, captioner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", "captions", "--source", str(captioner), "--clips", "1", "--size", "48x48", "--out", str(tmp_path / "c"), "--device", "cpu"])
    out = capsys.readouterr().out
    assert f"{captioner}: 1 clips" in out
    assert "| colour" in out
    assert len(json.loads((tmp_path / "c" / "captions.jsonl").read_text())["caption"].split()) <= 3


def test_a_captioner_may_read_what_prompts_gave(tmp_path: Path, captioner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "prompt", "--reader", "captioner", "--captioner", str(captioner), "--prompts", "1", "--seeds", "1", "--limit", "1"]
    main([*command, "--steps", "1", "--device", "cpu", "--out", str(tmp_path / "e")])
    assert "colour" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(
            ["evaluate", "prompt", "--prompts", "1", "--seeds", "1", "--limit", "1", "--steps", "1", "--device", "cpu", "--out", str(tmp_path / "e")]
        )
    assert "answers of another model, judge" in capsys.readouterr().err
