"""The transformer with what learns beside it in training, the head that names and the net that recognises; neither is part of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diorama.errors import ConfigError
from diorama.flow import data_from_velocity
from diorama.train.naming import NamingConfig, NamingHead, naming_loss
from diorama.train.recognition import Lesson, Recogniser, RecognitionConfig, reading_loss, recognition_loss
from diorama.transformer import Transformer

__all__ = ["Seen", "WithHeads"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the heads are shown of a step, all clips in a row."""

    features: dict[int, Tensor]
    """Tokens after each number of blocks ``[L, width]``."""
    noisy: Tensor
    """What the transformer was given ``[L, channels]``."""
    target: Tensor
    """The velocity it should have predicted ``[L, channels]``."""
    velocity: Tensor
    """The velocity it predicted ``[L, channels]``."""
    times: Tensor
    """Flow time of each token ``[L, 1]``."""
    grids: Sequence[tuple[int, int, int]]
    """Frames, height and width of each clip in tokens."""
    kinds: Tensor
    """What each token shows, as of ``naming_loss``."""
    weights: Tensor
    """How much each token counts ``[L]``, 0 where nothing was to be predicted."""


class WithHeads(nn.Module):
    """A transformer and the heads that are trained with it.

    Args:
        transformer: What shall learn.
        naming: The lesson of middle features; without a weight it has no head.
        recognition: The lesson of predictions; without a weight it has no net.

    Raises:
        ConfigError: the transformer has fewer blocks than ``naming`` asks for.
    """

    def __init__(self, transformer: Transformer, naming: NamingConfig, recognition: RecognitionConfig) -> None:
        super().__init__()
        config = transformer.config
        if naming.weight and naming.block > config.num_layers:
            raise ConfigError(f"naming.block is {naming.block} and the transformer has {config.num_layers} blocks; name a block that it has")
        self.transformer = transformer
        self.naming, self.recognition = naming, recognition
        self.naming_head = NamingHead(config.hidden_size) if naming.weight else None
        channels = transformer.proj_out.out_features
        self.recogniser = Recogniser(channels, recognition.width) if recognition.weight else None

    def losses(self, seen: Seen, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted losses of all heads together, and figures.

        Args:
            seen: Of one step.
            generator: Source of the noise in what the net that recognises learns from.
        """
        total, figures = seen.velocity.new_zeros((), dtype=torch.float32), dict[str, float]()
        if self.naming_head is not None:
            names, figures = naming_loss(self.naming_head, seen.features[self.naming.block], seen.kinds, seen.weights)
            total, figures = total + self.naming.weight * names, figures | {"loss_naming": float(names.detach())}
        if self.recogniser is not None:
            truth = data_from_velocity(seen.noisy, seen.target, seen.times)
            predicted = data_from_velocity(seen.noisy, seen.velocity, seen.times)
            lesson = Lesson(clean=truth, grids=seen.grids, kinds=seen.kinds, weights=seen.weights)
            recognised, told = recognition_loss(self.recogniser, predicted, lesson)
            read, known = reading_loss(self.recogniser, lesson.blurred(self.recognition.blur, generator))
            total = total + self.recognition.weight * recognised + read
            figures |= told | known | {"loss_recognition": float(recognised.detach())}
        return total, figures
