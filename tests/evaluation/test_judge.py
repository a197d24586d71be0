"""The judge's form: truth from scenes, sizes, reading, saving; its skill is measured by training, not here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.scenes import make_body, make_scene

from diorama.errors import CheckpointError, ConfigError
from diorama.evaluation.judge import CAMERA_DIRECTIONS, Judge, JudgeConfig, camera_direction, prepare, truth
from diorama.worlds.scene import CAMERA_MOVES, COLORS, FLOORS, MOTIONS, SHAPES

TINY = JudgeConfig(num_frames=3, area=1024, widths=(8, 8, 16), reach=1, num_heads=2, depth=1)


def test_truth_of_two_bodies() -> None:
    bodies = make_body(color="blue", shape="box", motion="slide", direction="left"), make_body(color="black", shape="cone", motion="fall")
    answers = truth([make_scene(*bodies, floor="brick", move="pan_left")])
    blue, black = list(COLORS).index("blue"), list(COLORS).index("black")
    assert answers.present.nonzero().tolist() == [[0, blue], [0, black]]
    assert answers.shape[0, blue] == SHAPES.index("box")
    assert answers.motion[0, black] == MOTIONS.index("fall")
    assert (answers.direction[0] >= 0).sum() == 2
    assert (int(answers.count), int(answers.camera), int(answers.floor)) == (1, CAMERA_MOVES.index("pan_left"), FLOORS.index("brick"))


def test_camera_directions() -> None:
    assert set(CAMERA_DIRECTIONS) == set(CAMERA_MOVES)
    assert [camera_direction(move) for move in ("static", "orbit_left", "dolly_in", "tilt_down")] == ["none", "left", "in", "down"]


def test_prepare_keeps_first_and_last_frame_and_shape() -> None:
    frames = np.zeros((33, 64, 128, 3), np.uint8)
    frames[0], frames[-1] = 50, 200
    video = prepare(frames, JudgeConfig(area=6400))
    assert video.shape == (9, 3, 56, 112)
    assert video[0].unique().tolist() == [50]
    assert video[-1].unique().tolist() == [200]
    assert prepare(frames[:1], JudgeConfig()).shape[0] == 9


def test_every_size_is_read_and_clips_do_not_touch() -> None:
    judge = Judge(TINY).eval()
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (5, *size, 3), dtype=np.uint8) for size in ((32, 32), (24, 48))]
    readings = judge.read(clips)
    assert len(readings) == 2
    assert all(len(reading.asked) == len(COLORS) and 1 <= reading.count <= 4 for reading in readings)
    video = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(judge(video).camera[1:], judge(video[1:]).camera, atol=1e-5)
        assert torch.allclose(judge(video).shape[1:], judge(video[1:]).shape, atol=1e-5)


def test_every_answer_learns_from_every_part() -> None:
    judge = Judge(TINY)
    said = judge(torch.randn(1, 3, 3, 32, 32))
    sum(getattr(said, field.name).square().sum() for field in dataclasses.fields(said)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in judge.parameters())


def test_default_judge_is_small() -> None:
    assert sum(p.numel() for p in Judge(JudgeConfig()).parameters()) < 0.6 * 2**20


def test_save_and_load(tmp_path: Path) -> None:
    judge = Judge(TINY)
    judge.save(tmp_path / "judge")
    again = Judge.load(tmp_path / "judge")
    assert again.config == TINY
    for was, now in zip(judge.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(now, was, atol=float(was.abs().max()) / 200, rtol=1e-3)  # half of the 127th part of a row's largest
    (tmp_path / "judge" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing"):
        Judge.load(tmp_path / "judge")


def test_bad_configs() -> None:
    with pytest.raises(ConfigError, match="too small"):
        JudgeConfig(num_frames=1)
    with pytest.raises(ConfigError, match="multiple"):
        JudgeConfig(num_heads=5)
