"""Where an object went: followed by its colours through made frames, beside its way in the simulator.

Takes uint8 ``[T, H, W, 3]`` and truth in pixels and metres; knows nothing of models or modes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from diorama.evaluation.motion import as_tensor
from diorama.media import Pixels
from diorama.worlds.clip import WorldClip, make_clip
from diorama.worlds.sample import sample_world

__all__ = ["Walk", "color_likelihood", "path_length", "project", "track_color", "walks"]

_WALK = 0.15
"""Metres that a body moves at least, whatever the camera does."""
_BINS = 16
"""Colour bins of each channel."""


def project(points: Tensor, world_to_camera: Tensor, intrinsics: Tensor) -> Tensor:
    """Return where points are seen.

    Args:
        points: ``[T, 3]`` metres in the world, in front of the camera.
        world_to_camera: ``[T, 4, 4]``, OpenCV axes.
        intrinsics: ``[3, 3]`` in pixels.

    Returns:
        ``[T, 2]`` pixels to the right and down.
    """
    seen = (world_to_camera[:, :3, :3] @ points[:, :, None])[..., 0] + world_to_camera[:, :3, 3]
    image = seen @ intrinsics.T
    return image[:, :2] / image[:, 2:]


def path_length(places: Tensor) -> float:
    """Return the length in pixels of a path through places ``[T, 2]``."""
    return float(places.diff(dim=0).norm(dim=1).sum())


def color_likelihood(frames: Pixels, mask: Tensor) -> Tensor:
    """Learn an object's colours from frames in which it is known.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        mask: bool ``[T, H, W]``, the object's pixels.

    Returns:
        ``[16, 16, 16]`` over red, green and blue: how likely a pixel of that colour is the object's and not its surroundings', 0 to 1.
    """
    bins = _bins(frames)
    inside, outside = (_histogram(bins[part]) for part in (mask, ~mask))
    # What is unlikely on both sides is not the object's.
    return inside / (inside + outside + 1e-4)


def _bins(frames: Pixels) -> Tensor:
    red, green, blue = (as_tensor(frames).long() * _BINS // 256).unbind(-1)
    return (red * _BINS + green) * _BINS + blue


def _histogram(bins: Tensor) -> Tensor:
    """Return the shares of colours, each spread over its neighbours: generated colours are a little off."""
    counts = torch.bincount(bins, minlength=_BINS**3).float().view(1, 1, _BINS, _BINS, _BINS) / max(1, len(bins))
    return functional.avg_pool3d(counts, 3, 1, 1)[0, 0]


def track_color(frames: Pixels, likelihood: Tensor, start: Tensor, area: float) -> tuple[Tensor, Tensor]:
    """Follow an object by its colours, from frame to frame, around where it is expected to be.

    Args:
        frames: uint8 ``[T, H, W, 3]``, in the order to follow.
        likelihood: As ``color_likelihood`` returns it.
        start: ``[2]`` pixels right and down: where it was just before the first frame.
        area: Pixels that it covers.

    Returns:
        Places ``[T, 2]``, and whether it was found ``[T]``: a quarter of its area about the place in its colours. Where it was not,
        the place is the last one known.
    """
    radius = math.sqrt(area / math.pi)
    height, width = frames.shape[1:3]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1)
    place, velocity = start.float(), torch.zeros(2)
    places: list[Tensor] = []
    found: list[bool] = []
    for weights in (2 * likelihood.flatten()[_bins(frames)] - 1).clamp_min(0):
        center = place + velocity
        for reach in (2 * radius,) * 6 + (radius,) * 12:  # mean shift: wide to catch it, then narrow
            near = weights * torch.exp(-(pixels - center).square().sum(-1) / (2 * reach**2))
            if float(near.sum()) < 1e-6:
                break
            center = (near[..., None] * pixels).sum((0, 1)) / near.sum()
        here = bool(weights[(pixels - center).norm(dim=-1) < 1.5 * radius].sum() > 0.25 * area)
        velocity = center - place if here and places else torch.zeros(2)
        place = center if here else place
        places.append(place)
        found.append(here)
    return torch.stack(places), torch.tensor(found)


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A rendered world of which a second is kept secret, and a body that goes far in it."""

    world: WorldClip
    """The whole."""
    body: int
    """Index of the body."""
    known: slice
    """The frames that may be seen."""
    order: Sequence[int]
    """The last frame known, and the secret ones in the order in which an extension makes them."""

    @property
    def places(self) -> Tensor:
        """Where the simulator has the body in every frame, ``[T, 2]`` pixels."""
        return project(self.world.trajectory.positions[:, self.body], self.world.cameras.world_to_camera, self.world.cameras.intrinsics)

    @property
    def path(self) -> Tensor:
        """Where it is in the frames of ``order``, ``[1 + n, 2]`` pixels."""
        return self.places[list(self.order)]

    def errors(self, frames: Pixels) -> tuple[Tensor, float]:
        """Follow the body through frames and compare its way with the simulator's.

        Args:
            frames: uint8 ``[n, H, W, 3]`` for the secret frames, in their order.

        Returns:
            Distances ``[n]`` in pixels, and the share of frames in which it is not found.
        """
        seen, mask = self.world.frames.numpy(), self.world.instances == self.body + 1
        likelihood, last = color_likelihood(seen[self.known], mask[self.known]), self.order[0]
        area, path = float(mask[last].sum()), self.path
        # The middle of what is seen of a body is not quite its centre: what counts is how far it goes from there.
        begin = track_color(seen[[last]], likelihood, path[0], area)[0][0]
        found, here = track_color(frames, likelihood, begin, area)
        return ((found - begin) - (path[1:] - path[0])).norm(dim=1), 1 - float(here.float().mean())


def walks(seed: int, *, backward: bool, known: int = 33, secret: int = 12, shortest: float = 8.0, surest: float = 3.0) -> Iterator[Walk]:
    """Yield worlds, without end, in which a body moves by itself through the secret frames.

    Args:
        seed: Of the first world that is tried.
        backward: Whether the beginning is secret, rather than the end.
        known: Frames known.
        secret: Frames kept secret.
        shortest: Pixels that the body goes in them at least.
        surest: Pixels by which following it in the rendered truth goes wrong at most; other worlds cannot be measured.
    """
    first, last = (0, secret) if backward else (known - 1, known + secret - 1)
    order = list(range(first, last + 1))[:: -1 if backward else 1]
    span = slice(secret, None) if backward else slice(0, known)
    for number in itertools.count(seed):
        trajectory = sample_world(number, split="held_out", num_frames=known + secret)[1]
        moved = (trajectory.positions[last] - trajectory.positions[first]).norm(dim=-1)
        if float(moved.max()) < _WALK:
            continue
        walk = Walk(world=make_clip(number, split="held_out", num_frames=known + secret), body=int(moved.argmax()), known=span, order=order)
        is_seen = bool((walk.world.instances[order[0]] == walk.body + 1).any())
        if is_seen and path_length(walk.path) >= shortest and float(walk.errors(walk.world.frames.numpy()[order[1:]])[0].max()) <= surest:
            yield walk
