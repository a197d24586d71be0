"""A second lesson for the transformer: name what each token shows and how the camera moves, halfway through the blocks.

The velocity's squared error hardly tells a cube from a cylinder, and shapes that the loss does not see are not learned.
Rendered worlds say what is where, so a small head names shape, colour and motion of every token from the features of a
middle block, and its gradient teaches the blocks below to read them off the prompt. Of clips that move it names the
camera's move at every token, for words that are seldom said teach the velocity little. The head is not part of the model.

Source: the idea of supervising middle features is that of representation alignment, https://arxiv.org/abs/2410.06940,
there with features of a pretrained encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from diorama.data.coverage import KINDS
from diorama.errors import ConfigError
from diorama.transformer import Transformer
from diorama.worlds.scene import CAMERA_MOVES

__all__ = ["NAMED", "NamingConfig", "NamingHead", "WithNaming", "naming_loss"]

NAMED: dict[str, tuple[str, ...]] = {**KINDS, "camera": CAMERA_MOVES}
"""What is named, with its values: attributes of bodies, then the camera's move."""


@dataclass(frozen=True, kw_only=True)
class NamingConfig:
    """The lesson; it needs samples whose records say what is where, others pass it by."""

    weight: float = 0.0
    """Share of its loss beside the velocity's; 0 leaves it out."""
    block: int = 5
    """How many blocks are run before the tokens are named."""

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(f"naming.weight is {self.weight}; it must be 0 or more")
        if self.block < 1:
            raise ConfigError(f"naming.block is {self.block}; it must be at least 1")


class NamingHead(nn.Module):
    """Features of tokens to logits of each attribute in ``NAMED``, 0 standing for the background.

    Args:
        width: Of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [1 + len(values) for values in NAMED.values()]
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, sum(self.sizes)))
        generator = torch.Generator().manual_seed(0)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return logits ``[L, classes]`` float32 for each attribute.

        Args:
            features: ``[L, width]``.
        """
        logits: Tensor = self.layers(features).float()
        return torch.split(logits, self.sizes, dim=-1)


class WithNaming(nn.Module):
    """A transformer and the head that is trained with it.

    Args:
        transformer: What shall learn.
        block: How many of its blocks are run before the head looks.

    Raises:
        ConfigError: the transformer has fewer blocks.
    """

    def __init__(self, transformer: Transformer, block: int) -> None:
        super().__init__()
        if block > transformer.config.num_layers:
            raise ConfigError(f"naming.block is {block} and the transformer has {transformer.config.num_layers} blocks; name a block that it has")
        self.transformer = transformer
        self.naming_head = NamingHead(transformer.config.hidden_size)


def naming_loss(head: NamingHead, features: Tensor, kinds: Tensor, weights: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Return the cross-entropy of the names, that of the bodies' attributes in the mean plus that of the camera, and how many were named right.

    Args:
        head: Who names.
        features: ``[L, width]``.
        kinds: ``[L, len(NAMED)]`` int64, as of ``latent_kinds`` and ``camera_kind``; -1 where nothing is known, which is not counted.
        weights: How much each token counts ``[L]``, 0 or more.

    Returns:
        A scalar, 0 if nothing counts, and shares from 0 to 1 named ``named_shape``, ``named_camera`` and so on, of the tokens that count and
        show an object or have a camera; none if there is no such token.
    """
    total, figures = features.new_zeros((), dtype=torch.float32), dict[str, float]()
    for name, logits, truth in zip(NAMED, head(features), kinds.unbind(1), strict=True):
        counted = weights * (truth >= 0)
        loss = (functional.cross_entropy(logits, truth, ignore_index=-1, reduction="none") * counted).sum() / counted.sum().clamp(min=1)
        total = total + (loss / len(KINDS) if name in KINDS else loss)
        shown = (truth > 0) & (counted > 0)
        if bool(shown.any()):
            figures[f"named_{name}"] = float((logits[shown].argmax(-1) == truth[shown]).float().mean())
    return total, figures
