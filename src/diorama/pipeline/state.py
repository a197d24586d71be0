"""The state that sampling starts from: what is known of a clip, cell by cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diorama import runtime
from diorama.flow import interpolate
from diorama.media import Pixels

__all__ = ["Cue", "LatentState", "Picture", "beginning", "blank", "half_made", "side_by_side", "with_first_frame"]


@dataclass(frozen=True)
class Cue:
    """A prompt and how much it says at each latent frame."""

    prompt: str
    weight: Tensor
    """``[T]``, 0 or more; only the ratio between the cues of a frame counts."""


@dataclass(frozen=True)
class Picture:
    """Given frames as pixels, for models that take a picture beside the noise."""

    frames: Pixels
    """``[n, H, W, 3]`` uint8 of the request's size."""
    first: int
    """Frame of the clip that the first of them is."""


@dataclass(frozen=True, kw_only=True)
class LatentState:
    """A clip before sampling. Conditioning items map one state to the next; nothing is changed in place."""

    latent: Tensor
    """Known content ``[C, T, h, w]``; 0 where nothing is known."""
    noise: Tensor
    """Standard normal ``[C, T, h, w]``."""
    start: Tensor
    """Flow time where each cell starts ``[T, h, w]``: 0 is kept bit-equal, 1 is free, between is an edit."""
    fps: float
    """Pixel frames per second."""
    cues: tuple[Cue, ...] = ()
    """What the clip shows; more than one are mixed by their weights."""
    pictures: tuple[Picture, ...] = ()
    """Given frames as they were given, where an item had them."""
    ring: bool = False
    """Whether time is closed: the frame behind the last is the first, and no frame is coded alone."""
    apart: bool = False
    """Whether each latent frame is a still that knows nothing of the others."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """Latent frames, height and width."""
        frames, height, width = self.start.shape
        return frames, height, width

    @property
    def point(self) -> Tensor:
        """Where the flow starts: ``[C, T, h, w]``, known content at 0, noise at 1; kept cells are the content itself."""
        return torch.where(self.start == 0, self.latent, interpolate(self.latent, self.noise, self.start))


def blank(num_channels: int, grid: tuple[int, int, int], *, seed: int, fps: float) -> LatentState:
    """Return a state of which nothing is known.

    The noise is drawn on the CPU, so that the device does not matter, frame after frame, so that a longer clip of the
    same seed begins with the same noise.

    Args:
        num_channels: Latent channels ``C``.
        grid: Latent frames, height and width.
        seed: Of the noise.
        fps: Pixel frames per second.
    """
    generator = runtime.generator(seed)
    frames, height, width = grid
    noise = torch.stack([torch.randn(num_channels, height, width, generator=generator) for _ in range(frames)], dim=1)
    return LatentState(latent=torch.zeros_like(noise), noise=noise, start=torch.ones(grid), fps=fps)


def beginning(state: LatentState, num_frames: int = 1) -> LatentState:
    """Return the first latent frames of a clip as a clip of their own, or a still, with the noise and the cues they have there."""
    cues = tuple(Cue(cue.prompt, cue.weight[:num_frames]) for cue in state.cues)
    latent, noise = state.latent[:, :num_frames], state.noise[:, :num_frames]
    return dataclasses.replace(state, latent=latent, noise=noise, start=state.start[:num_frames], cues=cues)


def half_made(state: LatentState, point: Tensor, time: float) -> LatentState:
    """Return a clip whose free cells have come to a point of the flow, to go on from there.

    Args:
        state: The clip; its cells are kept (0) or free (1).
        point: ``[C, T, h, w]``, reached from the clip's noise.
        time: Flow time of the free cells there, between 0 and 1.
    """
    assert 0 < time < 1
    assert ((state.start == 0) | (state.start == 1)).all()
    noise = state.noise.to(point)
    latent = torch.where(state.start == 0, state.latent, ((point - time * noise) / (1 - time)).to(state.latent))
    return dataclasses.replace(state, latent=latent, start=state.start * time)


def side_by_side(stills: Sequence[LatentState]) -> LatentState:
    """Return stills of which nothing is given, alike but for their noise, as one state whose frames they are."""
    one = stills[0]
    noise = torch.cat([still.noise for still in stills], dim=1)
    cues = tuple(Cue(cue.prompt, cue.weight[:1].expand(len(stills))) for cue in one.cues)
    start = one.start.expand(len(stills), -1, -1)
    return dataclasses.replace(one, latent=torch.zeros_like(noise), noise=noise, start=start, cues=cues, apart=True)


def with_first_frame(state: LatentState, frame: Tensor) -> LatentState:
    """Return the clip with its first latent frame ``[C, 1, h, w]`` given.

    A clip made so is a still that is then animated: each step is easier to learn than both at once.

    Source: Girdhar et al. 2023, "Emu Video: Factorizing Text-to-Video Generation by Explicit Image Conditioning".
    """
    latent, start = state.latent.clone(), state.start.clone()
    latent[:, :1], start[:1] = frame.to(latent), 0
    return dataclasses.replace(state, latent=latent, start=start)
