"""Which clips a training step takes: packs of native sizes under a token budget.

Every draw is a function of the seed and the step alone, so that a run resumes at any step without replaying the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diorama.errors import DataError

__all__ = ["Draw", "PackConfig", "PackSampler"]

ATTEMPTS = 16  # draws that do not fit before a pack counts as full


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How packs are filled."""

    tokens: int = 4608
    """Tokens a pack at most; 4608 is 8 clips of 33 frames at 128 x 128."""
    seed: int = 0
    """Decides every draw."""
    still_share: float = 0.1
    """Share of draws that keep the first latent frame only, a still."""
    crop_share: float = 0.1
    """Share of draws cut to their beginning; later cuts are illegal, since the first latent frame is coded alone."""
    mirror_share: float = 0.5
    """Share of draws that take the clip seen in a mirror."""
    alike: bool = True
    """Whether a pack takes clips of one size as long as there are any: most of its attention is one batched call then."""

    def __post_init__(self) -> None:
        shares = (self.still_share, self.crop_share, self.mirror_share)
        if self.tokens < 1 or min(shares) < 0 or max(shares) > 1 or self.still_share + self.crop_share > 1:
            raise DataError(f"a pack of {self.tokens} tokens with shares {shares} cannot be drawn; tokens must be 1 or more, shares 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One clip of a pack."""

    index: int
    """Sample in the training set."""
    num_frames: int
    """Latent frames to keep, from the first."""
    mirrored: bool
    """Whether to take the clip seen in a mirror."""
    caption: float
    """Uniform in [0, 1): which of the sample's captions to take, as a share of their number."""


class PackSampler:
    """Draws clips into packs.

    Args:
        grids: Latent size (f, h, w) of every sample, after patching: f * h * w tokens.
        config: How.

    Raises:
        DataError: there are no samples.
    """

    def __init__(self, grids: Sequence[tuple[int, int, int]], config: PackConfig) -> None:
        if not grids:
            raise DataError("a training set of 0 samples cannot fill a pack; render or curate some first")
        self.config = config
        self._grids = np.asarray(grids, dtype=np.int64)
        self._cells = self._grids[:, 1] * self._grids[:, 2]
        self._tokens = self._grids[:, 0] * self._cells
        self._order = np.argsort(self._tokens, kind="stable")
        self._sorted = self._tokens[self._order]

    def draw(self, step: int, *, max_tokens: int | None = None) -> list[Draw]:
        """Return the clips of a step.

        Args:
            step: Any step; the answer does not depend on the steps before.
            max_tokens: Take only clips of at most this many tokens, for a curriculum; None takes all.

        Raises:
            DataError: no clip is small enough.
        """
        limit = min(self.config.tokens, max_tokens or self.config.tokens)
        num_allowed = int(np.searchsorted(self._sorted, limit, side="right"))
        if not num_allowed:
            raise DataError(f"no clip fits into {limit} tokens, the smallest has {self._sorted[0]}; raise the tokens of a pack or its curriculum")
        rng = np.random.default_rng([self.config.seed, step])
        allowed = self._order[:num_allowed]
        alike = allowed[:0]
        if self.config.alike:
            # A pack holds more of the small clips, so they are drawn for it less often.
            share = self._tokens[allowed] / self._tokens[allowed].sum()
            alike = allowed[(self._grids[allowed] == self._grids[rng.choice(allowed, p=share)]).all(axis=1)]
        # Trying on favours stills, which clips of one size do not need to fill a pack.
        attempts = 1 if self.config.alike else ATTEMPTS
        room, draws, taken = self.config.tokens, list[Draw](), set[int]()
        for index in _endless(rng, alike, allowed):
            if not attempts or room < self._cells.min():
                break
            draw = self._one(rng, index)
            needed = draw.num_frames * int(self._cells[index])
            if needed > room:
                attempts -= 1
            elif index not in taken or len(taken) == num_allowed:
                draws.append(draw)
                taken.add(index)
                room -= needed
        return draws

    def _one(self, rng: np.random.Generator, index: int) -> Draw:
        kind, length, mirror, caption = rng.random(4)
        num_frames = int(self._grids[index, 0])
        if kind < self.config.still_share:
            num_frames = 1
        elif kind < self.config.still_share + self.config.crop_share and num_frames > 2:
            num_frames = 2 + int(length * (num_frames - 2))
        return Draw(index=index, num_frames=num_frames, mirrored=bool(mirror < self.config.mirror_share), caption=float(caption))


def _endless(rng: np.random.Generator, first: NDArray[np.int64], then: NDArray[np.int64]) -> Iterator[int]:
    """Yield every member of ``first`` once, then those of ``then`` over and over, shuffled anew each time."""
    yield from map(int, rng.permutation(first))
    while True:
        yield from map(int, rng.permutation(then))
