"""A third lesson for the transformer: of the stills that it draws of one prompt, prefer those that show what was asked.

A model whose best of six stills is right far oftener than its first knows what it was asked for and does not hold to it. So before
the first step it draws several stills of many prompts, its captioner says how well each fits, and where two of one prompt differ
clearly the better is made likelier and the worse less likely, measured against the weights of the start. Nobody labels anything.

Source: Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization", https://arxiv.org/abs/2311.12908.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diorama import runtime
from diorama.checkpoint import load_file, read_json, write_file, write_text
from diorama.data import LatentCache, Text, padded
from diorama.data.latents import first_captions
from diorama.errors import ConfigError, DataError
from diorama.flow import interpolate, velocity_target
from diorama.patches import grid_of, patchify
from diorama.pipeline import Guide, Models, Request
from diorama.pipeline.candidates import candidates, fitness
from diorama.pipeline.generate import decode, denoise, prepare
from diorama.pipeline.state import side_by_side
from diorama.train.log import Work
from diorama.train.loop import Task
from diorama.transformer import Transformer

__all__ = ["Drawn", "PairBatch", "PreferenceBatch", "PreferenceConfig", "PreferenceTask", "StillPair", "draw_stills", "pairs_of", "preference_loss"]

_TOGETHER = 32
"""Prompts whose stills are written at once; the most that a killed run draws again."""
_DENSE = 0.85
"""Share of stills drawn of dense captions, the others of short ones."""


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """The lesson; the model that is trained must have a captioner."""

    weight: float = 0.0
    """How much the difference of two stills' errors counts beside the velocity's own at the start; 0 leaves the lesson out."""
    prompts: int = 1200
    """Captions of the training set that stills are drawn of."""
    drawn: int = 6
    """Stills of each."""
    steps: int = 10
    """Solver steps of each still."""
    guidance_scale: float = 4.0
    """How strongly the caption steers them; those that users get are drawn so, too."""
    margin: float = 4.0
    """Two stills make a pair if the captioner tells them apart by this many units of log-probability."""
    pairs: int = 12
    """Pairs beside each batch."""
    beta: float = 1000.0
    """How closely the weights of the start are kept to: a pair counts less and less once its errors differ by more than 2 / beta."""
    seed: int = 0
    """Decides captions, stills and pairs."""

    def __post_init__(self) -> None:
        for name in ("prompts", "steps", "pairs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"preference.{name} is {getattr(self, name)}; it must be at least 1")
        if self.drawn < 2:
            raise ConfigError(f"preference.drawn is {self.drawn}; it must be at least 2, for one still is not better than another")
        if not 0 <= self.weight < math.inf or not 0 <= self.margin < math.inf or not 0 < self.beta < math.inf:
            raise ConfigError(f"preference.weight {self.weight} and margin {self.margin} must be 0 or more, and beta {self.beta} above 0")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The stills of one caption."""

    text: Text
    """The caption as the transformer hears it."""
    latents: Tensor
    """``[N, C, 1, h, w]`` float16."""
    scores: Tensor
    """How well each shows what the caption says, ``[N]``; only differences count."""


@dataclass(frozen=True)
class StillPair:
    """Two stills of one caption."""

    drawn: Drawn
    better: int
    """Number of the one that fits better."""
    worse: int
    """Number of the other."""


def pairs_of(drawn: Sequence[Drawn], margin: float) -> list[StillPair]:
    """Return the pairs that can be learned from: the best with the worst still of a caption, the second best with the second worst and so on.

    Args:
        drawn: Stills of any number of captions.
        margin: By how much the scores of a pair differ at least.
    """
    found = []
    for one in drawn:
        order = one.scores.argsort(descending=True, stable=True).tolist()
        for better, worse in zip(order[: len(order) // 2], reversed(order), strict=False):
            if float(one.scores[better] - one.scores[worse]) > margin:
                found.append(StillPair(one, better, worse))
    return found


def draw_stills(
    models: Models, cache: LatentCache, config: PreferenceConfig, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> list[Drawn]:
    """Draw stills of captions of a training set, at the sizes of their clips, and score them; what a run that was killed drew is kept.

    Args:
        models: What draws, with a captioner.
        cache: Latents and captions of the training set, complete.
        config: How many, and how.
        folder: Where they are kept, in files of a few captions each.
        progress: Called with captions done and in all.

    Raises:
        ConfigError: the model has no captioner, or the folder holds stills that were drawn otherwise.
        CheckpointError: the disk is full, or a file is damaged.
    """
    if models.captioner is None:
        raise ConfigError("preference.weight needs a captioner that tells stills apart and the model has none; train one, or leave it out")
    _claim(folder, {"model": models.hash, "cache": f"{cache.folder.name} {len(cache)}", **_how(config)})
    drawn = list[Drawn]()
    for first in range(0, config.prompts, _TOGETHER):
        if progress is not None:
            progress(first, config.prompts)
        path, numbers = folder / f"{first:06d}.safetensors", range(first, min(first + _TOGETHER, config.prompts))
        if not path.exists():
            made = runtime.at_once(functools.partial(_stills, models, cache, config), numbers, models.device)
            write_file(path, {f"{number}.{name}": value for number, one in zip(numbers, made, strict=True) for name, value in one.items()})
        tensors, _ = load_file(path)
        for number in numbers:
            index, caption = tensors[f"{number}.caption"].tolist()
            text = cache.text(index, 0, caption)
            drawn.append(Drawn(text=text, latents=tensors[f"{number}.latents"], scores=tensors[f"{number}.scores"]))
    return drawn


def _how(config: PreferenceConfig) -> dict[str, Any]:
    """Return the settings that stills depend on; with more prompts those that are drawn already stay."""
    return {name: getattr(config, name) for name in ("drawn", "steps", "guidance_scale", "seed")}


def _claim(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Note what draws into a folder.

    Raises:
        ConfigError: something else did.
    """
    note = folder / "drawn.json"
    if note.exists() and read_json(note) != made_by:
        raise ConfigError(f"{folder} holds stills drawn by another model, of other captions or otherwise; train in another folder, or delete it")
    write_text(note, json.dumps(made_by) + "\n")


def _stills(models: Models, cache: LatentCache, config: PreferenceConfig, number: int) -> dict[str, Tensor]:
    """Draw the stills of one caption; everything follows from the seed and the number."""
    generator = runtime.generator((config.seed * 1_000_003 + number + 1) % 2**63)
    index, seed = (int(torch.randint(high, (), generator=generator)) for high in (len(cache), 2**62))
    caption = cache.choose(index, float(torch.rand((), generator=generator)), _DENSE)
    _, _, height, width = cache.shape(index)
    cell = models.autoencoder.config.stride.space
    request = Request(
        prompt=first_captions(cache.shards.record(index), cache.config.captions)[caption],
        width=width * cell,
        height=height * cell,
        num_frames=1,
        seed=seed,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        candidates=1,
    )
    with torch.inference_mode():
        blank = prepare(models, request, [Guide(prompt=request.prompt)])
        latents, _ = denoise(models, request, side_by_side(list(candidates(blank, seed, config.drawn))))
        frames = [decode(models, latent, request.fps) for latent in torch.split(latents, 1, dim=1)]
        scores = fitness(models, frames, blank.cues)
    return {"latents": latents.transpose(0, 1)[:, :, None].half(), "scores": scores, "caption": torch.tensor([index, caption])}


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Pairs of one step with their flow times, on the CPU."""

    pairs: Sequence[StillPair]
    times: Tensor
    """One for both stills of a pair ``[P]``."""


def preference_loss(model: Transformer, reference: Transformer, batch: PairBatch, generator: torch.Generator, beta: float) -> tuple[Tensor, Tensor]:
    """Return how little a model prefers the better stills, more than the reference does.

    Both stills of a pair are noised alike, and what counts is how much less the model errs on the better one, and more on the worse one,
    than the reference. The loss is scaled so that at the reference its gradient is that of the difference of both errors.

    Args:
        model: What is trained, on the generator's device.
        reference: The same before training.
        batch: Pairs.
        generator: Source of the noise.
        beta: See `PreferenceConfig`.

    Returns:
        A scalar, and by how much each pair is preferred, in units of error ``[P]``, without gradients.
    """
    device, patch = generator.device, model.config.patch_size
    noisy, targets, times, texts = list[Tensor](), list[Tensor](), list[Tensor](), list[Text]()
    for pair, time in zip(batch.pairs, batch.times.to(device), strict=True):
        better, worse = (pair.drawn.latents[number].float().to(device) for number in (pair.better, pair.worse))
        noise = torch.randn(better.shape, generator=generator, device=device)
        for data in (better, worse):
            noisy.append(interpolate(data, noise, time))
            targets.append(patchify(velocity_target(data, noise), patch))
            times.append(time.expand(1))
            texts.append(pair.drawn.text)
    # Stills of one size must be neighbours to be attended in one call.
    order = sorted(range(len(noisy)), key=lambda i: noisy[i].shape)
    heard = padded([texts[i] for i in order])
    target = torch.cat([targets[i] for i in order])

    def errors(transformer: Transformer) -> Tensor:
        clips = transformer.pack([noisy[i] for i in order], [times[i] for i in order])
        velocity = transformer(clips, transformer.encode_text(*(part.to(device) for part in heard)))
        each = (velocity - target).square().mean(dim=-1)
        means = torch.stack([part.mean() for part in torch.split(each, list(clips.lengths))])
        return means[torch.tensor(order, device=device).argsort()].view(-1, 2)

    with torch.no_grad():
        before = errors(reference)
    gained = before - errors(model)
    preferred = gained[:, 0] - gained[:, 1]
    return -4 / beta * functional.logsigmoid(beta / 2 * preferred).mean(), preferred.detach()


@dataclass(frozen=True, kw_only=True)
class PreferenceBatch:
    """A batch of the task beside, and pairs."""

    inner: Any
    """What the task beside learns from."""
    pairs: PairBatch


class PreferenceTask:
    """A task that trains a transformer, and the lesson beside it.

    Args:
        inner: The task; it brings clips, samples and export.
        transformer: Of that task, on its device; as it is now it is the reference, of which a copy is kept.
        drawn: Of `draw_stills`.
        config: The lesson.
        times: Flow times of a still of so many tokens, from a generator.

    Raises:
        DataError: no two stills of a caption differ by the margin.
    """

    def __init__(
        self,
        inner: Task,
        transformer: Transformer,
        drawn: Sequence[Drawn],
        config: PreferenceConfig,
        times: Callable[[torch.Generator, int], Tensor],
    ) -> None:
        self.inner, self.transformer, self.config, self._times = inner, transformer, config, times
        self.reference = copy.deepcopy(transformer).requires_grad_(False).eval()
        self.num_prompts, self.pairs = len(drawn), pairs_of(drawn, config.margin)
        if not self.pairs:
            raise DataError(f"no two stills of {len(drawn)} captions differ by preference.margin {config.margin:g}; lower it, or draw more")

    def module(self) -> nn.Module:
        """Return what the inner task trains."""
        return self.inner.module()

    def describe(self) -> str:
        """Return counts of the training set."""
        return f"{self.inner.describe()}; {len(self.pairs)} pairs of stills of {self.num_prompts} captions"

    def batch(self, index: int) -> PreferenceBatch:
        """Return a batch of the inner task with pairs beside it; each pair is shown once before any is shown again."""
        count, generator = len(self.pairs), runtime.generator((self.config.seed * 1_000_003 + index + 1) % 2**63)
        chosen = [
            self.pairs[self._order(place // count)[place % count]] for place in range(index * self.config.pairs, (index + 1) * self.config.pairs)
        ]
        times = [self._times(generator, math.prod(pair.drawn.latents.shape[-2:])) for pair in chosen]
        return PreferenceBatch(inner=self.inner.batch(index), pairs=PairBatch(pairs=chosen, times=torch.cat(times)))

    def _order(self, round_: int) -> list[int]:
        """Return the order of the pairs the so-manieth time that they are shown."""
        generator = runtime.generator((self.config.seed * 1_000_003 + round_ + 1) % 2**63)
        order: list[int] = torch.randperm(len(self.pairs), generator=generator).tolist()
        return order

    def work(self, batch: PreferenceBatch) -> Work:
        """Return the size of a batch; the reference answers for every pair, too, without gradients."""
        inner, latents = self.inner.work(batch.inner), [pair.drawn.latents[0] for pair in batch.pairs.pairs for _ in range(2)]
        lengths = [math.prod(grid_of((x.shape[1], x.shape[2], x.shape[3]), self.transformer.config.patch_size)) for x in latents]
        num_text = round(sum(len(pair.drawn.text.states) for pair in batch.pairs.pairs) / len(batch.pairs.pairs))
        flops = 4.0 * self.transformer.num_flops(lengths, num_text)
        return Work(samples=inner.samples + len(lengths), tokens=inner.tokens + sum(lengths), flops=inner.flops + flops)

    def loss(self, batch: PreferenceBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the inner task's loss with the lesson's beside it, and what share of the pairs is preferred as it should be, and by how much."""
        loss, figures = self.inner.loss(batch.inner, generator)
        preference, preferred = preference_loss(self.transformer, self.reference, batch.pairs, generator, self.config.beta)
        figures |= {"loss_preference": float(preference.detach()), "preferred_share": float((preferred > 0).float().mean())}
        return loss + self.config.weight * preference, figures | {"preferred_by": float(preferred.mean())}

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write what the inner task writes."""
        self.inner.sample(module, folder, step)

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write what the inner task writes."""
        self.inner.export(module, folder)
