"""Several first frames drawn for one prompt, several sketches of how they go on, and the choice among them.

A still costs a tenth of the clip that it begins, and what it gets wrong the clip keeps: so the still is the place to be choosy. What the motion
spoils shows in a third of the steps already.

Source: ranking samples by a second network is as in https://arxiv.org/abs/2102.12092, which asks CLIP.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from diorama import runtime
from diorama.errors import InputError
from diorama.media import Pixels
from diorama.pipeline.load import Models
from diorama.pipeline.request import Request
from diorama.pipeline.state import Cue, LatentState, blank
from diorama.text import Captioner, alternatives, in_known_words

__all__ = ["best_first", "candidates", "decided", "fitness", "num_candidates", "num_takes", "sketch_steps", "still_steps", "told_apart"]

_APART = 0x9E3779B97F4A7C15
"""Between the seeds of two candidates, so that those of neighbouring seeds are never the same; the golden ratio in 64 bits."""
_SKETCH_STEPS = 8
"""Fewest steps that show how a clip moves."""
_SAYABLE = 0.2
"""A piece of a prompt counts if the captioner would write it of some picture with at least this probability."""
_SEEN = ("color", "shape", "floor", "light")
"""What a prompt names of a picture that is set against what it does not name; attributes of the grammar."""
_SEEN_MOVING = ("motion", "direction", "camera", "shot")
"""The same of clips that are longer than a frame."""
_NAMED = 3.0
"""How much it counts that a thing is likelier than others which the prompt does not name, beside the prompt's own likelihood (docs/log.md)."""
_MEANING = 30.0
"""What a cosine of 1 between the meanings of caption and prompt is worth, in units of log-probability; 10 to 100 do alike (docs/log.md)."""


def num_candidates(models: Models, request: Request) -> int:
    """Return how many first frames are drawn: as the request says, or else the scheduler, if the model has a captioner.

    Raises:
        InputError: the request asks for several and the model has none to choose with.
    """
    return _number(models, request.candidates, models.scheduler.candidates, "candidates")


def num_takes(models: Models, request: Request) -> int:
    """Return how many sketches are made of a clip: as the request says, or else the scheduler, if the model has a captioner.

    Raises:
        InputError: the request asks for several and the model has none to choose with.
    """
    return _number(models, request.takes, models.scheduler.takes, "takes")


def _number(models: Models, asked: int | None, usual: int, name: str) -> int:
    if asked is None:
        return 1 if models.captioner is None else usual
    if asked > 1 and models.captioner is None:
        raise InputError(f"{asked} {name} were asked for and this model has no captioner to choose with; leave {name} out")
    return asked


def sketch_steps(steps: int) -> int:
    """Return in how many solver steps a clip is sketched that is then made in ``steps``."""
    return min(steps, max(_SKETCH_STEPS, math.ceil(steps / 3)))


def still_steps(steps: int) -> int:
    """Return in how many solver steps the first frame is drawn of a clip that is then made in ``steps``; in all of them it is no better."""
    return min(steps, max(_SKETCH_STEPS, math.ceil(steps / 2)))


def decided(steps: int) -> int:
    """Return after how many of a sketch's ``steps`` it has been decided what happens: what follows is made anew, finer, in the finished clip."""
    return steps * 3 // 8


def candidates(state: LatentState, seed: int, number: int) -> Iterator[LatentState]:
    """Yield a state of which nothing is known with ``number`` different noises, the first its own.

    Args:
        state: What all of them share.
        seed: Of its own noise; those of the others follow from it.
        number: How many.
    """
    yield state
    for index in range(1, number):
        other = blank(len(state.noise), state.grid, seed=(seed + index * _APART) % 2**63, fps=state.fps)
        yield dataclasses.replace(state, noise=other.noise)


def best_first(models: Models, clips: Sequence[Pixels], cues: Sequence[Cue]) -> list[int]:
    """Return the numbers of clips, first the one that is most like what is said of it, in their order where they are as good.

    Args:
        models: Whose captioner and text encoder judge.
        clips: uint8 ``[T, H, W, 3]`` each; a still is of one frame.
        cues: What is said; each counts by its mean weight.
    """
    return [0] if len(clips) == 1 else fitness(models, clips, cues).argsort(descending=True, stable=True).tolist()


def fitness(models: Models, clips: Sequence[Pixels], cues: Sequence[Cue]) -> Tensor:
    """Return how well each of several clips shows what is said of all of them, in units of log-probability ``[N]``; only differences count.

    Clips are judged by both captioners, if there are two: two that see with different eyes seldom like the same fault.

    Args:
        models: Whose captioners, of which it must have one, and text encoder judge.
        clips: uint8 ``[T, H, W, 3]`` each; a still is of one frame.
        cues: What is said; each counts by its mean weight.
    """
    assert models.captioner is not None
    heard = [(cue.prompt, weight) for cue in cues if (weight := float(cue.weight.mean())) > 0]
    if not heard:
        return torch.zeros(len(clips))
    meanings = models.text_encoder.encode([prompt for prompt, _ in heard]).pooled
    named = [_read(models, prompt, moves=max(map(len, clips)) > 1) for prompt, _ in heard]
    captioners = [captioner for captioner in (models.captioner, models.captioner_2) if captioner is not None]
    total = torch.zeros(len(clips))
    for captioner in captioners:
        seen = torch.cat(runtime.at_once(partial(_see, captioner), clips, models.device))
        told = models.text_encoder.encode(captioner.write(seen)).pooled
        for (_, weight), (prompt, others), meaning in zip(heard, named, meanings, strict=True):
            alike = functional.cosine_similarity(told, meaning[None]).cpu()
            fits = told_apart(captioner.likelihood(seen, prompt)) + _NAMED * _beside(captioner, seen, prompt, others) + _MEANING * alike
            total += weight / len(captioners) * fits
    return total


def _see(captioner: Captioner, clip: Pixels) -> Tensor:
    return captioner.see([clip])


def _read(models: Models, prompt: str, *, moves: bool) -> tuple[str, list[list[str]]]:
    """Return a prompt in the words of captions, and what it would say of other scenes, by the grammar that the model carries, if it carries one."""
    if models.grammar is None:
        return prompt, []
    known = in_known_words(prompt, models.grammar, models.text_encoder)
    return known, alternatives(known, models.grammar.words, (*_SEEN, *_SEEN_MOVING) if moves else _SEEN)


def _beside(captioner: Captioner, seen: Tensor, prompt: str, others: Sequence[Sequence[str]]) -> Tensor:
    """Return how likely all that a prompt names is of each clip beside what it does not name ``[N]``, at most 0.

    What a captioner would rather have said in other words tells nothing here, and what it holds for another thing tells much.

    Args:
        captioner: Who saw them.
        seen: What it saw, ``[N, Q, 2 E]``.
        prompt: In its words.
        others: For each thing that is named, the prompts that name another one in its place.
    """
    if not others:
        return torch.zeros(len(seen))
    texts = [prompt, *itertools.chain.from_iterable(others)]
    with torch.inference_mode():
        rows = [captioner.totals(one.expand(len(texts), -1, -1), texts).cpu() for one in seen[:, None]]
    whole, *beside = torch.split(torch.stack(rows, dim=1), [1, *map(len, others)])
    return torch.stack([torch.cat([whole, part]).log_softmax(0)[0] for part in beside]).sum(0)


def told_apart(pieces: Tensor) -> Tensor:
    """Return how well a caption fits each of several pictures, by the words that are likely of one of them at least.

    A word that the captioner was never taught is unlikely of all, and how unlikely tells nothing of the pictures.

    Args:
        pieces: Log-probability of each piece of the caption for each picture ``[N, M]``.

    Returns:
        ``[N]``; only differences count.
    """
    return (pieces * (pieces.amax(0) > math.log(_SAYABLE))).sum(1)
