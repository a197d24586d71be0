"""A clip of a world with everything known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from diorama.worlds.cameras import Cameras, cameras
from diorama.worlds.captions import Captions, caption
from diorama.worlds.physics import Trajectory
from diorama.worlds.render import render
from diorama.worlds.sample import Wanted, sample_world
from diorama.worlds.scene import Scene

__all__ = ["WorldClip", "film", "make_clip"]


@dataclass(frozen=True, kw_only=True)
class WorldClip:
    """Pictures, words and truth."""

    scene: Scene
    frames: Tensor
    """uint8 [T, H, W, 3], sRGB."""
    fps: float
    captions: Captions
    cameras: Cameras
    depth: Tensor
    """float32 [T, H, W], metres along the camera's forward axis, infinite for the sky."""
    instances: Tensor
    """uint8 [T, H, W]: 0 for the background, else the body's index + 1."""
    contacts: tuple[tuple[int, int, int], ...]
    """See ``Trajectory.contacts``."""
    trajectory: Trajectory


def make_clip(seed: int, *, device: torch.device | str = "cpu", **wanted: Unpack[Wanted]) -> WorldClip:
    """Draw, simulate, render and caption one clip.

    Args:
        seed: The same seed and arguments give the same clip.
        device: Where to render.
        **wanted: Split, size, length and number of bodies, see ``sample_world``.

    Raises:
        InputError: an argument is out of range.
        MissingExtraError: MuJoCo is not installed.
    """
    return film(*sample_world(seed, **wanted), device=device)


def film(scene: Scene, trajectory: Trajectory, *, num_frames: int | None = None, device: torch.device | str = "cpu") -> WorldClip:
    """Render and caption a simulated scene.

    Args:
        scene: What to film.
        trajectory: Poses of its bodies.
        num_frames: Render only so many frames, from the first, 1 for a still; captions, cameras and contacts stay those of the whole.
        device: Where to render.

    Raises:
        InputError: ``num_frames`` is not from 1 to the scene's.
    """
    shot = cameras(scene)
    rendering = render(scene, trajectory, shot, num_frames=num_frames, device=device)
    return WorldClip(
        scene=scene,
        frames=rendering.frames,
        fps=scene.fps,
        captions=caption(scene, scene.seed),
        cameras=shot,
        depth=rendering.depth,
        instances=rendering.instances,
        contacts=trajectory.contacts,
        trajectory=trajectory,
    )
