"""Training of the judge on rendered worlds, never on generated clips.

Clips are shrunk once to the judge's size and kept in memory. Training spoils them as generation does (softness, noise,
colour shifts, smeared time) so that the judge is fair to softer clips, and mirrors them left to right.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diorama.checkpoint import load_into, write_text
from diorama.config import from_dict
from diorama.data.provenance import write_provenance
from diorama.data.shards import ShardSet
from diorama.errors import ConfigError, DataError
from diorama.evaluation.judge import DIRECTIONS, Judge, JudgeConfig, Verdict, prepare, truth
from diorama.train.log import Work
from diorama.train.loop import LoopConfig, Result, run
from diorama.train.optim import OptimConfig
from diorama.worlds.scene import CAMERA_MOVES, Scene

__all__ = ["Bank", "JudgeTask", "JudgeTraining", "accuracy", "loss", "mirror", "spoil", "train"]


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """A run that trains a judge."""

    data: Path
    """Folder of world shards."""
    limit: int | None = None
    """Use only the first so many clips."""
    held_out: int = 10
    """One clip in so many is kept to measure the judge on."""
    batch_size: int = 16
    """Clips a step, all of one size."""
    init: Path | None = None
    """Folder of a judge to go on from, of the same network but for its ``area``; None starts anew."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """The network."""
    train: LoopConfig = field(default_factory=lambda: LoopConfig(steps=2500, warmup=50, decay=1000, ema_decay=0.995, sample_steps=500))
    """How long."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(adamw_lr=2e-3, adamw_names=("queries", "times", "head", "stem")))
    """Learning rates."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.held_out < 2:
            raise ConfigError(f"batch_size {self.batch_size} must be at least 1 and held_out {self.held_out} at least 2")


@dataclass(frozen=True)
class Bank:
    """Shrunk clips with their truth, grouped by size so that a group makes batches."""

    groups: tuple[tuple[Tensor, Verdict], ...]
    """Of each size: uint8 ``[N, T, 3, H, W]`` and the truth of N clips."""

    @classmethod
    def gather(cls, samples: Iterable[tuple[np.ndarray, Scene]], config: JudgeConfig) -> Bank:
        """Shrink and group clips.

        Args:
            samples: uint8 frames ``[T, H, W, 3]`` with the scene they show.
            config: The judge's size.

        Raises:
            DataError: there are no samples.
        """
        found: dict[tuple[int, ...], list[tuple[Tensor, Scene]]] = {}
        for frames, scene in samples:
            video = prepare(frames, config)
            found.setdefault(tuple(video.shape), []).append((video, scene))
        if not found:
            raise DataError("the judge's training set holds 0 clips; render some with: diorama worlds render --count 2000 --out DIR")
        return cls(tuple((torch.stack([video for video, _ in group]), truth([scene for _, scene in group])) for group in found.values()))

    def __len__(self) -> int:
        return sum(len(video) for video, _ in self.groups)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Verdict]]:
        """Yield every clip once, in order, in batches of at most ``size`` clips of one size."""
        for video, answers in self.groups:
            for i in range(0, len(video), size):
                yield video[i : i + size], answers.map(lambda values, i=i: values[i : i + size])


def _swapped(names: Sequence[str]) -> Tensor:
    """Return for each class the class it becomes in a mirror."""
    swap = {"left": "right", "right": "left"}
    return torch.tensor([names.index("_".join(swap.get(part, part) for part in name.split("_"))) for name in names])


def mirror(video: Tensor, answers: Verdict) -> tuple[Tensor, Verdict]:
    """Mirror clips left to right; left and right change places in camera moves and directions.

    Args:
        video: ``[B, T, 3, H, W]``.
        answers: Their truth.
    """
    known = answers.direction >= 0
    direction = torch.where(known, _swapped(DIRECTIONS)[answers.direction.clamp_min(0)], answers.direction)
    return video.flip(-1), dataclasses.replace(answers, direction=direction, camera=_swapped(CAMERA_MOVES)[answers.camera])


def spoil(video: Tensor, rng: random.Random, generator: torch.Generator) -> Tensor:
    """Make rendered clips look like coded or generated ones, a different way each call.

    Args:
        video: ``[B, T, 3, H, W]`` uint8, or float in [-1, 1], through which gradients pass.
        rng: Chooses what is done.
        generator: Draws the noise.

    Returns:
        float ``[B, T, 3, H, W]`` in [-1, 1].
    """
    batch, length = video.shape[:2]
    x = video if video.is_floating_point() else video.float() / 127.5 - 1.0
    if rng.random() < 0.6:  # a decoder loses what is finer than some cell
        height, width = x.shape[-2:]
        scale = rng.uniform(0.35, 0.9)
        small = functional.interpolate(x.flatten(0, 1), size=(round(height * scale), round(width * scale)), mode="bilinear", antialias=True)
        x = functional.interpolate(small, size=(height, width), mode="bilinear").view_as(x)
    if rng.random() < 0.3:  # latent frames cover four frames: neighbours leak into each other
        near = torch.cat([x[:, :1], x[:, :-1]], 1) + torch.cat([x[:, 1:], x[:, -1:]], 1)
        x = torch.lerp(x, near / 2, rng.uniform(0.0, 0.35))
    if rng.random() < 0.8:
        gain = 1 + 0.1 * torch.randn(batch, 1, 1, 1, 1, generator=generator).clamp(-2, 2)
        shift = 0.06 * torch.randn(batch, 1, 1, 1, 1, generator=generator) + 0.02 * torch.randn(batch, 1, 3, 1, 1, generator=generator)
        x = x * gain.to(x.device) + shift.to(x.device)
    if rng.random() < 0.6:
        amount = rng.uniform(0.0, 0.06)
        coarse = torch.randn(batch * length, 3, x.shape[-2] // 4, x.shape[-1] // 4, generator=generator)
        wave = functional.interpolate(coarse, size=x.shape[-2:], mode="bilinear").view(x.shape)
        x = x + (amount * (wave + 0.5 * torch.randn(x.shape, generator=generator))).to(x.device)
    return x.clamp(-1.0, 1.0)


def loss(said: Verdict, answers: Verdict) -> Tensor:
    """Return the training loss: cross-entropies summed over questions, those about a body only where it is."""
    total = 4.0 * functional.binary_cross_entropy_with_logits(said.present, answers.present)
    for logits, labels in ((said.shape, answers.shape), (said.motion, answers.motion), (said.direction, answers.direction)):
        total = total + functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)
    for logits, labels, weight in ((said.count, answers.count, 0.5), (said.camera, answers.camera, 1.0), (said.floor, answers.floor, 0.3)):
        total = total + weight * functional.cross_entropy(logits, labels)
    return total + 0.3 * functional.cross_entropy(said.light, answers.light)


@torch.inference_mode()
def accuracy(judge: Judge, bank: Bank, *, batch_size: int = 32) -> dict[str, float]:
    """Return how often each question is answered right on clips that are not spoiled, in [0, 1].

    ``present`` counts clips with every colour right; shape, motion and direction count bodies.
    """
    right: dict[str, list[Tensor]] = {}
    for video, answers in bank.batches(batch_size):
        said = judge(video.float() / 127.5 - 1.0)
        right.setdefault("present", []).append(((said.present > 0) == (answers.present > 0.5)).all(1))
        for entry in dataclasses.fields(Verdict):
            if entry.name == "present":
                continue
            labels = getattr(answers, entry.name)
            hit = getattr(said, entry.name).argmax(-1) == labels
            right.setdefault(entry.name, []).append(hit[labels >= 0])
    return {name: float(torch.cat(hits).float().mean()) for name, hits in right.items()}


class JudgeTask:
    """The loop's task.

    Args:
        judge: What to train.
        bank: Training clips.
        held_out: Clips to measure on, of other seeds.
        batch_size: Clips a step.
        seed: Decides the order of the clips.
    """

    def __init__(self, judge: Judge, bank: Bank, held_out: Bank, *, batch_size: int, seed: int = 0) -> None:
        self.judge, self.bank, self.held_out = judge, bank, held_out
        self.batch_size, self.seed = batch_size, seed

    def module(self) -> nn.Module:
        """Return the judge."""
        return self.judge

    def describe(self) -> str:
        """Return one line on the training set."""
        return f"judge: {len(self.bank)} clips to train on in {len(self.bank.groups)} sizes, {len(self.held_out)} held out"

    def batch(self, index: int) -> tuple[Tensor, Verdict]:
        """Return spoiled clips of one size and their truth; sizes come up as often as they have clips."""
        rng = random.Random(f"{self.seed}/{index}")
        video, answers = rng.choices(self.bank.groups, weights=[len(video) for video, _ in self.bank.groups])[0]
        chosen = torch.tensor(rng.sample(range(len(video)), min(self.batch_size, len(video))))
        video, answers = video[chosen], answers.map(lambda values: values[chosen])
        if rng.random() < 0.5:
            video, answers = mirror(video, answers)
        return spoil(video, rng, torch.Generator().manual_seed(rng.getrandbits(62))), answers

    def work(self, batch: tuple[Tensor, Verdict]) -> Work:
        """Return clips, cells of an eighth of the frame, and operations of the convolutions forth and back."""
        clips, frames, _, height, width = batch[0].shape
        half, quarter, eighth = self.judge.config.widths
        cells = height * width / 64
        flops = 2 * 9 * cells * (16 * 12 * half + 4 * half * quarter + (quarter + 32) * eighth + 2 * eighth**2)
        return Work(samples=clips, tokens=round(clips * frames * cells), flops=3 * clips * frames * flops)

    def loss(self, batch: tuple[Tensor, Verdict], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and how often camera and shape are right in it."""
        device = next(self.judge.parameters()).device
        video, answers = batch[0].to(device), batch[1].map(lambda values: values.to(device))
        said = self.judge(video)
        there = answers.shape >= 0
        camera = float((said.camera.argmax(-1) == answers.camera).float().mean())
        shape = float((said.shape.argmax(-1) == answers.shape)[there].float().mean())
        return loss(said, answers), {"camera": camera, "shape": shape}

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write the accuracy on held-out clips."""
        assert isinstance(module, Judge)
        module.eval()
        write_text(folder / f"accuracy-{step:06d}.json", json.dumps(accuracy(module, self.held_out), indent=2) + "\n")

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write the judge's folder."""
        assert isinstance(module, Judge)
        module.save(folder)


def _read(shards: ShardSet, indices: Iterable[int]) -> Iterator[tuple[np.ndarray, Scene]]:
    for index in indices:
        frames, record = shards.read(index)
        yield frames, from_dict(Scene, record["scene"])


def train(config: JudgeTraining, folder: Path, device: torch.device) -> Result:
    """Train a judge on world shards and write its accuracy on held-out clips to ``accuracy.json``.

    Args:
        config: What and how long.
        folder: Takes checkpoints, logs and the exported judge.
        device: Where to compute.

    Raises:
        CheckpointError: ``init`` is missing, damaged or another network.
        DataError: the shards hold no clips.
    """
    shards = ShardSet(config.data)
    moving = [i for i in range(len(shards)) if shards.info(i).num_frames > 1][: config.limit]
    bank = Bank.gather(_read(shards, [i for place, i in enumerate(moving) if place % config.held_out]), config.judge)
    held_out = Bank.gather(_read(shards, moving[:: config.held_out]), config.judge)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        judge = Judge(config.judge)
    if config.init is not None:
        load_into(judge, config.init)
    task = JudgeTask(judge, bank, held_out, batch_size=config.batch_size, seed=config.train.seed)
    result = run(task, config.train, folder, device, optim=config.optim)
    write_provenance(shards, result.folder)
    right = accuracy(Judge.load(result.folder), held_out)
    write_text(folder / "accuracy.json", json.dumps({"clips": len(held_out), **right}, indent=2) + "\n")
    return result
