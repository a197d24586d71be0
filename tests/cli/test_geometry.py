from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.checkpoint import write_text
from diorama.cli import main
from diorama.config import to_dict
from diorama.media import Clip
from diorama.train.optim import MuonAdamW, OptimConfig
from diorama.train.state import save
from diorama.train.transformer import ClipData, TransformerTrainConfig
from diorama.transformer import Transformer, TransformerConfig

pytest.importorskip("pycolmap", reason="pycolmap is not installed")
pytest.importorskip("cv2", reason="OpenCV is not installed")

LIGHT = ["--frames", "6", "--no-nerf", "--no-splat"]
SMALL = ["--seeds", "1", "--device", "cpu", "--num-frames", "5", "--steps", "1", "--guidance", "1", "--nerf-steps", "0", "--splat-steps", "0"]


def clip(path: Path, count: int = 8, *, still: bool = True) -> Path:
    """A speckled screen that stands still, or is new in every frame."""
    frames = np.random.default_rng(0).integers(0, 255, (count, 12, 16, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    return Clip(np.repeat(frames[:1], count, 0) if still else frames, 12.0).save(path)


def test_a_still_camera_is_not_measurable_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = clip(tmp_path / "still.mp4"), tmp_path / "report"
    main(["geometry", str(path), "--out", str(out), *LIGHT])
    said = capsys.readouterr().out
    assert "Not measurable: the camera stands still" in said
    assert "score 0: not measurable" in said
    assert str(out / "report.html") in said
    assert json.loads((out / "report.json").read_text())["input"]["name"] == "still.mp4"
    before = (out / "report.html").read_bytes()
    main(["geometry", str(path), "--out", str(out), *LIGHT])
    assert (out / "report.html").read_bytes() == before


@pytest.mark.parametrize("count", [1, 2])
def test_too_short(tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int) -> None:
    refused(["geometry", str(clip(tmp_path / "short.mp4", count, still=False)), "--out", str(tmp_path / "r")], "at least 3", capsys)


def test_black_wrong_and_absent_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    black = Clip(np.zeros((9, 64, 64, 3), np.uint8), 12.0).save(tmp_path / "black.mp4")
    refused(["geometry", str(black), "--out", str(tmp_path / "r1")], "shows nothing", capsys)
    (tmp_path / "notes.txt").write_text("words")
    refused(["geometry", str(tmp_path / "notes.txt"), "--out", str(tmp_path / "r2")], "notes.txt", capsys)
    refused(["geometry", str(tmp_path / "absent.mp4"), "--out", str(tmp_path / "r3")], "absent.mp4", capsys)
    refused(["geometry", str(black), "--out", str(tmp_path / "notes.txt")], "is a file", capsys)
    refused(["geometry", str(black), "--out", str(tmp_path / "r4"), "--size", "4"], "side of 4", capsys)


def test_prompts_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["evaluate", "geometry", "--prompts", str(tmp_path / "absent.txt")], "cannot be read", capsys)
    (tmp_path / "empty.txt").write_text("\n \n")
    refused(["evaluate", "geometry", "--prompts", str(tmp_path / "empty.txt")], "holds no prompt", capsys)


def test_evaluate_prints_a_line_for_each_model_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("a red ball, the camera orbits left\n")
    command = ["evaluate", "geometry", "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "e"), "--size", "64x64", *SMALL]
    main(command)
    first = capsys.readouterr().out
    assert "one world" in first
    main(command)
    assert capsys.readouterr().out == first


def training(folder: Path, steps: tuple[int, ...]) -> Path:
    """A run's folder with a checkpoint of a small transformer at each step."""
    config = TransformerTrainConfig(
        data=ClipData(shards=(Path("shards"),)), model=TransformerConfig(num_attention_heads=2, attention_head_dim=16, ffn_dim=32, num_layers=1)
    )
    module = Transformer(config.model)
    write_text(folder / "config.json", json.dumps(to_dict(config)))
    for step in steps:
        with torch.no_grad():
            module.get_parameter("proj_out.weight").normal_(std=0.1 * step)
        save(folder, step, module, module, MuonAdamW(module, OptimConfig()))
    return folder


def test_a_run_has_a_line_for_each_checkpoint_and_a_damaged_one_is_not_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = training(tmp_path / "run", (10, 20))
    damaged = run / "checkpoints" / "step-00000015"
    damaged.mkdir()
    (damaged / "model.safetensors").write_bytes(b"half")
    (tmp_path / "prompts.txt").write_text("a red ball, the camera orbits left\n")
    command = ["evaluate", "geometry", "--prompts", str(tmp_path / "prompts.txt"), "--run", str(run), *SMALL]
    main([*command, "--size", "64x64"])
    said = capsys.readouterr().out
    assert "step 10: score 0.00" in said
    assert "; 1 not measurable\n" in said
    table = [line for line in said.splitlines() if line.startswith("| step ")]
    assert [line.split()[2].rstrip(",") for line in table] == ["10", "15", "20"]
    assert said.count("step 15: ") == 2  # as it is met, and below the table
    log = run / "geometry" / "log.jsonl"
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [10, 20]
    before = log.read_bytes()
    shutil.rmtree(run / "checkpoints" / "step-00000010")  # as a run does that has written two more
    main([*command, "--size", "64x64", "--follow"])
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("| step ")] == table
    assert log.read_bytes() == before
    refused([*command, "--size", "32x32"], "other settings", capsys)


def test_a_run_that_cannot_be_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("a red ball\n")
    command = ["evaluate", "geometry", "--prompts", str(tmp_path / "prompts.txt"), *SMALL]
    refused([*command, "--follow"], "give its folder with --run", capsys)
    refused([*command, "--run", "a", "--model", "b"], "both given", capsys)
    refused([*command, "--run", str(tmp_path)], "holds no config.json", capsys)
    refused([*command, "--run", str(training(tmp_path / "run", ()))], "no checkpoint yet", capsys)


def refused(command: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(command)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert sentence in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in err
