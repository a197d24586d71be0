"""Training of the matcher on rendered stills: true captions, and captions of the same scene with one thing changed.

What is changed, a shape most of all, is what generated pictures get wrong. Pairs of colour and shape that no training set
shows are in no wrong caption either, or the matcher would learn that they never match. Where a record says what each cell
shows, a head that is not kept names the cells too: captions alone teach the eye shapes slowly.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from diorama.checkpoint import load_into, write_text
from diorama.config import from_dict
from diorama.data.coverage import KINDS, latent_kinds
from diorama.data.shards import ShardSet
from diorama.errors import ConfigError, DataError
from diorama.ops.eye import pick
from diorama.text.encoder import CompactTextEncoder, load_text_encoder
from diorama.text.matcher import Matcher, MatcherConfig
from diorama.train.judge import spoil
from diorama.train.log import Work
from diorama.train.loop import LoopConfig, Result, run
from diorama.train.naming import NamingHead, naming_loss
from diorama.train.optim import OptimConfig
from diorama.worlds.captions import caption, mirror_caption
from diorama.worlds.scene import COLORS, FLOORS, LIGHTS, SHAPES, Body, Scene, held_out

__all__ = ["CHANGES", "Album", "Exercise", "MatcherTask", "MatcherTraining", "accuracy", "altered", "match_loss", "train"]

CHANGES = {"shape": 0.35, "colour": 0.12, "swap": 0.15, "more": 0.1, "fewer": 0.1, "floor": 0.1, "light": 0.08}
"""What a wrong caption says wrongly, and how often: a body's shape or colour, two bodies' shapes exchanged, a body too many or too few."""


@dataclass(frozen=True, kw_only=True)
class MatcherTraining:
    """A run that trains a matcher."""

    data: tuple[Path, ...]
    """Folders of world shards; only stills are used."""
    limit: int | None = None
    """Use only so many stills, spread over all."""
    text_encoder: Path | None = None
    """Folder of the model whose text encoder states the captions; None is the packaged one."""
    held_out: int = 40
    """One still in so many is kept to measure the matcher on."""
    batch_size: int = 32
    """Stills a step, all of one size."""
    wrong: int = 3
    """Wrong captions of each still a step, beside a true one."""
    naming: float = 1.0
    """Weight of naming what each cell shows, where records say it; 0 leaves it out."""
    init: Path | None = None
    """Folder of a matcher to go on from, of the same network; None starts anew."""
    matcher: MatcherConfig = field(default_factory=MatcherConfig)
    """The network."""
    train: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3000, warmup=50, decay=1500, ema_decay=0.995, sample_steps=500))
    """How long."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(adamw_lr=2e-3, adamw_names=("stem", "objection", "place", "naming_head")))
    """Learning rates."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.wrong) < 1 or self.held_out < 2 or self.naming < 0:
            raise ConfigError(
                f"batch_size {self.batch_size} and wrong {self.wrong} must be at least 1, held_out {self.held_out} at least 2 and naming "
                f"{self.naming} at least 0"
            )


@dataclass(frozen=True)
class Album:
    """Stills with their scenes, grouped by size so that a group makes batches."""

    groups: tuple[tuple[Tensor, Tensor, tuple[Scene, ...]], ...]
    """Of each size: pictures uint8 ``[N, 3, h, w]``, what each of their cells of 8 x 8 pixels shows as ``latent_kinds`` says it, int8
    ``[N, len(KINDS), h / 8, w / 8]`` with -1 where that is not known, and N scenes."""

    @classmethod
    def gather(cls, shards: ShardSet, indices: Iterable[int], area: int) -> Album:
        """Read and group stills.

        Args:
            shards: Worlds.
            indices: Which to take.
            area: Pixels they are resized to.

        Raises:
            DataError: there are none.
        """
        found: dict[tuple[int, ...], list[tuple[Tensor, Tensor, Scene]]] = {}
        for index in indices:
            frames, record = shards.read(index)
            if "scene" in record:
                picture = pick(frames, 1, area)[0]
                grid = picture.shape[1] // 8, picture.shape[2] // 8
                kinds = latent_kinds(record, (1, *grid))
                known = torch.full((len(KINDS), *grid), -1, dtype=torch.int8) if kinds is None else kinds[:, 0].to(torch.int8)
                found.setdefault(tuple(picture.shape), []).append((picture, known, from_dict(Scene, record["scene"])))
        if not found:
            raise DataError("the matcher's training set holds 0 stills; render some with: diorama worlds render --count 4000 --stills --out DIR")
        lists = [tuple(zip(*group, strict=True)) for group in found.values()]
        return cls(tuple((torch.stack(pictures), torch.stack(kinds), scenes) for pictures, kinds, scenes in lists))

    def __len__(self) -> int:
        return sum(len(pictures) for pictures, _, _ in self.groups)


@dataclass(frozen=True)
class Exercise:
    """What a step shows."""

    pictures: Tensor
    """float ``[B, 3, h, w]`` in [-1, 1]."""
    states: Tensor
    """Of each picture a true caption and the wrong ones ``[B, 1 + wrong, M, D]``."""
    mask: Tensor
    """Which words are there ``[B, 1 + wrong, M]``."""
    kinds: Tensor
    """What each cell shows ``[B L, len(KINDS)]`` int64, -1 where that is not known."""


def altered(scene: Scene, rng: random.Random, change: str) -> Scene | None:
    """Change one thing that a dense caption says.

    Args:
        scene: What is true.
        rng: Chooses.
        change: A key of ``CHANGES``.

    Returns:
        The untrue scene, or None if that cannot be changed here.
    """
    bodies = list(scene.bodies)
    place = rng.randrange(len(bodies))
    body = bodies[place]
    if change == "floor":
        return dataclasses.replace(scene, floor=rng.choice([floor for floor in FLOORS if floor != scene.floor]))
    if change == "light":
        return dataclasses.replace(scene, light=rng.choice([light for light in LIGHTS if light != scene.light]))
    if change == "shape":
        bodies[place] = dataclasses.replace(body, shape=rng.choice([s for s in SHAPES if s != body.shape and not held_out(body.color, s)]))
    elif change == "colour":
        free = _free_colors(scene, body.shape)
        bodies[place] = dataclasses.replace(body, color=rng.choice(free))
    elif change == "swap":
        other = rng.randrange(len(bodies))
        mine, its = bodies[place], bodies[other]
        if mine.shape == its.shape or mine.color == its.color or held_out(mine.color, its.shape) or held_out(its.color, mine.shape):
            return None
        bodies[place], bodies[other] = dataclasses.replace(mine, shape=its.shape), dataclasses.replace(its, shape=mine.shape)
    elif change == "more":
        shape = rng.choice(SHAPES)
        still = dataclasses.replace(body, shape=shape, color=rng.choice(_free_colors(scene, shape)), motion="rest", direction="none", partner=None)
        bodies.insert(len(bodies), still)
    elif change == "fewer":
        if len(bodies) < 2:
            return None
        bodies = [_without_partner(other, len(bodies) - 1) for other in bodies[:-1]]
    return dataclasses.replace(scene, bodies=tuple(bodies))


def _free_colors(scene: Scene, shape: str) -> list[str]:
    used = {body.color for body in scene.bodies}
    return [color for color in COLORS if color not in used and not held_out(color, shape)]


def _without_partner(body: Body, gone: int) -> Body:
    return dataclasses.replace(body, motion="slide", partner=None) if body.partner == gone else body


def _wrong(scene: Scene, rng: random.Random) -> Scene:
    while True:
        change = rng.choices(list(CHANGES), weights=list(CHANGES.values()))[0]
        untrue = altered(scene, rng, change)
        if untrue is not None:
            return untrue


def match_loss(words: Tensor, true: Tensor) -> Tensor:
    """Return the loss of texts by whether they are true: of each by itself, and of the true among those of its picture.

    Args:
        words: Log-probability that nothing contradicts a word, ``[B, 1 + wrong, M]``; the true caption is the first.
        true: 1 and 0, ``[B, 1 + wrong]``.
    """
    log_match = words.sum(-1)
    log_wrong = torch.log(-torch.expm1(log_match.clamp_max(-1e-4)))
    alone = -torch.where(true > 0.5, log_match, log_wrong)
    balance = torch.where(true > 0.5, float(true.shape[1] - 1), 1.0)
    among = functional.cross_entropy(log_match, torch.zeros(len(words), dtype=torch.long, device=words.device))
    return (alone * balance).sum() / balance.sum() + 0.5 * among


class _Pupil(nn.Module):
    """A matcher with the head that names its cells, which is used in training only."""

    def __init__(self, matcher: Matcher) -> None:
        super().__init__()
        self.matcher = matcher
        self.naming_head = NamingHead(matcher.config.widths[-1])


class MatcherTask:
    """The loop's task.

    Args:
        matcher: What to train.
        encoder: States the captions; it stays as it is.
        album: Training stills.
        kept: Stills to measure on.
        config: How; its data are not read.
    """

    def __init__(self, matcher: Matcher, encoder: CompactTextEncoder, album: Album, kept: Album, config: MatcherTraining) -> None:
        self.matcher, self.encoder, self.album, self.kept, self.config = matcher, encoder, album, kept, config
        self.pupil = _Pupil(matcher)

    def module(self) -> nn.Module:
        """Return matcher and head."""
        return self.pupil

    def describe(self) -> str:
        """Return one line on the training set."""
        return f"matcher: {len(self.album)} stills to train on in {len(self.album.groups)} sizes, {len(self.kept)} held out"

    def batch(self, index: int) -> Exercise:
        """Return spoiled stills of one size with their captions; sizes come up as often as they have stills."""
        rng = random.Random(f"{self.config.train.seed}/{index}")
        pictures, kinds, scenes = rng.choices(self.album.groups, weights=[len(pictures) for pictures, _, _ in self.album.groups])[0]
        chosen = rng.sample(range(len(pictures)), min(self.config.batch_size, len(pictures)))
        mirrored = rng.random() < 0.5
        told = [(scenes[i], *(_wrong(scenes[i], rng) for _ in range(self.config.wrong))) for i in chosen]
        texts = [caption(scene, rng.getrandbits(40)).dense for group in told for scene in group]
        shown, known = (values[torch.tensor(chosen)] for values in (pictures, kinds))
        if mirrored:
            shown, known, texts = shown.flip(-1), known.flip(-1), [mirror_caption(text) for text in texts]
        spoiled = spoil(shown[:, None], rng, torch.Generator().manual_seed(rng.getrandbits(62)))[:, 0]
        return Exercise(spoiled, *_told(self.encoder, texts, len(chosen)), known.long().permute(0, 2, 3, 1).flatten(0, 2))

    def work(self, batch: Exercise) -> Work:
        """Return stills, words, and operations of convolutions and words forth and back."""
        config = self.matcher.config
        half, quarter, eighth = config.widths
        cells = batch.pictures.shape[-1] * batch.pictures.shape[-2] / 64
        seen = 2 * 9 * cells * (16 * 12 * half + 4 * half * quarter + quarter * eighth + 2 * config.blocks * eighth**2)
        said = 2 * config.depth * 8 * eighth**2
        return Work(samples=len(batch.pictures), tokens=batch.mask.numel(), flops=3.0 * (len(batch.pictures) * seen + batch.mask.numel() * said))

    def loss(self, batch: Exercise, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch, how often the true caption is held the likeliest, and how many cells are named right."""
        device = self.matcher.objection.weight.device
        cells = self.matcher.watch(batch.pictures.to(device))
        words = self.matcher(cells, batch.states.to(device), batch.mask.to(device))
        true = torch.zeros(words.shape[:2], device=words.device)
        true[:, 0] = 1.0
        right = float((words.sum(-1).argmax(-1) == 0).float().mean())
        loss, figures = match_loss(words, true), {"right": right}
        if self.config.naming:
            kinds = batch.kinds.to(device)
            weights = torch.where(kinds[:, 0] > 0, 1.0, 0.1)  # nine cells of ten show the background
            named, told = naming_loss(self.pupil.naming_head, cells.flatten(0, 1), kinds, weights)
            loss, figures = loss + self.config.naming * named, {**figures, **told}
        return loss, figures

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write the accuracy on held-out stills."""
        assert isinstance(module, _Pupil)
        module.eval()
        write_text(folder / f"accuracy-{step:06d}.json", json.dumps(accuracy(module.matcher, self.encoder, self.kept), indent=2) + "\n")

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write the matcher's folder."""
        assert isinstance(module, _Pupil)
        module.matcher.save(folder)


def _told(encoder: CompactTextEncoder, texts: Sequence[str], num_pictures: int) -> tuple[Tensor, Tensor]:
    """Return states ``[B, K, M, D]`` and mask ``[B, K, M]`` of K texts for each of B pictures."""
    told = encoder.encode(texts)
    return torch.unflatten(told.states, 0, (num_pictures, -1)), torch.unflatten(told.mask, 0, (num_pictures, -1))


@torch.inference_mode()
def accuracy(matcher: Matcher, encoder: CompactTextEncoder, album: Album, *, seed: int = 0) -> dict[str, float]:
    """Return for each of ``CHANGES`` how often the true caption of a still that is not spoiled beats one so changed, in [0, 1]."""
    rng, device = random.Random(seed), matcher.objection.weight.device
    beaten: dict[str, list[bool]] = {change: [] for change in CHANGES}
    for pictures, _, scenes in album.groups:
        for picture, scene in zip(pictures, scenes, strict=True):
            untrue = {change: found for change in CHANGES if (found := altered(scene, rng, change)) is not None}
            texts = [caption(told, rng.getrandbits(40)).dense for told in (scene, *untrue.values())]
            cells = matcher.watch(picture[None].to(device).float() / 127.5 - 1.0)
            match = matcher(cells, *_told(encoder, texts, 1))[0].sum(-1)
            for change, value in zip(untrue, match[1:].tolist(), strict=True):
                beaten[change].append(float(match[0]) > value)
    return {change: sum(hits) / len(hits) for change, hits in beaten.items() if hits}


def train(config: MatcherTraining, folder: Path, device: torch.device) -> Result:
    """Train a matcher on stills of worlds and write its accuracy on held-out ones to ``accuracy.json``.

    Args:
        config: What and how long.
        folder: Takes checkpoints, logs and the exported matcher.
        device: Where to compute.

    Raises:
        CheckpointError: the text encoder, or ``init``, is missing, damaged or of another size.
        DataError: the shards hold no stills.
    """
    shards = ShardSet(list(config.data))
    stills = [i for i in range(len(shards)) if shards.info(i).num_frames == 1]
    if config.limit is not None and config.limit < len(stills):
        stills = [stills[i * len(stills) // config.limit] for i in range(config.limit)]
    model = config.text_encoder or Path(str(resources.files("diorama"))) / "models" / "default"
    encoder = load_text_encoder(model, device=device)
    if encoder.width != config.matcher.text_width:
        raise ConfigError(f"matcher.text_width is {config.matcher.text_width} and the text encoder has {encoder.width}; make them equal")
    album = Album.gather(shards, [i for place, i in enumerate(stills) if place % config.held_out], config.matcher.area)
    kept = Album.gather(shards, stills[:: config.held_out], config.matcher.area)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        matcher = Matcher(config.matcher)
    if config.init is not None:
        load_into(matcher, config.init)
    task = MatcherTask(matcher, encoder, album, kept, config)
    result = run(task, config.train, folder, device, optim=config.optim)
    right = accuracy(Matcher.load(result.folder, device=device), encoder, kept)
    write_text(folder / "accuracy.json", json.dumps({"stills": len(kept), **right}, indent=2) + "\n")
    return result
