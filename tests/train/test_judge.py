"""Mirroring and spoiling keep the truth; the judge learns something that it can see."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.scenes import make_body, make_scene

from diorama.config import to_dict
from diorama.data import Sample, write_shard
from diorama.errors import ConfigError, DataError
from diorama.evaluation.judge import DIRECTIONS, Judge, JudgeConfig, truth
from diorama.train.judge import Bank, JudgeTask, JudgeTraining, accuracy, loss, mirror, spoil, train
from diorama.train.loop import LoopConfig, run
from diorama.train.optim import OptimConfig
from diorama.worlds.scene import CAMERA_MOVES, COLORS, Scene

TINY = JudgeConfig(num_frames=2, area=1024, widths=(8, 8, 16), reach=1, num_heads=2, depth=1)


def scene(color: str, move: str = "static", direction: str = "none") -> Scene:
    return make_scene(make_body(color=color, motion="roll", direction=direction), move=move, floor="grass", width=32, height=32, num_frames=2)


def flat(color: str) -> np.ndarray:
    return np.broadcast_to((np.array(COLORS[color]) * 255).astype(np.uint8), (2, 32, 32, 3)).copy()


@pytest.fixture
def bank() -> Bank:
    return Bank.gather([(flat(color), scene(color)) for color in ("red", "green", "blue", "yellow")], TINY)


def judge_of(seed: int) -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Judge(TINY)


def test_bank_groups_by_size() -> None:
    wide = np.zeros((3, 24, 48, 3), np.uint8)
    bank = Bank.gather([(flat("red"), scene("red")), (wide, scene("blue")), (flat("green"), scene("green"))], TINY)
    assert len(bank) == 3
    assert sorted(len(video) for video, _ in bank.groups) == [1, 2]
    assert sum(len(video) for video, _ in bank.batches(1)) == 3
    with pytest.raises(DataError, match="0 clips"):
        Bank.gather([], TINY)


def test_mirror_is_its_own_inverse_and_swaps_sides() -> None:
    answers = truth([scene("red", "orbit_left", "right"), scene("blue", "dolly_in", "away"), scene("pink", "pan_right")])
    video = torch.rand(3, 2, 3, 4, 6)
    flipped, other = mirror(video, answers)
    assert torch.equal(flipped[..., 0], video[..., -1])
    assert [CAMERA_MOVES[i] for i in other.camera] == ["orbit_right", "dolly_in", "pan_left"]
    red = list(COLORS).index("red")
    assert DIRECTIONS[other.direction[0, red]] == "left"
    again_video, again = mirror(flipped, other)
    assert torch.equal(again_video, video)
    assert torch.equal(again.camera, answers.camera)
    assert torch.equal(again.direction, answers.direction)


def test_spoiled_clips_are_near_and_repeatable() -> None:
    video = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    smooth = torch.nn.functional.avg_pool2d(video.flatten(0, 1).float(), 9, 1, 4).to(torch.uint8).view(video.shape)
    changed = 0
    for seed in range(8):
        one, two = (spoil(smooth, random.Random(seed), torch.Generator().manual_seed(seed)) for _ in range(2))
        assert torch.equal(one, two)
        assert float(one.abs().max()) <= 1.0
        error = float((one - (smooth / 127.5 - 1)).abs().mean())
        assert error < 0.5
        changed += error > 0.005
    assert changed >= 6


def test_loss_of_the_truth_is_small(bank: Bank) -> None:
    _, answers = bank.groups[0]

    def sure(labels: torch.Tensor, classes: int) -> torch.Tensor:
        return 20.0 * torch.nn.functional.one_hot(labels.clamp_min(0), classes).float()

    said = type(answers)(
        present=40 * answers.present - 20,
        shape=sure(answers.shape, 5),
        motion=sure(answers.motion, 8),
        direction=sure(answers.direction, 5),
        count=sure(answers.count, 4),
        camera=sure(answers.camera, 11),
        floor=sure(answers.floor, 6),
        light=sure(answers.light, 3),
    )
    assert float(loss(said, answers)) < 1e-4
    assert float(loss(said.map(lambda logits: -logits), answers)) > 10


def test_task_is_a_function_of_the_index(bank: Bank) -> None:
    task = JudgeTask(judge_of(0), bank, bank, batch_size=2)
    one, two, other = task.batch(3), task.batch(3), task.batch(4)
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[0], other[0])
    assert task.work(one).samples == 2
    assert "4 clips" in task.describe()


def test_training_tells_colors_apart(bank: Bank, tmp_path: Path) -> None:
    judge = judge_of(0)
    before = accuracy(judge.eval(), bank)["present"]
    config = LoopConfig(steps=60, warmup=2, ema_decay=0.9, sample_steps=60, log_steps=60)
    task = JudgeTask(judge, bank, bank, batch_size=4)
    result = run(task, config, tmp_path / "run", torch.device("cpu"), optim=OptimConfig(adamw_lr=5e-3, adamw_names=("queries",)), peak=1e9)
    after = accuracy(Judge.load(result.folder), bank)
    assert before < 0.5
    assert after["present"] == 1.0
    assert json.loads((tmp_path / "run" / "samples" / "accuracy-000060.json").read_text())["light"] == 1.0


def test_bad_training_config() -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        JudgeTraining(data=Path("x"), batch_size=0)


def test_training_goes_on_from_a_judge_that_read_smaller_frames(tmp_path: Path) -> None:
    colors = ("red", "blue", "green", "pink")
    samples = [Sample(key=color, frames=flat(color), fps=12.0, record={"scene": to_dict(scene(color))}) for color in colors]
    write_shard(tmp_path / "shards", 0, samples)
    start = judge_of(3)
    start.save(tmp_path / "start")
    larger = dataclasses.replace(TINY, area=2304)
    config = JudgeTraining(
        data=tmp_path / "shards", held_out=2, batch_size=2, init=tmp_path / "start", judge=larger, train=LoopConfig(steps=1, warmup=0, sample_steps=9)
    )
    trained = Judge.load(train(config, tmp_path / "run", torch.device("cpu")).folder)
    assert (tmp_path / "run" / "export" / "training_data.json").is_file()
    assert trained.config.area == 2304
    anew = judge_of(0).heads.shot_head.weight
    near, far = (float((trained.heads.shot_head.weight - other).detach().abs().mean()) for other in (start.heads.shot_head.weight, anew))
    assert near < far / 2
