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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diorama.data.coverage import KINDS
from diorama.errors import ConfigError
from diorama.train.naming import told

__all__ = ["RECOGNISED", "Recogniser", "RecognitionConfig", "recognition_loss"]

RECOGNISED = ("shape", "color")
"""What is read from a token and its neighbours in one latent frame; a motion is not to be seen in one."""


@dataclass(frozen=True, kw_only=True)
class RecognitionConfig:
    """The lesson; it needs samples whose records say what is where, others pass it by."""

    weight: float = 0.0
    """Share of its loss beside the velocity's; 0 leaves it out."""
    width: int = 128
    """Channels of the net that recognises."""
    blur: float = 0.4
    """Largest flow time of the noise in what the net learns from, drawn for each clip, so that it reads predictions too."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"recognition.weight is {self.weight}; it must be 0 or more")
        if self.width < 1:
            raise ConfigError(f"recognition.width is {self.width}; it must be at least 1")
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
        self.head = nn.Conv2d(width, sum(self.sizes), 1)
        generator = torch.Generator().manual_seed(1)
        for layer in (*self.layers, self.head):
            if isinstance(layer, nn.Conv2d):
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
            rows.append(self.head(self.layers(pictures)).permute(0, 2, 3, 1).flatten(0, 2))
            begin = end
        return torch.split(torch.cat(rows).float(), self.sizes, dim=-1)


def _runs(grids: Sequence[tuple[int, int, int]]) -> list[tuple[tuple[int, int], int]]:
    """Return the sizes in their order with how many frames in a row have each."""
    runs: list[tuple[tuple[int, int], int]] = []
    for f, h, w in grids:
        if runs and runs[-1][0] == (h, w):
            runs[-1] = ((h, w), runs[-1][1] + f)
        else:
            runs.append(((h, w), f))
    return runs


def recognition_loss(
    recogniser: Recogniser, clean: Tensor, predicted: Tensor, grids: Sequence[tuple[int, int, int]], kinds: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Return how well predictions are recognised, for the transformer, and how well the truth is, for the net.

    Args:
        recogniser: Who reads; the first loss sends it no gradient.
        clean: Tokens it learns from ``[L, channels]``, without a gradient.
        predicted: Tokens that the transformer predicts ``[L, channels]``.
        grids: Of the clips.
        kinds: ``[L, >= len(KINDS)]`` int64, as of ``latent_kinds``; -1 where nothing is known, which is not counted.
        weights: How much each token counts ``[L]``, 0 or more.

    Returns:
        The mean cross-entropy of the attributes in ``predicted`` and in ``clean``, 0 if nothing counts, and shares from 0 to 1 named
        ``recognised_shape``, ``read_shape`` and so on, of the counting tokens that show an object; none if there is no such token.
    """
    held = {name: parameter.detach() for name, parameter in recogniser.named_parameters()}
    answers = {"recognised": torch.func.functional_call(recogniser, held, (predicted, grids)), "read": recogniser(clean, grids)}
    losses, figures = [], dict[str, float]()
    for verb, answer in answers.items():
        total = predicted.new_zeros((), dtype=torch.float32)
        for name, logits in zip(RECOGNISED, answer, strict=True):
            loss, right = told(logits, kinds[:, list(KINDS).index(name)], weights)
            total = total + loss / len(RECOGNISED)
            figures |= {} if right is None else {f"{verb}_{name}": right}
        losses.append(total)
    return losses[0], losses[1], figures
