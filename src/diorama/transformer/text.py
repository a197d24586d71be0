"""Text as the blocks see it: embedded, projected and normalised once for a whole run of the sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["TextCache"]


@dataclass(frozen=True, kw_only=True)
class TextCache:
    """Keys and values of S texts for every block, from `Transformer.encode_text`."""

    keys: tuple[Tensor, ...]
    """``[S, N, M, K]``, one a block."""
    values: tuple[Tensor, ...]
    """``[S, N, M, K]``, one a block."""
    mask: Tensor | None
    """``[S, M]``: bool, true on tokens that may be seen; or float, added to the scores; None shows all."""
    pooled: Tensor | None
    """Embedded pooled text ``[S, D]``; None without ``pooled_dim``."""
    image_keys: tuple[Tensor, ...] = ()
    """Keys of the image states ``[S, N, M, K]``, one a block; empty without them."""
    image_values: tuple[Tensor, ...] = ()
    """Values of the image states, as the keys."""

    def select(self, clips: Sequence[int]) -> TextCache:
        """Return the texts of these clips, in this order; one text may be given to several clips."""
        chosen = list(clips)
        return TextCache(
            keys=tuple(key[chosen] for key in self.keys),
            values=tuple(value[chosen] for value in self.values),
            mask=None if self.mask is None else self.mask[chosen],
            pooled=None if self.pooled is None else self.pooled[chosen],
            image_keys=tuple(key[chosen] for key in self.image_keys),
            image_values=tuple(value[chosen] for value in self.image_values),
        )
