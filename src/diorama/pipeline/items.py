"""Conditioning items: what a mode knows about the clip, as maps from one state to the next.

Items are applied in order. What an item has kept stays kept, whatever follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.media import Pixels
from diorama.pipeline.state import Cue, LatentState, Picture

__all__ = ["Guide", "Item", "Keep", "Region", "Ring", "StartFrom"]

Item = Callable[[LatentState], LatentState]


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Given content at a place in the clip."""

    latent: Tensor
    """``[C, n, h, w]``; may be smaller than the clip (outpainting)."""
    frame: int = 0
    """Latent frame of the first given frame; negative counts from the end."""
    top: int = 0
    """Row of latent cells."""
    left: int = 0
    """Column of latent cells."""
    noise: float = 0.0
    """Flow time from 0 to 1 that the content starts at; a little steadies long extensions, 0 keeps it bit-equal."""
    frames: Pixels | None = None
    """The content as pixels ``[m, H, W, 3]``, the last of them the last that the latent codes; for models that take pictures beside the noise."""
    stride: int = 4
    """Frames that a latent frame codes."""

    def __call__(self, state: LatentState) -> LatentState:
        """Return the state with the content in place.

        Raises:
            InputError: the content does not fit into the clip.
        """
        frames, height, width = state.grid
        _, n, h, w = self.latent.shape
        frame = self.frame + frames if self.frame < 0 else self.frame
        if not (frame >= 0 and frame + n <= frames and 0 <= self.top <= height - h and 0 <= self.left <= width - w):
            raise InputError(
                f"given content of {n}x{h}x{w} latent cells at ({frame}, {self.top}, {self.left}) does not fit into a clip of "
                f"{frames}x{height}x{width}; make the clip longer or larger, or the content smaller"
            )
        place = (slice(frame, frame + n), slice(self.top, self.top + h), slice(self.left, self.left + w))
        latent, start = state.latent.clone(), state.start.clone()
        latent[:, *place] = self.latent.to(latent)
        start[place] = self.noise
        if self.frames is None:
            return dataclasses.replace(state, latent=latent, start=start)
        # The first latent frame codes one frame, every later one as many as the clip's stride.
        last = (frame + n - 1) * self.stride
        picture = Picture(frames=self.frames, first=last + 1 - len(self.frames))
        return dataclasses.replace(state, latent=latent, start=start, pictures=(*state.pictures, picture))


@dataclass(frozen=True, kw_only=True)
class StartFrom:
    """Begin from a whole clip instead of from noise."""

    latent: Tensor
    """``[C, T, h, w]`` of the clip's own size."""
    strength: float
    """Flow time to start at: 0 returns the clip, 1 forgets it."""

    def __call__(self, state: LatentState) -> LatentState:
        """Return the state with the clip as content wherever nothing is kept yet.

        Raises:
            InputError: the clip has another size, or the strength is outside 0 to 1.
        """
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength {self.strength} is out of range: allowed is 0 (the input) to 1 (the prompt alone)")
        if self.latent.shape != state.latent.shape:
            raise InputError(
                f"the clip to start from has latent size {tuple(self.latent.shape)}, the request {tuple(state.latent.shape)}; make them equal"
            )
        kept = state.start == 0
        latent = torch.where(kept, state.latent, self.latent.to(state.latent))
        return dataclasses.replace(state, latent=latent, start=torch.where(kept, state.start, self.strength))


@dataclass(frozen=True, kw_only=True)
class Region:
    """Change only inside a mask."""

    mask: Tensor
    """``[T, h, w]`` or broadcastable to it: 1 changes freely, 0 keeps the content, between is a soft border."""

    def __call__(self, state: LatentState) -> LatentState:
        """Return the state with its start times multiplied by the mask."""
        return dataclasses.replace(state, start=state.start * self.mask.to(state.start))


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A prompt, for the whole clip or with an influence per latent frame."""

    prompt: str
    """What to show."""
    weight: Tensor | None = None
    """``[T]``, 0 or more; None is 1 everywhere."""

    def __call__(self, state: LatentState) -> LatentState:
        """Return the state with the prompt added.

        Raises:
            InputError: the weights are not one number of 0 or more per latent frame.
        """
        frames = state.grid[0]
        weight = torch.ones(frames) if self.weight is None else self.weight.float()
        if weight.shape != (frames,) or bool((weight < 0).any()):
            raise InputError(f"a prompt's weights must be {frames} numbers of 0 or more, got {tuple(weight.shape)}; give one per latent frame")
        return dataclasses.replace(state, cues=(*state.cues, Cue(self.prompt, weight)))


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Close time to a ring: the clip has no beginning and no end. Comes before every other item."""

    def __call__(self, state: LatentState) -> LatentState:
        """Return the state without the first latent frame, which codes one frame alone; a clip of 1 + 4 n frames becomes a ring of 4 n.

        Raises:
            InputError: the clip is a still.
        """
        if state.grid[0] < 2:
            raise InputError("a still cannot loop; ask for at least 5 frames")
        return dataclasses.replace(state, latent=state.latent[:, 1:], noise=state.noise[:, 1:], start=state.start[1:], ring=True)
