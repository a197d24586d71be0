"""Several first frames drawn for one prompt, and the choice among them.

A still costs a tenth of the clip that it begins, and what it gets wrong the clip keeps: so the still is the place to be choosy.

Source: ranking samples by a second network is as in https://arxiv.org/abs/2102.12092, which asks CLIP.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from diorama.errors import InputError
from diorama.media import Pixels
from diorama.pipeline.load import Models
from diorama.pipeline.request import Request
from diorama.pipeline.state import Cue, LatentState, blank

__all__ = ["best_match", "candidates", "num_candidates", "told_apart"]

_APART = 0x9E3779B97F4A7C15
"""Between the seeds of two candidates, so that those of neighbouring seeds are never the same; the golden ratio in 64 bits."""
_SAYABLE = 0.2
"""A piece of a prompt counts if the captioner would write it of some picture with at least this probability."""
_MEANING = 30.0
"""What a cosine of 1 between the meanings of caption and prompt is worth, in units of log-probability; 10 to 100 do alike (docs/log.md)."""


def num_candidates(models: Models, request: Request) -> int:
    """Return how many first frames are drawn: as the request says, or else the scheduler, if the model has a captioner.

    Raises:
        InputError: the request asks for several and the model has none to choose with.
    """
    if request.candidates is None:
        return 1 if models.captioner is None else models.scheduler.candidates
    if request.candidates > 1 and models.captioner is None:
        raise InputError(f"{request.candidates} candidates were asked for and this model has no captioner to choose with; leave candidates out")
    return request.candidates


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


def best_match(models: Models, pictures: Sequence[Pixels], cues: Sequence[Cue]) -> int:
    """Return which picture is most like what is said of it; the first of several as good.

    The captioner tells in two ways: how likely it holds the prompt's words to be of each picture, which is sharp but knows no words beyond its
    own, and how near in meaning its own caption is to the prompt, by the text encoder.

    Args:
        models: Whose captioner and text encoder judge.
        pictures: uint8 ``[H, W, 3]`` each.
        cues: What is said; each counts by its weight at the first latent frame.
    """
    assert models.captioner is not None
    clips = [picture[None] for picture in pictures]
    seen = models.text_encoder.encode(models.captioner.write(clips)).pooled
    asked = models.text_encoder.encode([cue.prompt for cue in cues]).pooled
    total = torch.zeros(len(pictures))
    for cue, meaning in zip(cues, asked, strict=True):
        weight = float(cue.weight[0])
        if weight > 0:
            likely = told_apart(models.captioner.likelihood(clips, cue.prompt))
            total += weight * (likely + _MEANING * functional.cosine_similarity(seen, meaning[None]).cpu())
    return int(total.argmax())


def told_apart(pieces: Tensor) -> Tensor:
    """Return how well a caption fits each of several pictures, by the words that are likely of one of them at least.

    A word that the captioner was never taught is unlikely of all, and how unlikely tells nothing of the pictures.

    Args:
        pieces: Log-probability of each piece of the caption for each picture ``[N, M]``.

    Returns:
        ``[N]``; only differences count.
    """
    return (pieces * (pieces.amax(0) > math.log(_SAYABLE))).sum(1)
