"""The loop: exact resume, one run a folder, and every way to stop leaves a checkpoint."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diorama import checkpoint
from diorama.errors import CheckpointError, ConfigError, DataError
from diorama.runtime import generator, lock_folder
from diorama.train import state
from diorama.train.log import Work
from diorama.train.loop import LoopConfig, Result, run, schedule
from diorama.train.optim import MuonAdamW, OptimConfig


class Line:
    """Fits y = A x from noisy samples: small, but with matrices, biases, chance in batch and loss."""

    def __init__(self, *, pause: float = 0.0, broken_at: int | None = None, interrupt_at: int | None = None, samples: int = 8) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 6))
        self.pause, self.broken_at, self.interrupt_at, self.samples = pause, broken_at, interrupt_at, samples
        self.sampled: list[int] = []

    def module(self) -> nn.Module:
        return self.net

    def describe(self) -> str:
        if not self.samples:
            raise DataError("the training set is empty")
        return f"{self.samples} samples"

    def batch(self, index: int) -> Tensor:
        return torch.randn(self.samples, 6, generator=generator(index + 5))

    def work(self, batch: Tensor) -> Work:
        return Work(samples=len(batch), tokens=len(batch), flops=6 * 96 * len(batch))

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        time.sleep(self.pause)
        noise = torch.randn(batch.shape, generator=generator)
        step = self.broken_at if self.broken_at is not None else -1
        loss = (self.net(batch + 0.1 * noise).float() - batch.flip(1)).square().mean()
        if torch.equal(batch, self.batch(step)):
            loss = loss * float("nan")
        if self.interrupt_at is not None and torch.equal(batch, self.batch(self.interrupt_at)):
            os.kill(os.getpid(), signal.SIGINT)
        return loss, {"noise": float(noise.mean())}

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        self.sampled.append(step)

    def export(self, module: nn.Module, folder: Path) -> None:
        checkpoint.save_folder(folder, module.state_dict(), {})


def train(folder: Path, task: Line | None = None, **values: object) -> Result:
    settings: dict[str, object] = {"steps": 20, "warmup": 3, "log_steps": 1, "sample_steps": 0}
    config = LoopConfig(**{**settings, **values})  # type: ignore[arg-type]
    return run(task or Line(), config, folder, torch.device("cpu"), optim=OptimConfig(), peak=1e11)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_losses_fall_and_everything_is_written(tmp_path: Path) -> None:
    task = Line()
    result = train(tmp_path, task, steps=60, sample_steps=25)
    values = losses(tmp_path)
    assert (result.step, result.reason) == (60, "steps")
    assert len(values) == 60
    assert sum(values[-10:]) < 0.9 * sum(values[:10])
    assert task.sampled == [25, 50]
    assert (result.folder / "model.safetensors").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert {"step", "loss", "noise", "grad_norm", "samples_per_s", "tokens_per_s", "gflops", "share", "lr_scale", "seconds_left"} <= set(record)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_stopped_and_resumed_equals_never_stopped(tmp_path: Path, accumulate: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, accumulate=accumulate, decay=5)
    interrupted = train(parts, Line(interrupt_at=9 * accumulate), accumulate=accumulate, decay=5)
    assert (interrupted.step, interrupted.reason) == (10, "interrupted")
    train(parts, accumulate=accumulate, decay=5)
    assert losses(whole) == losses(parts)
    first, second = (checkpoint.load_tensors(state.checkpoints(folder)[-1]) for folder in (whole, parts))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_parts_side_by_side_equal_one_after_the_other(tmp_path: Path) -> None:
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    train(alone, accumulate=2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        train(beside, accumulate=2)
    finally:
        torch.set_num_threads(before)
    assert losses(alone) == losses(beside)
    first, second = (checkpoint.load_tensors(state.checkpoints(folder)[-1]) for folder in (alone, beside))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


class Picture(Line):
    """A convolution in channels-last order, whose gradient comes in that order too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential()
        self.net.add_module("conv_in", nn.Conv2d(4, 8, 3))

    def batch(self, index: int) -> Tensor:
        return torch.randn(2, 4, 6, 6, generator=generator(index + 5)).to(memory_format=torch.channels_last)

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        kernel = self.net.get_parameter("conv_in.weight").to(memory_format=torch.channels_last)
        return nn.functional.conv2d(batch, kernel).float().square().mean(), {}


def test_gradients_have_the_memory_order_of_their_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    step = MuonAdamW.step

    def watched(optimizer: MuonAdamW, scale: float, pool: Executor | None) -> None:
        seen.extend(p.grad.stride() == p.stride() for p in optimizer.parameters() if p.grad is not None)
        step(optimizer, scale, pool)

    monkeypatch.setattr(MuonAdamW, "step", watched)
    train(tmp_path, Picture(), steps=2, warmup=1)
    assert seen == [True, True]


CHILD = """
import sys, importlib.util
from concurrent.futures import Executor
from pathlib import Path
spec = importlib.util.spec_from_file_location("test_loop", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.train(Path(sys.argv[2]), module.Line(pause=0.02), steps=200, checkpoint_steps=4)
"""


def test_kill_9_loses_only_steps_since_the_checkpoint_and_resumes_bit_equal(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    child = subprocess.Popen([sys.executable, "-c", CHILD, __file__, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (state.checkpoints(killed) and len(losses(killed)) > 6):
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    reached = len(losses(killed))
    saved = int(state.checkpoints(killed)[-1].name.removeprefix("step-"))
    assert reached - saved <= 4
    train(killed, steps=saved + 6)
    train(whole, steps=saved + 6)
    assert losses(killed) == losses(whole)


def test_minutes_stop_with_a_checkpoint_and_a_decay_can_follow(tmp_path: Path) -> None:
    stopped = train(tmp_path, steps=1000, minutes=1e-9)
    assert (stopped.step, stopped.reason) == (1, "minutes")
    assert len(state.checkpoints(tmp_path)) == 1
    done = train(tmp_path, steps=7, decay=4)
    assert (done.step, done.reason) == (7, "steps")


def test_only_the_last_two_checkpoints_stay(tmp_path: Path) -> None:
    train(tmp_path, steps=9, checkpoint_steps=2)
    assert [path.name for path in state.checkpoints(tmp_path)] == ["step-00000008", "step-00000009"]


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "training in"), pytest.raises(DataError, match="another run is training in"):
        train(tmp_path)


def test_a_loss_that_is_no_number_names_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(state.TrainingError, match=r"became nan at step 8; the last good checkpoint is .*step-00000006") as caught:
        train(tmp_path, Line(broken_at=7), checkpoint_steps=3)
    assert "\n" not in str(caught.value)
    assert len(losses(tmp_path)) == 7


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, steps=4)
    before = checkpoint.load_tensors(state.checkpoints(tmp_path)[-1])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"the disk is full.*step-00000004 stays"):
        train(tmp_path, steps=8)
    after = checkpoint.load_tensors(state.checkpoints(tmp_path)[-1])
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path: Path) -> None:
    train(tmp_path, steps=4)
    weights = state.checkpoints(tmp_path)[-1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"delete .*step-00000004 to resume from the one before"):
        train(tmp_path, steps=8)


def test_another_model_in_the_folder_is_refused(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    other = Line()
    other.net = nn.Sequential(nn.Linear(6, 6))
    with pytest.raises(CheckpointError, match="of another model"):
        train(tmp_path, other, steps=4)


def test_an_empty_training_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train(tmp_path, Line(samples=0))


def test_training_outside_the_main_thread_works(tmp_path: Path) -> None:
    thread = threading.Thread(target=train, args=(tmp_path,), kwargs={"steps": 2})
    thread.start()
    thread.join()
    assert len(losses(tmp_path)) == 2


def test_the_schedule_rises_stays_and_falls() -> None:
    config = LoopConfig(steps=100, warmup=9, decay=19)
    values = [schedule(step, config) for step in range(100)]
    assert values[0] == pytest.approx(0.1)
    assert values[9:81] == [1.0] * 72
    assert values[99] == pytest.approx(0.05)
    assert all(a >= b for a, b in itertools.pairwise(values[80:]))


@pytest.mark.parametrize("values", [{"steps": 0}, {"ema_decay": 1.0}, {"decay": 11, "steps": 10}, {"minutes": 0.0}, {"seed": -1}])
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LoopConfig(**values)  # type: ignore[arg-type]
