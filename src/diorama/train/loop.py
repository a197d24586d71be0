"""One training loop for every model of the house.

The loop promises exact resume: batch and noise of a step depend on the seed and the step alone, and a checkpoint holds
weights, moving average, optimiser state and step, so the losses after ``kill -9`` are those of a run never stopped.
It does not know what it trains: a ``Task`` brings module, batches and loss.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from diorama import runtime
from diorama.checkpoint import write_text
from diorama.errors import ConfigError
from diorama.train import state
from diorama.train.ema import Ema
from diorama.train.log import Log, Meter, Work
from diorama.train.optim import MuonAdamW, OptimConfig

__all__ = ["Beside", "LoopConfig", "Result", "Task", "run", "schedule"]


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long to train and what to write on the way."""

    steps: int = 10_000
    """Optimiser steps of the whole run, counted over all resumes."""
    minutes: float | None = None
    """Wall-clock budget of this start; the run stops with a checkpoint when it is spent, and goes on when started again."""
    warmup: int = 100
    """Steps of linear rise of the learning rate."""
    decay: int = 0
    """Last steps of ``steps`` with linear fall to 0; to finish a run stopped at step n, resume with steps n + m and decay m."""
    accumulate: int = 1
    """Batches per optimiser step; their losses are averaged. On a CPU they run side by side, so give as many as there are cores."""
    grad_clip: float = 1.0
    """Largest norm of all gradients together."""
    ema_decay: float = 0.999
    """Decay of the moving average of the weights, per step."""
    seed: int = 0
    """Decides batches and noise, with the step."""
    checkpoint_minutes: float = 5.0
    """Wall-clock time between checkpoints; what a crash can lose."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, if also counted in steps."""
    sample_steps: int = 500
    """Steps between contact sheets; 0 for none."""
    log_steps: int = 20
    """Steps between log lines; each line averages over them."""

    def __post_init__(self) -> None:
        positive = ("steps", "accumulate", "log_steps", "grad_clip", "checkpoint_minutes")
        natural = ("warmup", "decay", "sample_steps", "seed")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name} is {getattr(self, name)}; it must be above 0")
        for name in natural:
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"train.ema_decay is {self.ema_decay}; allowed is 0 to below 1, usually 0.999")
        if self.decay > self.steps:
            raise ConfigError(f"train.decay is {self.decay}; it cannot be above train.steps, {self.steps}")
        if (self.minutes is not None and self.minutes <= 0) or (self.checkpoint_steps is not None and self.checkpoint_steps < 1):
            raise ConfigError(f"train.minutes {self.minutes} and train.checkpoint_steps {self.checkpoint_steps} must be above 0, or left out")


class Task(Protocol):
    """What is trained. Everything random inside must come from the index or the generator it is given."""

    def module(self) -> nn.Module:
        """Return the module to train; its parameters that require gradients are trained."""

    def describe(self) -> str:
        """Return one line on the training set: samples, seconds, tokens; raises DataError for zero samples."""

    def batch(self, index: int) -> Any:
        """Return batch ``index`` on the CPU, the same for the same index and seed; called from another thread."""

    def work(self, batch: Any) -> Work:
        """Return the size of a batch, for throughput figures."""

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss of a batch and named figures for the log; called under autocast."""

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write pictures of what the averaged module can do to ``folder``."""

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write the averaged module as a folder that the package can load."""


class Beside:
    """A part of a task that has another lesson beside it: module, samples and export are the inner task's.

    Args:
        inner: That task.
    """

    def __init__(self, inner: Task) -> None:
        self.inner = inner

    def module(self) -> nn.Module:
        """Return what the inner task trains."""
        return self.inner.module()

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write what the inner task writes."""
        self.inner.sample(module, folder, step)

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write what the inner task writes."""
        self.inner.export(module, folder)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended."""

    step: int
    """Steps done, over all resumes."""
    reason: Literal["steps", "minutes", "interrupted"]
    """What stopped it."""
    folder: Path
    """The exported weights."""


def schedule(step: int, config: LoopConfig) -> float:
    """Return the share of the peak learning rate at ``step`` (from 0): linear rise, constant, linear fall to 0."""
    rise = min(1.0, (step + 1) / (config.warmup + 1))
    fall = min(1.0, (config.steps - step) / (config.decay + 1)) if config.decay else 1.0
    return max(0.0, rise * fall)


def run(
    task: Task,
    config: LoopConfig,
    folder: Path,
    device: torch.device,
    *,
    optim: OptimConfig | None = None,
    peak: float | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Train until the steps or the minutes are used up, resuming from the newest checkpoint in ``folder``.

    Writes ``checkpoints/step-*`` (the last two stay), ``samples/``, ``log.jsonl``, ``tensorboard/`` if that package is
    installed, and ``export/`` at the end. Ctrl-C and SIGTERM write a checkpoint and the export, then return.

    Args:
        task: What to train.
        config: How long.
        folder: Where everything is written; one run at a time.
        device: Where to compute.
        optim: Learning rates; defaults if None.
        peak: The device's matrix-product rate in FLOP/s; measured if None.
        settings: JSON values for ``config.json``, which says what the checkpoints are of; none is written if None.

    Raises:
        DataError: the training set is empty, or another run uses the folder.
        TrainingError: the loss stopped being a number.
        CheckpointError: the disk is full, or a checkpoint is damaged or of another model; older checkpoints stay.
    """
    folder = Path(folder)
    with runtime.lock_folder(folder, "training in"), _interruptible() as interrupted:
        module = task.module().to(device).train()
        described = task.describe()
        ema, optimizer = Ema(module, config.ema_decay), MuonAdamW(module, optim or OptimConfig())
        first = state.resume(folder, module, ema.module, optimizer)
        if settings is not None:
            write_text(folder / "config.json", json.dumps(settings, indent=1) + "\n")
        half = isinstance(runtime.autocast(device), torch.autocast)
        meter = Meter(peak or runtime.matmul_rate(device, torch.bfloat16 if half else torch.float32, seconds=0.5))
        with Log(folder, first, config.steps) as log:
            count = sum(p.numel() for p in optimizer.parameters())
            log.say(f"{described}; {count / 1e6:.2f} M parameters, {optimizer.num_matrices()} matrices by Muon")
            log.say(f"{'resumes' if first else 'starts'} at step {first} of {config.steps} in {folder}; matmul rate {meter.peak / 1e9:.0f} GFLOP/s")
            with _threads(device, config.accumulate) as pool:
                step, reason = _Loop(task, config, folder, device, module, ema, optimizer, meter, log, interrupted, pool).train(first)
            ema.module.eval()
            task.export(ema.module, folder / "export")
            log.say(f"stopped after step {step} ({reason}); weights in {folder / 'export'}")
    return Result(step=step, reason=reason, folder=folder / "export")


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, so that a step always ends; a second Ctrl-C stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _threads(device: torch.device, parts: int) -> Iterator[ThreadPoolExecutor | None]:
    """Yield threads of one core each for the parts of a step, where there are several of both.

    Two parts on a core each are 1.35 times as fast as both cores on one part after the other (docs/log.md, 2026-11-20). The
    optimiser's matrices are shared out likewise: with both cores on each it waits whenever another process has one, and took 1.2 s a
    step for 0.1.
    """
    workers = min(parts, torch.get_num_threads())
    if device.type != "cpu" or workers < 2:
        yield None
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers, "part", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


@dataclass(kw_only=False)
class _Loop:
    task: Task
    config: LoopConfig
    folder: Path
    device: torch.device
    module: nn.Module
    ema: Ema
    optimizer: MuonAdamW
    meter: Meter
    log: Log
    interrupted: threading.Event
    pool: ThreadPoolExecutor | None

    def train(self, first: int) -> tuple[int, Literal["steps", "minutes", "interrupted"]]:
        """Run steps from ``first`` on; every way out of here leaves a checkpoint of the last step."""
        config, start = self.config, time.monotonic()
        saved_at, saved_step, step = start, first, first
        reason: Literal["steps", "minutes", "interrupted"] = "steps"
        batches = self._batches(first * config.accumulate, config.steps * config.accumulate)
        with contextlib.closing(batches):
            while step < config.steps:
                self._step(step, batches)
                step += 1
                self.log.advance(step)
                now = time.monotonic()
                if step % config.log_steps == 0 or step == config.steps:
                    self._write(step, now - start, step - first)
                if config.sample_steps and step % config.sample_steps == 0:
                    self._sample(step)
                due = now - saved_at >= 60 * config.checkpoint_minutes or (config.checkpoint_steps and step % config.checkpoint_steps == 0)
                if due:
                    state.save(self.folder, step, self.module, self.ema.module, self.optimizer)
                    saved_at, saved_step = now, step
                if self.interrupted.is_set() or (config.minutes is not None and now - start >= 60 * config.minutes):
                    reason = "interrupted" if self.interrupted.is_set() else "minutes"
                    break
        if saved_step != step:
            state.save(self.folder, step, self.module, self.ema.module, self.optimizer)
        return step, reason

    def _step(self, step: int, batches: Iterator[Any]) -> None:
        config, parameters = self.config, self.optimizer.parameters()
        first = step * config.accumulate
        parts = [(first + part, next(batches)) for part in range(config.accumulate)]
        self.optimizer.zero_grad()
        for (_, batch), (value, figures, gradients) in zip(parts, self._side_by_side(parts), strict=True):
            if not math.isfinite(value):
                raise self._failed(f"the loss became {value} at step {step + 1}")
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    # A gradient may come in another memory order than its parameter, and torch's fused AdamW does not look at strides.
                    parameter.grad = torch.empty_like(parameter).copy_(gradient) if parameter.grad is None else parameter.grad.add_(gradient)
            self.meter.add({"loss": value, **figures}, self.task.work(batch))
        norm = float(nn.utils.clip_grad_norm_(parameters, config.grad_clip))
        if not math.isfinite(norm):
            raise self._failed(f"the gradient became {norm} at step {step + 1}")
        self.optimizer.step(schedule(step, config), self.pool)
        self.ema.update(self.module, step)
        self.meter.add({"grad_norm": norm}, Work(samples=0, tokens=0, flops=0))

    def _side_by_side(self, parts: list[tuple[int, Any]]) -> Iterator[tuple[float, dict[str, float], tuple[Tensor | None, ...]]]:
        """Yield each part's loss, figures and gradients, in order; on a CPU the parts run at once, a thread each."""
        return map(self._gradients, parts) if self.pool is None else self.pool.map(self._gradients, parts)

    def _gradients(self, part: tuple[int, Any]) -> tuple[float, dict[str, float], tuple[Tensor | None, ...]]:
        index, batch = part
        # Noise is a function of the seed and the batch's number, so a resumed run needs no stored random state.
        noise = runtime.generator((self.config.seed * 1_000_003 + index + 1) % 2**63, self.device)
        with runtime.autocast(self.device):
            loss, figures = self.task.loss(batch, noise)
        gradients = torch.autograd.grad(loss / self.config.accumulate, self.optimizer.parameters(), allow_unused=True)
        return loss.item(), figures, gradients

    def _failed(self, what: str) -> state.TrainingError:
        kept = state.checkpoints(self.folder)
        good = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        return state.TrainingError(f"{what}; {good}: lower optim.muon_lr and optim.adamw_lr and start again in the same folder")

    def _batches(self, first: int, end: int) -> Generator[Any, None, None]:
        """Yield batches, making the next one in a thread while the current one trains."""
        with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
            ahead = pool.submit(self.task.batch, first) if first < end else None
            for index in range(first, end):
                assert ahead is not None
                batch = ahead.result()
                ahead = pool.submit(self.task.batch, index + 1) if index + 1 < end else None
                yield batch

    def _write(self, step: int, elapsed: float, done: int) -> None:
        config = self.config
        left = elapsed / done * (config.steps - step)
        if config.minutes is not None:
            left = max(0.0, min(left, 60 * config.minutes - elapsed))
        record = {"step": step, **self.meter.take(), "lr_scale": schedule(step - 1, config), "seconds": elapsed, "seconds_left": left}
        self.log.write(record)

    def _sample(self, step: int) -> None:
        start = time.perf_counter()
        with torch.no_grad():
            self.task.sample(self.ema.module, self.folder / "samples", step)
        self.meter.skip(time.perf_counter() - start)
