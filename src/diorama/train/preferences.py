"""A third lesson for the transformer: of what it draws of one prompt, prefer what shows that which was asked.

A model whose best of six stills is right far oftener than its first knows what it was asked for and does not hold to it. So before
the first step it draws several stills of many prompts, and several takes of how the best of them goes on; its captioner says how well
each fits, and where two of one prompt differ clearly the better is made likelier and the worse less likely, measured against the
weights of the start. Nobody labels anything.

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
from torch import Tensor
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
from diorama.pipeline.state import Cue, beginning, side_by_side, with_first_frame
from diorama.train.log import Work
from diorama.train.loop import Beside, Task
from diorama.transformer import Transformer

__all__ = [
    "DENSE_SHARE",
    "Drawn",
    "Pair",
    "PairBatch",
    "PreferenceBatch",
    "PreferenceConfig",
    "PreferenceTask",
    "draw_captions",
    "pairs_of",
    "preference_loss",
]

_TOGETHER = 32
"""Prompts whose stills are written at once; the most that a killed run draws again."""
DENSE_SHARE = 0.85
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
    takes: int = 0
    """Takes of each caption of a clip, which all go on from its best still; 0 compares stills alone. One costs as much as its frames."""
    steps: int = 10
    """Solver steps of each."""
    guidance_scale: float = 4.0
    """How strongly the caption steers them; what users get is drawn so, too."""
    margin: float = 4.0
    """Two of one caption make a pair if the captioner tells them apart by this many units of log-probability."""
    tokens: int = 1536
    """Tokens of the pairs beside each batch, at most; it has one pair at least."""
    beta: float = 1000.0
    """How closely the weights of the start are kept to: a pair counts less and less once its errors differ by more than 2 / beta."""
    seed: int = 0
    """Decides captions, what is drawn, and pairs."""

    def __post_init__(self) -> None:
        for name in ("prompts", "steps", "tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"preference.{name} is {getattr(self, name)}; it must be at least 1")
        if self.drawn < 2 or self.takes == 1 or self.takes < 0:
            raise ConfigError(
                f"preference.drawn is {self.drawn} and takes {self.takes}; they must be at least 2, for one is not better than another, or takes 0"
            )
        if not 0 <= self.weight < math.inf or not 0 <= self.margin < math.inf or not 0 < self.beta < math.inf:
            raise ConfigError(f"preference.weight {self.weight} and margin {self.margin} must be 0 or more, and beta {self.beta} above 0")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Stills of one caption, or takes that have their first frame in common."""

    text: Text
    """The caption as the transformer hears it."""
    latents: Tensor
    """``[N, C, T, h, w]`` float16; where T is above 1 the first frame was given."""
    scores: Tensor
    """How well each shows what the caption says, ``[N]``; only differences count."""
    fps: float
    """Pixel frames per second."""


@dataclass(frozen=True)
class Pair:
    """Two of one caption."""

    drawn: Drawn
    better: int
    """Number of the one that fits better."""
    worse: int
    """Number of the other."""


def pairs_of(drawn: Sequence[Drawn], margin: float) -> list[Pair]:
    """Return the pairs that can be learned from: the best with the worst of a caption, the second best with the second worst and so on.

    Args:
        drawn: What was drawn of any number of captions.
        margin: By how much the scores of a pair differ at least.
    """
    found = []
    for one in drawn:
        order = one.scores.argsort(descending=True, stable=True).tolist()
        for better, worse in zip(order[: len(order) // 2], reversed(order), strict=False):
            if float(one.scores[better] - one.scores[worse]) > margin:
                found.append(Pair(one, better, worse))
    return found


def draw_captions(
    models: Models, cache: LatentCache, config: PreferenceConfig, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> list[Drawn]:
    """Draw stills of captions of a training set, and takes, at the sizes of their clips, and score them; what a run that was killed drew is kept.

    Args:
        models: What draws, with a captioner.
        cache: Latents and captions of the training set, complete.
        config: How many, and how.
        folder: Where they are kept, in files of a few captions each.
        progress: Called with captions done and in all.

    Raises:
        ConfigError: the model has no captioner, cannot go on from a still, or the folder holds what was drawn otherwise.
        CheckpointError: the disk is full, or a file is damaged.
    """
    if models.captioner is None:
        raise ConfigError("preference.weight needs a captioner that tells stills apart and the model has none; train one, or leave it out")
    if config.takes and (models.transformer.config.patch_size[0] > 1 or models.animates):
        raise ConfigError("preference.takes needs a model that goes on from a frame in its own latent, and this one does not; leave it out")
    how = {name: getattr(config, name) for name in ("drawn", "takes", "steps", "guidance_scale", "seed")}
    _claim(folder, {"model": models.hash, "cache": cache.folder.name, "captions": cache.shards.fingerprint(), **how})
    drawn = list[Drawn]()
    for first in range(0, config.prompts, _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, config.prompts))
        path = folder / f"{numbers.start:06d}-{numbers.stop:06d}.safetensors"
        if not path.exists():
            made = runtime.at_once(functools.partial(_draw, models, cache, config), numbers, models.device)
            write_file(path, {f"{number}.{name}": value for number, one in zip(numbers, made, strict=True) for name, value in one.items()})
        tensors, _ = load_file(path)
        for number in numbers:
            index, caption = tensors[f"{number}.caption"].tolist()
            text, fps = cache.text(index, 0, caption), cache.fps(index)
            for kind in ("stills", "takes"):
                if f"{number}.{kind}" in tensors:
                    latents, scores = (tensors[f"{number}.{name}"] for name in (kind, f"{kind}_scores"))
                    drawn.append(Drawn(text=text, latents=latents, scores=scores, fps=fps))
        if progress is not None:
            progress(numbers.stop, config.prompts)
    return drawn


def _claim(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Note what draws into a folder.

    Raises:
        ConfigError: something else did.
    """
    note = folder / "drawn.json"
    if note.exists() and read_json(note) != made_by:
        raise ConfigError(f"{folder} holds what another model drew, or of other captions, or otherwise; train in another folder, or delete it")
    write_text(note, json.dumps(made_by) + "\n")


@torch.inference_mode()
def _draw(models: Models, cache: LatentCache, config: PreferenceConfig, number: int) -> dict[str, Tensor]:
    """Draw of one caption; everything follows from the seed and the number."""
    generator = runtime.generator((config.seed * 1_000_003 + number + 1) % 2**63)
    index, seed = (int(torch.randint(high, (), generator=generator)) for high in (len(cache), 2**62))
    caption = cache.choose(index, float(torch.rand((), generator=generator)), DENSE_SHARE)
    _, frames, height, width = cache.shape(index)
    cell = models.autoencoder.config.stride
    request = Request(
        prompt=first_captions(cache.shards.record(index), cache.config.captions)[caption],
        width=width * cell.space,
        height=height * cell.space,
        num_frames=1 + (frames - 1) * cell.time,
        fps=cache.fps(index),
        seed=seed,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        candidates=1,
        still_first=False,
    )
    blank = prepare(models, request, [Guide(prompt=request.prompt)])
    stills = denoise(models, request, side_by_side(list(candidates(beginning(blank), seed, config.drawn))))[0]
    made = {"caption": torch.tensor([index, caption]), **_scored("stills", models, request, torch.split(stills, 1, dim=1), blank.cues)}
    if config.takes and frames > 1:
        best = stills[:, int(made["stills_scores"].argmax()), None]
        takes = [denoise(models, request, with_first_frame(take, best))[0] for take in candidates(blank, seed, config.takes)]
        made |= _scored("takes", models, request, takes, blank.cues)
    return made


def _scored(kind: str, models: Models, request: Request, latents: Sequence[Tensor], cues: Sequence[Cue]) -> dict[str, Tensor]:
    """Return latents ``[C, T, h, w]`` in one, and how well each fits, by their names in a file."""
    scores = fitness(models, [decode(models, latent, request.fps) for latent in latents], cues)
    return {kind: torch.stack(list(latents)).half(), f"{kind}_scores": scores}


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Pairs of one step with their flow times, on the CPU."""

    pairs: Sequence[Pair]
    times: Tensor
    """One for both of a pair ``[P]``."""
    padded_to: int | None = None
    """Tokens that every text is filled up to in sight of the transformer, as ``TextStates`` says."""


def preference_loss(model: Transformer, reference: Transformer, batch: PairBatch, generator: torch.Generator, beta: float) -> tuple[Tensor, Tensor]:
    """Return how little a model prefers the better ones, more than the reference does.

    Both of a pair are noised alike, but for a frame that was given, and what counts is how much less the model errs on the better one,
    and more on the worse one, than the reference. The loss is scaled so that at the reference its gradient is that of the difference of both errors.

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
    noisy, targets, times, drawn = list[Tensor](), list[Tensor](), list[Tensor](), list[Drawn]()
    for pair, time in zip(batch.pairs, batch.times.to(device), strict=True):
        both = pair.drawn.latents[[pair.better, pair.worse]].float().to(device)
        noise = torch.randn(both.shape[1:], generator=generator, device=device)
        frames = time.repeat(both.shape[2])
        if len(frames) > 1:
            frames[0] = 0
        for data in both:
            noisy.append(interpolate(data, noise, frames[:, None, None]))
            targets.append(patchify(velocity_target(data, noise), patch))
            times.append(frames)
            drawn.append(pair.drawn)
    # Clips of one size must be neighbours to be attended in one call.
    order = sorted(range(len(noisy)), key=lambda i: noisy[i].shape)
    heard = [part.to(device) for part in padded([drawn[i].text for i in order])]
    target = torch.cat([targets[i] for i in order])

    def errors(transformer: Transformer) -> Tensor:
        clips = transformer.pack([noisy[i] for i in order], [times[i][:: patch[0]] for i in order], fps=[drawn[i].fps for i in order])
        velocity = transformer(clips, transformer.encode_text(*heard, padded_to=batch.padded_to))
        made = clips.times > 0
        each = (velocity - target).square().mean(dim=-1) * made
        parts = zip(torch.split(each, list(clips.lengths)), torch.split(made, list(clips.lengths)), strict=True)
        means = torch.stack([part.sum() / counted.sum() for part, counted in parts])
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


class PreferenceTask(Beside):
    """A task that trains a transformer, and the lesson beside it.

    Args:
        inner: The task; it brings clips, samples and export.
        transformer: Of that task, on its device; as it is now it is the reference, of which a copy is kept.
        drawn: Of `draw_captions`.
        config: The lesson.
        times: A flow time ``[1]`` for so many tokens, from a generator.
        padded_to: See `PairBatch`.

    Raises:
        DataError: no two of a caption differ by the margin.
    """

    def __init__(
        self,
        inner: Task,
        transformer: Transformer,
        drawn: Sequence[Drawn],
        config: PreferenceConfig,
        times: Callable[[torch.Generator, int], Tensor],
        *,
        padded_to: int | None = None,
    ) -> None:
        super().__init__(inner)
        self.transformer, self.config, self._times, self._padded_to = transformer, config, times, padded_to
        self.reference = copy.deepcopy(transformer).requires_grad_(False).eval()
        self.pairs = pairs_of(drawn, config.margin)
        if not self.pairs:
            raise DataError(f"of {config.prompts} captions no two stills differ by preference.margin {config.margin:g}; lower it, or draw more")

    def describe(self) -> str:
        """Return counts of the training set."""
        stills = sum(pair.drawn.latents.shape[2] == 1 for pair in self.pairs)
        return f"{self.inner.describe()}; of {self.config.prompts} captions {stills} pairs of stills and {len(self.pairs) - stills} of takes"

    def batch(self, index: int) -> PreferenceBatch:
        """Return a batch of the inner task with pairs beside it, drawn for the index."""
        generator, left = runtime.generator((self.config.seed * 1_000_003 + index + 1) % 2**63), self.config.tokens
        chosen, times = list[Pair](), list[Tensor]()
        for number in torch.randperm(len(self.pairs), generator=generator).tolist():
            tokens = self._num_tokens(self.pairs[number])
            if chosen and 2 * tokens > left:
                break
            left -= 2 * tokens
            chosen.append(self.pairs[number])
            times.append(self._times(generator, tokens))
        return PreferenceBatch(inner=self.inner.batch(index), pairs=PairBatch(pairs=chosen, times=torch.cat(times), padded_to=self._padded_to))

    def _num_tokens(self, pair: Pair) -> int:
        _, _, frames, height, width = pair.drawn.latents.shape
        return math.prod(grid_of((frames, height, width), self.transformer.config.patch_size))

    def work(self, batch: PreferenceBatch) -> Work:
        """Return the size of a batch; the reference answers for every pair, too, without gradients."""
        inner, pairs = self.inner.work(batch.inner), batch.pairs.pairs
        lengths = [self._num_tokens(pair) for pair in pairs for _ in range(2)]
        num_text = round(sum(len(pair.drawn.text.states) for pair in pairs) / len(pairs))
        flops = 4.0 * self.transformer.num_flops(lengths, num_text)
        return Work(samples=inner.samples + len(lengths), tokens=inner.tokens + sum(lengths), flops=inner.flops + flops)

    def loss(self, batch: PreferenceBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the inner task's loss with the lesson's beside it, and what share of the pairs is preferred as it should be, and by how much."""
        loss, figures = self.inner.loss(batch.inner, generator)
        preference, preferred = preference_loss(self.transformer, self.reference, batch.pairs, generator, self.config.beta)
        figures |= {"loss_preference": float(preference.detach()), "preferred_share": float((preferred > 0).float().mean())}
        return loss + self.config.weight * preference, figures | {"preferred_by": float(preferred.mean())}
