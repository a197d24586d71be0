"""Training of the captioner on shards with captions; where a record holds its world's scene, the eye also learns from the truth.

Clips are shrunk once to the captioner's size and kept in memory. Each step shows some of them, spoiled as generation and codecs
spoil clips and mirrored in half of the steps, with several of their captions each: the eye is dear and the decoder cheap. With
``views`` the eye stays as it is and looks ahead of the training, so that the decoder alone learns, in minutes on one core.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diorama import runtime
from diorama.autoencoder import Autoencoder
from diorama.checkpoint import write_text
from diorama.config import from_dict
from diorama.data.provenance import write_provenance
from diorama.data.shards import ShardSet
from diorama.errors import ConfigError, DataError, InputError
from diorama.evaluation.captions import attributes, total
from diorama.evaluation.judge import COLOR_NAMES, Judge, JudgeHeads, Verdict, truth
from diorama.evaluation.score import Score
from diorama.media import Clip, from_tensor, to_tensor
from diorama.ops.eye import pick
from diorama.text.captioner import KINDS, MARK, Captioner, CaptionerConfig
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary
from diorama.train.cache import packaged_model
from diorama.train.judge import loss as truth_loss
from diorama.train.judge import mirror, spoil
from diorama.train.log import Work
from diorama.train.loop import LoopConfig, Result, run
from diorama.train.optim import OptimConfig
from diorama.worlds.captions import mirror_caption
from diorama.worlds.scene import Scene

__all__ = [
    "CaptionerTask",
    "CaptionerTraining",
    "Exercise",
    "Lesson",
    "choose_vocabulary",
    "coder",
    "gather",
    "look_ahead",
    "packaged_pieces",
    "train",
]


@dataclass(frozen=True, kw_only=True)
class CaptionerTraining:
    """A run that trains a captioner."""

    data: tuple[Path, ...]
    """Folders of shards with captions; stills are left out."""
    limit: int | None = None
    """Use only so many clips, spread over all."""
    held_out: int = 24
    """One clip in so many is kept to measure the captioner on."""
    batch_size: int = 16
    """Clips a step, all of one size."""
    captions: int = 4
    """Captions of each clip a step."""
    views: int = 0
    """0 lets the eye learn too; else it only looks at each clip so many times at the start, every other time in a mirror."""
    still_share: float = 0.0
    """Share of steps that show a clip's first frame alone, 0 to 1; who is to choose among first frames by the prompt has to know stills."""
    coded_share: float = 0.0
    """Share of clips that are shown as ``autoencoder`` gives them back, 0 to 1; those off its grid are shown as they are."""
    autoencoder: Path | None = None
    """Folder of that autoencoder; the packaged one if None."""
    truth: float = 1.0
    """Weight of the judge's questions, which the eye answers too where a record holds a scene; 0 leaves them out."""
    start: Path | None = None
    """Folder of a judge whose eye and answers to start from; beside ``init``, whose eye it is then to be, its answers alone."""
    init: Path | None = None
    """Folder of a captioner to start from, with its size and vocabulary; random weights if None."""
    captioner: CaptionerConfig = field(default_factory=CaptionerConfig)
    """The network; not read if ``init`` is given."""
    train: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3000, warmup=50, decay=1200, ema_decay=0.995, sample_steps=500))
    """How long."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(adamw_lr=2e-3, adamw_names=("queries", "times", "names", "table", "color_head", "shot_head", "stem"))
    )
    """Learning rates."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.captions) < 1 or self.held_out < 2 or self.truth < 0 or self.views < 0:
            raise ConfigError(
                f"batch_size {self.batch_size} and captions {self.captions} must be at least 1, held_out {self.held_out} at least 2, "
                f"truth {self.truth} and views {self.views} at least 0"
            )
        if not (0 <= self.still_share <= 1 and 0 <= self.coded_share <= 1):
            raise ConfigError(f"still_share {self.still_share} and coded_share {self.coded_share} are out of range: allowed is 0 to 1")
        if self.views and self.still_share:
            raise ConfigError("still_share cannot be given where the eye stays as it is and looks ahead; give views 0, or leave it out")
        if self.start is not None and self.init is not None and self.views:
            raise ConfigError("start beside init gives the answers that the eye learns from, and with views it does not learn; leave one out")


@dataclass(frozen=True)
class Lesson:
    """Shrunk clips of one size with their captions, all with a scene or none."""

    video: Tensor
    """uint8 ``[N, T, 3, h, w]``."""
    captions: tuple[tuple[tuple[int, str], ...], ...]
    """Of each clip: place in ``KINDS`` and text of each caption."""
    scenes: tuple[Scene, ...]
    """What each clip shows; empty if that is not known."""
    states: tuple[Tensor, ...] = ()
    """What a frozen eye saw of the clips in each view ``[N, Q, 2 E]``, odd views in a mirror; empty if the eye learns."""


@dataclass(frozen=True)
class Exercise:
    """What a step shows."""

    seen: Tensor
    """Clips, float ``[B, T, 3, h, w]`` in [-1, 1], or what a frozen eye saw of them ``[B, Q, 2 E]``."""
    ids: Tensor
    """Captions ``[N, M]`` int64: start token, pieces, the same token as end, padding of 0."""
    kinds: Tensor
    """Places in ``KINDS``, ``[N]``."""
    clips: Tensor
    """Which clip each caption describes, ``[N]``."""
    answers: Verdict | None
    """The truth of the clips, if it is known."""


Coder = Callable[[np.ndarray], np.ndarray]
"""Frames uint8 ``[T, H, W, 3]`` to what an autoencoder makes of them, or as they are if it cannot take them."""


def gather(shards: ShardSet, indices: Sequence[int], config: CaptionerConfig, *, code: Coder | None = None, share: float = 0.0) -> list[Lesson]:
    """Shrink and group clips; those without a caption are left out.

    Args:
        shards: Clips; a record holds ``captions`` as worlds and curation write them, and perhaps a ``scene``.
        indices: Which to take.
        config: The captioner's size.
        code: Through which some of the clips go first.
        share: Of all, spread evenly.

    Raises:
        DataError: there are no clips, or none of them has a caption.
    """
    found: dict[tuple[int, int, bool], list[tuple[Tensor, tuple[tuple[int, str], ...], Scene | None]]] = {}
    for place, index in enumerate(indices):
        record = shards.record(index)
        captions = tuple((i, str(text)) for i, kind in enumerate(KINDS) for text in record.get("captions", {}).get(kind, ()) if str(text).strip())
        if not captions:
            continue
        frames = shards.frames(index)
        if code is not None and int((place + 1) * share) > int(place * share):
            frames = code(frames)
        video = pick(frames, config.num_frames, config.area)
        scene = from_dict(Scene, record["scene"]) if "scene" in record else None
        found.setdefault((*video.shape[2:], scene is not None), []).append((video, captions, scene))
    if not found:
        raise DataError(f"none of {len(indices)} clips has captions to learn from; caption a folder with: diorama curate, or render worlds")
    lessons = []
    for key in list(found):
        group = found.pop(key)
        lessons.append(
            Lesson(
                torch.stack([video for video, _, _ in group]), tuple(texts for _, texts, _ in group), tuple(scene for _, _, scene in group if scene)
            )
        )
    return lessons


def coder(folder: Path, device: torch.device) -> Coder:
    """Return what an autoencoder makes of clips.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    autoencoder = Autoencoder.load(folder).to(device).eval()
    stride = autoencoder.config.stride

    @torch.inference_mode()
    def code(frames: np.ndarray) -> np.ndarray:
        length, height, width = frames.shape[:3]
        if (length - 1) % stride.time or height % stride.space or width % stride.space:
            return frames
        with runtime.autocast(device):
            decoded = autoencoder.decode(autoencoder.encode(to_tensor(Clip(frames, 1.0)).to(device)))
        return from_tensor(decoded.float(), 1.0).frames

    return code


def choose_vocabulary(texts: Sequence[str], size: int, pieces: Sequence[str]) -> PromptTokenizer:
    """Return a vocabulary in which the most frequent words are spelled as in a larger one, and all others letter by letter.

    Args:
        texts: What will be written.
        size: Pieces to choose.
        pieces: The larger vocabulary, frequent pieces first.

    Raises:
        InputError: ``size`` is too small for single characters.
    """
    words = [word for word, _ in Counter(word for text in texts for word in text.lower().split()).most_common()]
    low, high = 0, len(words)
    while low < high:  # the most words that fit
        middle = (low + high + 1) // 2
        try:
            build_vocabulary(pieces, words[:middle], size)
            low = middle
        except InputError:
            high = middle - 1
    return PromptTokenizer(build_vocabulary(pieces, words[:low], size))


@torch.no_grad()
def look_ahead(captioner: Captioner, lessons: Sequence[Lesson], config: CaptionerTraining) -> list[Lesson]:
    """Freeze the eye and let it look at every clip, spoiled another way in each of the config's views.

    Args:
        captioner: Whose eye; it is frozen by this.
        lessons: The clips.
        config: Gives the views and the clips that are looked at together.
    """
    captioner.eye.requires_grad_(False)
    device, found = captioner.table.weight.device, []
    for number, lesson in enumerate(lessons):
        views = []
        for view in range(config.views):
            rng = random.Random(f"{config.train.seed}/{number}/{view}")
            states = []
            for first in range(0, len(lesson.video), config.batch_size):
                video = lesson.video[first : first + config.batch_size]
                spoiled = spoil(video.flip(-1) if view % 2 else video, rng, torch.Generator().manual_seed(rng.getrandbits(62)))
                with runtime.autocast(device):
                    states.append(captioner.watch(spoiled.to(device)).float().cpu())
            views.append(torch.cat(states))
        found.append(Lesson(lesson.video, lesson.captions, lesson.scenes, tuple(views)))
    return found


class _Pupil(nn.Module):
    """A captioner with the judge's heads, which are used in training only."""

    def __init__(self, captioner: Captioner, heads: JudgeHeads | None) -> None:
        super().__init__()
        self.captioner, self.heads = captioner, heads


class CaptionerTask:
    """The loop's task.

    Args:
        captioner: What to train.
        lessons: Training clips.
        held_out: Clips to measure on.
        config: How; its data are not read.
        heads: Answer the judge's questions; None leaves them out.
        left_out: Clips that have no caption, for the message.
    """

    def __init__(
        self,
        captioner: Captioner,
        lessons: Sequence[Lesson],
        held_out: Sequence[Lesson],
        config: CaptionerTraining,
        heads: JudgeHeads | None,
        left_out: int = 0,
    ) -> None:
        self.captioner, self.lessons, self.held_out, self.config, self.left_out = captioner, lessons, held_out, config, left_out
        self.pupil = _Pupil(captioner, heads)

    def module(self) -> nn.Module:
        """Return captioner and heads."""
        return self.pupil

    def describe(self) -> str:
        """Return one line on the training set."""
        clips, kept = (sum(len(lesson.video) for lesson in lessons) for lessons in (self.lessons, self.held_out))
        texts = sum(len(texts) for lesson in self.lessons for texts in lesson.captions)
        known = sum(len(lesson.scenes) for lesson in self.lessons)
        left_out = f", {self.left_out} without a caption left out" if self.left_out else ""
        return f"captioner: {clips} clips with {texts} captions to train on, {known} of them with a known scene, {kept} clips held out{left_out}"

    def batch(self, index: int) -> Exercise:
        """Return spoiled clips of one size with some of their captions; sizes come up as often as they have clips."""
        rng = random.Random(f"{self.config.train.seed}/{index}")
        lesson = rng.choices(self.lessons, weights=[len(lesson.video) for lesson in self.lessons])[0]
        chosen = rng.sample(range(len(lesson.video)), min(self.config.batch_size, len(lesson.video)))
        told = [
            (place, *caption)
            for place, i in enumerate(chosen)
            for caption in rng.sample(lesson.captions[i], min(self.config.captions, len(lesson.captions[i])))
        ]
        texts = [text for _, _, text in told]
        answers = truth([lesson.scenes[i] for i in chosen]) if lesson.scenes and not lesson.states else None
        view = rng.randrange(len(lesson.states) or 2)
        seen = lesson.states[view][chosen] if lesson.states else lesson.video[chosen]
        if self.config.still_share and rng.random() < self.config.still_share:
            seen = seen[:, :1].expand_as(seen)
        if view % 2:
            texts = [mirror_caption(text) for text in texts]
            if not lesson.states:
                seen, answers = (seen.flip(-1), None) if answers is None else mirror(seen, answers)
        return Exercise(
            seen=seen if lesson.states else spoil(seen, rng, torch.Generator().manual_seed(rng.getrandbits(62))),
            ids=self._ids(texts),
            kinds=torch.tensor([kind for _, kind, _ in told]),
            clips=torch.tensor([place for place, _, _ in told]),
            answers=answers,
        )

    def _ids(self, texts: Sequence[str]) -> Tensor:
        tokens = self.captioner.tokenizer.encode(texts, self.captioner.config.max_tokens)
        ids = F.pad(tokens.ids, (0, 1))
        for row, length, lost in zip(ids, tokens.mask.sum(1).tolist(), tokens.truncated, strict=True):
            row[length] = 0 if lost else MARK
        return ids

    def work(self, batch: Exercise) -> Work:
        """Return clips, pieces, and operations of the convolutions and of the decoder forth and back."""
        config, eye = self.captioner.config, 0.0
        if batch.seen.ndim == 5:
            clips, frames, _, height, width = batch.seen.shape
            half, quarter, eighth = config.widths
            cells = height * width / 64
            eye = clips * frames * 2 * 9 * cells * (16 * 12 * half + 4 * half * quarter + (quarter + 32) * eighth + 2 * eighth**2)
        decoder = sum(p.numel() for name, p in self.captioner.named_parameters() if not name.startswith("eye"))
        return Work(samples=len(batch.seen), tokens=batch.ids.numel(), flops=3.0 * eye + 6.0 * batch.ids.numel() * decoder)

    def loss(self, batch: Exercise, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the next piece, with the truth's, and the share of pieces that the captioner would have written."""
        device = self.captioner.table.weight.device
        seen = batch.seen.to(device)
        states = self.captioner.watch(seen) if seen.ndim == 5 else seen
        ids = batch.ids.to(device)
        logits = self.captioner(states[batch.clips.to(device)], ids[:, :-1], batch.kinds.to(device)).float()
        targets = ids[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0)
        right = (logits.argmax(-1) == targets)[targets != 0].float().mean()
        figures = {"words": float(loss.detach()), "piece": float(right)}
        if batch.answers is not None and self.pupil.heads is not None:
            answers = batch.answers.map(lambda values: values.to(device))
            said = self.pupil.heads(states)
            told = truth_loss(said, answers)
            figures["truth"] = float(told.detach())
            figures["shape"] = float((said.shape.argmax(-1) == answers.shape)[answers.shape >= 0].float().mean())
            loss = loss + self.config.truth * told
        return loss, figures

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write captions of held-out clips and how often their words are true, where that is known."""
        assert isinstance(module, _Pupil)
        module.eval()
        rows = list(_told(module.captioner, self.held_out))
        write_text(folder / f"captions-{step:06d}.txt", "".join(f"{said}\n    {wanted}\n" for said, wanted, _ in rows))
        known = [attributes(scene, said) for said, _, scene in rows if scene is not None]
        if known:
            write_text(folder / f"accuracy-{step:06d}.json", json.dumps(_rates(known), indent=2) + "\n")

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write the captioner's folder."""
        assert isinstance(module, _Pupil)
        module.captioner.save(folder)


def _told(captioner: Captioner, lessons: Sequence[Lesson]) -> Iterator[tuple[str, str, Scene | None]]:
    """Yield what the captioner says of clips, what it should have said, and the scene if it is known."""
    for lesson in lessons:
        for first in range(0, len(lesson.video), 32):
            part = range(first, min(first + 32, len(lesson.video)))
            said = captioner.write(captioner.see([np.asarray(lesson.video[i].permute(0, 2, 3, 1)) for i in part]))
            yield from ((text, lesson.captions[i][0][1], lesson.scenes[i] if lesson.scenes else None) for i, text in zip(part, said, strict=True))


def _rates(rows: Sequence[dict[str, Score]]) -> dict[str, float]:
    return {name: score.rate for name, score in total(rows).items()}


def train(config: CaptionerTraining, folder: Path, device: torch.device) -> Result:
    """Train a captioner on shards and write how true its captions of held-out clips are to ``accuracy.json``.

    Args:
        config: What and how long.
        folder: Takes checkpoints, logs, samples and the exported captioner.
        device: Where to compute.

    Raises:
        DataError: the shards hold no clips with captions.
        ConfigError: the judge to start from has another size.
    """
    shards = ShardSet(list(config.data))
    moving = [i for i in range(len(shards)) if shards.info(i).num_frames > 1]
    if config.limit is not None and config.limit < len(moving):
        moving = [moving[int(i)] for i in np.linspace(0, len(moving) - 1, config.limit)]
    size = config.captioner
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        if config.init is not None:
            captioner = Captioner.load(config.init).requires_grad_(True)
            size = captioner.config
        taken = [i for place, i in enumerate(moving) if place % config.held_out]
        code = coder(config.autoencoder or packaged_model() / "vae", device) if config.coded_share else None
        lessons = gather(shards, taken, size, code=code, share=config.coded_share)
        if config.init is None:
            captioner = Captioner(size, _vocabulary(folder, lessons, size.vocabulary_size))
        heads = _heads(config, captioner)
    if config.views:
        lessons = look_ahead(captioner.to(device), lessons, config)
    held_out = gather(shards, moving[:: config.held_out], size)
    left_out = len(taken) - sum(len(lesson.video) for lesson in lessons)
    task = CaptionerTask(captioner, lessons, held_out, config, heads, left_out)
    result = run(task, config.train, folder, device, optim=config.optim)
    write_provenance(shards, result.folder)
    known = [attributes(scene, said) for said, _, scene in _told(Captioner.load(result.folder), held_out) if scene is not None]
    if known:
        write_text(folder / "accuracy.json", json.dumps({"clips": len(known), **_rates(known)}, indent=2) + "\n")
    return result


def _heads(config: CaptionerTraining, captioner: Captioner) -> JudgeHeads | None:
    """Return heads for the truth, and let eye and heads begin as a judge's."""
    size = captioner.config
    wanted = config.truth > 0 and config.views == 0
    if wanted and size.num_queries != len(COLOR_NAMES) + 1:
        raise ConfigError(f"captioner.num_queries is {size.num_queries}; learning from scenes needs {len(COLOR_NAMES) + 1}, or truth 0")
    heads = JudgeHeads(size.widths[-1]) if wanted else None
    if config.start is not None:
        judge = Judge.load(config.start)
        try:
            if config.init is None:
                captioner.eye.load_state_dict(judge.eye.state_dict())
            if heads is not None:
                heads.load_state_dict(judge.heads.state_dict())
        except RuntimeError as error:
            raise ConfigError(f"the judge {config.start} is of another size than captioner; give both the same widths, depth and frames") from error
    return heads


def _vocabulary(folder: Path, lessons: Sequence[Lesson], size: int) -> PromptTokenizer:
    """Return the vocabulary that the run began with, or choose and keep one for these captions and those of the mirror images."""
    if (folder / "tokenizer.json").is_file():
        return PromptTokenizer.load(folder)
    plain = [text for lesson in lessons for captions in lesson.captions for _, text in captions]
    chosen = choose_vocabulary([*plain, *map(mirror_caption, plain)], size, packaged_pieces())
    chosen.save(folder)
    return chosen


def packaged_pieces() -> list[str]:
    """Return the vocabulary of the packaged text encoder, frequent pieces first."""
    return PromptTokenizer.load(packaged_model() / "tokenizer").vocabulary
