"""What a text encoder gives: one vector a token, one vector a prompt, and what it could not take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["TextEncoder", "TextStates"]


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """Encoded prompts, padded to the longest."""

    states: Tensor
    """Token states ``[B, M, D]`` float32; padding is 0."""
    mask: Tensor
    """``[B, M]`` bool, true on tokens; every row has at least one, also that of an empty prompt."""
    pooled: Tensor
    """One vector a prompt ``[B, D]`` float32."""
    truncated: tuple[int, ...]
    """Tokens of each prompt that did not fit and were left out, for the caller to say so."""
    unknown: tuple[int, ...]
    """Words of each prompt that the vocabulary cannot spell, for the caller to say so."""
    padded_to: int | None = None
    """Tokens that every prompt is filled up to with states of 0 that the transformer sees, as Wan was trained; None hides the padding."""


class TextEncoder(Protocol):
    """Anything that turns prompts into states: the compact encoder, or UMT5 and T5 of larger models."""

    @property
    def width(self) -> int:
        """Width D of the states."""

    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Encode prompts; the empty prompt is the unconditional one."""
