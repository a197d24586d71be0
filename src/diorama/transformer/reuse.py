"""Residual caching: while the first block changes little from one step of a sampler to the next, the other blocks are not run.

What they added the last time is added again. That is an approximation; how coarse it may be is the threshold.

Source: first-block cache of ParaAttention (Cheng 2024), after Liu et al. 2024, "Timestep Embedding Aware Cache", arXiv 2411.19108.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import Tensor

from diorama.patches import Pack

__all__ = ["Residuals", "Reuse"]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What the last evaluation that was computed left."""

    times: Tensor
    """Flow time of every token ``[L]``."""
    first: Tensor
    """What the first block added to the tokens."""
    rest: Tensor
    """What all other blocks added."""


class Reuse:
    """What was kept in one evaluation for the next of the same clips, frames and texts; made by `Residuals.of`.

    Args:
        threshold: See `Residuals`.
        counts: Where evaluations are counted, as ``computed`` or ``skipped``.
    """

    def __init__(self, threshold: float, counts: Counter[str]) -> None:
        self.threshold, self.counts = threshold, counts
        self._kept: _Kept | None = None

    def run(self, x: Tensor, pack: Pack, first: Callable[[Tensor], Tensor], rest: Callable[[Tensor], Tensor]) -> Tensor:
        """Run the blocks, or the first of them alone.

        Args:
            x: Tokens before the first block, ``[L / g, g, D]``.
            pack: Flow time and clip of every token.
            first: The first block.
            rest: All others.

        Returns:
            Tokens behind the last block.
        """
        begun = first(x)
        added = begun - x
        if self._kept is not None and self._holds(self._kept, added, pack):
            self.counts["skipped"] += 1
            return begun + self._kept.rest
        done = rest(begun)
        self.counts["computed"] += 1
        self._kept = _Kept(times=pack.times, first=added, rest=done - begun)
        return done

    def _holds(self, kept: _Kept, added: Tensor, pack: Pack) -> bool:
        if bool((pack.times > kept.times).any()):
            return False  # new noise: a window that has moved on
        # Tokens at flow time 0 are given and change least; they must not hide what the others do.
        moving = (pack.times > 0).to(added.dtype)
        change = (added - kept.first).abs().sum(-1).flatten() * moving
        before = kept.first.abs().sum(-1).flatten() * moving
        ratios = [
            float(a.sum()) / max(float(b.sum()), 1e-12) for a, b in zip(*(x.split_with_sizes(pack.lengths) for x in (change, before)), strict=True)
        ]
        return max(ratios) < self.threshold


class Residuals:
    """What the blocks added, kept during one request; never to be shared by two.

    Args:
        threshold: The blocks behind the first are left out while the first adds nearly what it added in the last step that was computed: the
            sum of absolute differences over all tokens that are still noised, as a share of the sum of absolute values then, is below this
            in every clip of the batch.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.counts: Counter[str] = Counter()
        """Evaluations in which all blocks were ``computed`` and in which they were ``skipped`` behind the first."""
        self._reuses: dict[Hashable, tuple[Hashable, Reuse]] = {}

    def of(self, batch: Hashable, frames: Hashable) -> Reuse:
        """Return what is kept for a batch of texts.

        Args:
            batch: Which transformer and which texts are evaluated together.
            frames: Which frames of the clip are seen; others than the last time begin anew.
        """
        known = self._reuses.get(batch)
        if known is None or known[0] != frames:
            known = frames, Reuse(self.threshold, self.counts)
            self._reuses[batch] = known
        return known[1]
