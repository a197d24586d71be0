"""A third lesson for the transformer: what it predicts must be recognised as what is there.

The velocity's squared error hardly tells a cube from a cylinder: their latents differ in few values. A small net learns
beside the transformer to read shape and color of every token from clean latents, and the transformer learns to predict
latents in which that net, held still, reads what the record says. Where the noise leaves several answers open the best
prediction is their mean, and the cross-entropy asks no more than their probabilities. The net is not part of the model.

Source: the idea of a perceptual loss on the predicted latents is that of https://arxiv.org/abs/2411.04873, there with
features of the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from diorama.data.coverage import KINDS
from diorama.errors import ConfigError
from diorama.flow import interpolate
from diorama.train.naming import told
from diorama.train.optim import MuonAdamW, OptimConfig

__all__ = ["RECOGNISED", "Lesson", "Recogniser", "RecognitionConfig", "learn_ahead", "reading_loss", "recognition_loss"]

RECOGNISED = ("shape", "color")
"""What is read from a token and its neighbours in one latent frame; a motion is not to be seen in one."""


@dataclass(frozen=True, kw_only=True)
class RecognitionConfig:
    """The lesson; it needs samples whose records say what is where, others pass it by."""

    weight: float = 0.0
    """Share of its loss beside the velocity's; 0 leaves it out."""
    width: int = 192
    """Channels of the net that recognises."""
    blur: float = 0.4
    """Largest flow time of the noise in what the net learns from, drawn for each clip, so that it reads predictions too."""
    ahead: int = 1500
    """Batches from which the net learns before the transformer's first step; it goes on learning beside it."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"recognition.weight is {self.weight}; it must be 0 or more")
        if self.width < 1:
            raise ConfigError(f"recognition.width is {self.width}; it must be at least 1")
        if self.ahead < 0:
            raise ConfigError(f"recognition.ahead is {self.ahead}; it must be 0 or more")
        if not 0 <= self.blur < 1:
            raise ConfigError(f"recognition.blur is {self.blur}; it is a flow time from 0 to below 1")


class Recogniser(nn.Module):
    """Tokens of clips to logits of each attribute in ``RECOGNISED``, 0 standing for the background; frames know nothing of each other.

    Args:
        channels: Values of a token.
        width: Channels between.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.sizes = [1 + len(KINDS[name]) for name in RECOGNISED]
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self.sizes)))
        generator = torch.Generator().manual_seed(1)
        for layer in (*self.layers, *self.head):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, grids: Sequence[tuple[int, int, int]]) -> tuple[Tensor, ...]:
        """Return logits ``[L, classes]`` float32 for each attribute.

        Args:
            tokens: Of all clips in a row ``[L, channels]``.
            grids: Frames, height and width of each clip in tokens; neighbours of one height and width are read in one call.
        """
        rows: list[Tensor] = []
        begin = 0
        for (h, w), frames in _runs(grids):
            end = begin + frames * h * w
            pictures = tokens[begin:end].reshape(frames, h, w, -1).permute(0, 3, 1, 2)
            rows.append(self.layers(pictures).permute(0, 2, 3, 1).flatten(0, 2))
            begin = end
        logits: Tensor = self.head(torch.cat(rows)).float()
        return torch.split(logits, self.sizes, dim=-1)


def _runs(grids: Sequence[tuple[int, int, int]]) -> list[tuple[tuple[int, int], int]]:
    """Return the sizes in their order with how many frames in a row have each."""
    runs: list[tuple[tuple[int, int], int]] = []
    for f, h, w in grids:
        if runs and runs[-1][0] == (h, w):
            runs[-1] = ((h, w), runs[-1][1] + f)
        else:
            runs.append(((h, w), f))
    return runs


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What the net learns from in one step, all clips in a row."""

    clean: Tensor
    """Tokens ``[L, channels]``, without a gradient."""
    grids: Sequence[tuple[int, int, int]]
    """Frames, height and width of each clip in tokens."""
    kinds: Tensor
    """``[L, >= len(KINDS)]`` int64, as of ``latent_kinds``; -1 where nothing is known, which is not counted."""
    weights: Tensor
    """How much each token counts ``[L]``, 0 or more."""

    def blurred(self, blur: float, generator: torch.Generator) -> Lesson:
        """Return it with noise up to the flow time ``blur``, drawn for each clip."""
        device = self.clean.device
        counts = torch.tensor([f * h * w for f, h, w in self.grids], device=device)
        times = blur * torch.rand(len(counts), generator=generator, device=device).repeat_interleave(counts)[:, None]
        noise = torch.randn(self.clean.shape, generator=generator, device=device)
        return replace(self, clean=interpolate(self.clean, noise, times))


def reading_loss(recogniser: Recogniser, lesson: Lesson) -> tuple[Tensor, dict[str, float]]:
    """Return the mean cross-entropy of what the net reads, for the net, and the shares named ``read_shape`` and so on."""
    return _cross_entropy(recogniser(lesson.clean, lesson.grids), lesson, "read")


def learn_ahead(recogniser: Recogniser, lessons: Iterable[Lesson], steps: int) -> dict[str, float]:
    """Teach the net alone, its rates falling to 0 over the second half, and return the shares of the last lesson.

    Args:
        recogniser: Changed in place.
        lessons: At least as many as steps.
        steps: How many.
    """
    optimizer = MuonAdamW(recogniser, OptimConfig(muon_lr=0.02, adamw_lr=2e-3, adamw_names=("head",)))
    figures = dict[str, float]()
    for step, lesson in zip(range(steps), lessons, strict=False):
        optimizer.zero_grad()
        loss, figures = reading_loss(recogniser, lesson)
        torch.autograd.backward(loss)
        optimizer.step(min(1.0, 2 * (1 - step / steps)))
    return figures


def recognition_loss(recogniser: Recogniser, predicted: Tensor, lesson: Lesson) -> tuple[Tensor, dict[str, float]]:
    """Return the mean cross-entropy of what the net, held still, reads in predictions, for the transformer.

    Args:
        recogniser: Who reads; the loss sends it no gradient.
        predicted: Tokens that the transformer predicts ``[L, channels]``.
        lesson: What is there.

    Returns:
        A scalar, 0 if nothing counts, and shares from 0 to 1 named ``recognised_shape`` and so on, of the counting tokens that show an
        object; none if there is no such token.
    """
    held = {name: parameter.detach() for name, parameter in recogniser.named_parameters()}
    return _cross_entropy(torch.func.functional_call(recogniser, held, (predicted, lesson.grids)), lesson, "recognised")


def _cross_entropy(answers: Sequence[Tensor], lesson: Lesson, verb: str) -> tuple[Tensor, dict[str, float]]:
    total, figures = torch.zeros((), device=lesson.weights.device), dict[str, float]()
    for name, logits in zip(RECOGNISED, answers, strict=True):
        loss, right = told(logits, lesson.kinds[:, list(KINDS).index(name)], lesson.weights)
        total = total + loss / len(RECOGNISED)
        figures |= {} if right is None else {f"{verb}_{name}": right}
    return total, figures
