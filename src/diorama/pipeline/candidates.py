"""Several first frames drawn for one prompt, several sketches of how they go on, and the choice among them.

A still costs a tenth of the clip that it begins, and what it gets wrong the clip keeps: so the still is the place to be choosy. What the motion
spoils shows in a third of the steps already.

Source: ranking samples by a second network is as in https://arxiv.org/abs/2102.12092, which asks CLIP.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from diorama import runtime
from diorama.errors import InputError
from diorama.media import Pixels
from diorama.pipeline.load import Models
from diorama.pipeline.request import Request
from diorama.pipeline.state import Cue, LatentState, blank
from diorama.text import Captioner, TextEncoder

__all__ = ["best_first", "candidates", "decided", "fitness", "num_candidates", "num_takes", "sketch_steps", "still_steps", "told_apart"]

_APART = 0x9E3779B97F4A7C15
"""Between the seeds of two candidates, so that those of neighbouring seeds are never the same; the golden ratio in 64 bits."""
_SKETCH_STEPS = 8
"""Fewest steps that show how a clip moves."""
_SAYABLE = 0.2
"""A piece of a prompt counts if the captioner would write it of some picture with at least this probability."""
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

    Clips are judged by both captioners, if there are two, and stills by the first: two that see with different eyes seldom like the same fault,
    and the second knows motion better than it knows stills (docs/log.md).

    Args:
        models: Whose captioners, of which it must have one, and text encoder judge.
        clips: uint8 ``[T, H, W, 3]`` each; a still is of one frame.
        cues: What is said; each counts by its mean weight.
    """
    assert models.captioner is not None
    second = models.captioner_2 if max(len(clip) for clip in clips) > 1 else None
    asked = models.text_encoder.encode([cue.prompt for cue in cues]).pooled
    captioners = [captioner for captioner in (models.captioner, second) if captioner is not None]
    return torch.stack([_liked(captioner, models.text_encoder, clips, cues, asked, models.device) for captioner in captioners]).mean(0)


def _liked(captioner: Captioner, texts: TextEncoder, clips: Sequence[Pixels], cues: Sequence[Cue], asked: Tensor, device: torch.device) -> Tensor:
    """Return how well clips show what is said of them as one captioner sees it ``[N]``.

    It tells in two ways: how likely it holds the prompt's words to be of each clip, which is sharp but knows no words beyond its own, and how near
    in meaning its own caption is to the prompt, by the text encoder.
    """
    seen = torch.cat(runtime.at_once(lambda clip: captioner.see([clip]), clips, device))
    told = texts.encode(captioner.write(seen)).pooled
    total = torch.zeros(len(clips))
    for cue, meaning in zip(cues, asked, strict=True):
        weight = float(cue.weight.mean())
        if weight > 0:
            likely = told_apart(captioner.likelihood(seen, cue.prompt))
            total += weight * (likely + _MEANING * functional.cosine_similarity(told, meaning[None]).cpu())
    return total


def told_apart(pieces: Tensor) -> Tensor:
    """Return how well a caption fits each of several pictures, by the words that are likely of one of them at least.

    A word that the captioner was never taught is unlikely of all, and how unlikely tells nothing of the pictures.

    Args:
        pieces: Log-probability of each piece of the caption for each picture ``[N, M]``.

    Returns:
        ``[N]``; only differences count.
    """
    return (pieces * (pieces.amax(0) > math.log(_SAYABLE))).sum(1)
