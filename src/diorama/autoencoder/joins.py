"""Where the frames of one latent frame meet those of the next.

Coding draws fine detail anew in every latent frame, so a decoded clip changes more from one latent frame to the next than inside
one, and moves in jerks. What is drawn differently on both sides of such a join is handed over within four frames: first along the
motion, which optical flow finds, then in place, as far as more changes there than at the steps beside it. Either is done only where
little changes, so that nothing is smeared. Clips are nearer to their originals after it than before (docs/log.md).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.autoencoder.model import Autoencoder
from diorama.ops.optical_flow import box_mean, brought, flow_between

__all__ = ["decode_evenly", "even_join", "even_joins"]

_SHARES = (7 / 16, 4 / 16)
"""Of a difference along the motion: how much of it the frame at the join takes over, and the next one away from it."""
_STEPS = (3 / 8, 1 / 8)
"""Of a step that is too large: the same; it is spread over the steps between four frames and to both neighbours then."""
_MOVED = 24.0
"""Levels of 255 by which the same thing may be drawn differently; beyond it is another."""
_STAYED = 12.0
"""Levels of 255 by which a place may step too far and still be drawn differently; beyond it something moved."""
_LIGHT = 31
"""Side in pixels of the neighbourhood whose mean is its light: a fade changes it at every step, and is no matter of drawing."""


def decode_evenly(autoencoder: Autoencoder, latent: Tensor) -> Tensor:
    """Decode a whole latent as it is shown: in 8 bits, with even joins if the autoencoder's config says so.

    Args:
        autoencoder: The model.
        latent: ``[B, z_dim, 1 + k, h, w]``, normalised.

    Returns:
        Video ``[B, 3, 1 + k * time, H, W]`` in [-1, 1].
    """
    video = autoencoder.decode(latent)
    levels = video.detach().add(1).mul(127.5).round().byte().permute(0, 2, 3, 4, 1).cpu().contiguous().numpy()
    if autoencoder.config.even_joins:
        for clip in levels:
            even_joins(clip, autoencoder.config.stride.time, device=video.device)
    return torch.from_numpy(levels).to(video.device).permute(0, 4, 1, 2, 3) / 127.5 - 1


def even_joins(frames: np.ndarray, time: int, *, ring: bool = False, device: torch.device | str = "cpu") -> None:
    """Even the joins of a decoded clip, in place and in the memory of a few frames.

    Args:
        frames: uint8 ``[T, H, W, 3]``: one frame and then groups of ``time``; in a ring groups of ``time`` only, the first behind the last.
        time: Frames of a latent frame; fewer than 4 are left as they are, since joins must not touch each other.
        ring: Whether the first frame follows the last.
        device: Where to compute.
    """
    count = len(frames)
    if time < 4:
        return
    for join in range(0 if ring else 1, count, time):
        around = [join + k for k in range(-2, 2) if ring or 0 <= join + k < count]
        places = [place % count for place in around]
        group = torch.from_numpy(frames[places]).to(device).permute(0, 3, 1, 2).float()
        if len(group) > 1:
            levels = even_join(group, around.index(join)).round().clamp(0, 255).byte()
            frames[places] = levels.permute(0, 2, 3, 1).cpu().numpy()


def even_join(frames: Tensor, join: int) -> Tensor:
    """Even the step between two neighbouring frames.

    Args:
        frames: ``[N, 3, H, W]`` levels of 255, up to two frames on either side.
        join: The first frame behind it, at least 1.

    Returns:
        ``[N, 3, H, W]``.
    """
    moved = _handed_over(frames, join)
    steps = moved.diff(dim=0)
    beside = _beside(steps, join)
    if not len(beside):
        return moved
    excess = steps[join - 1] - beside.mean(0)
    excess = (1 - _usual(_activity(steps), join)) * excess * torch.exp(-((excess / _STAYED) ** 2))
    for away, share in enumerate(_STEPS):
        if join - 1 - away >= 0:
            moved[join - 1 - away] += share * excess
        if join + away < len(moved):
            moved[join + away] -= share * excess
    return moved


def _handed_over(frames: Tensor, join: int) -> Tensor:
    """Bring what is drawn differently on both sides of a join nearer to each other, along the motion."""
    pairs = [(join - 1 - away, join, share) for away, share in enumerate(_SHARES) if join - 1 - away >= 0]
    pairs += [(join + away, join - 1, share) for away, share in enumerate(_SHARES) if join + away < len(frames)]
    places, others, shares = (list(column) for column in zip(*pairs, strict=True))
    change = brought(frames[others], _flow(frames[places], frames[others]), "bicubic") - frames[places]
    light = box_mean(frames.diff(dim=0), _LIGHT).abs().mean(1, keepdim=True)
    change -= _usual(light, join) * box_mean(change, _LIGHT)
    moved = frames.clone()
    moved[places] += frames.new_tensor(shares)[:, None, None, None] * change * torch.exp(-((change / _MOVED) ** 2))
    return moved


def _beside(steps: Tensor, join: int) -> Tensor:
    """Return the steps next to that at a join, of which there are at most two."""
    return steps[[step for step in (join - 2, join) if 0 <= step < len(steps)]]


def _usual(changes: Tensor, join: int) -> Tensor:
    """Return how much of the change at a join is no more than the changes beside it, 0 to 1; all where nothing is beside it.

    Args:
        changes: ``[N - 1, 1, H, W]``, at least 0.
        join: As in ``even_join``.
    """
    beside = _beside(changes, join)
    return (beside.mean(0) / changes[join - 1].clamp_min(1e-6)).clamp_max(1) if len(beside) else torch.ones_like(changes[join - 1])


def _flow(first: Tensor, second: Tensor) -> Tensor:
    """Return the flow between pictures, found at half their size: finer than that, coded pictures say little."""
    small = (functional.avg_pool2d(picture, 2) for picture in (first, second))
    return 2 * functional.interpolate(flow_between(*small), first.shape[2:], mode="bilinear", align_corners=False)


def _activity(steps: Tensor) -> Tensor:
    """Return how much changes around every place ``[N, 1, H, W]`` in steps ``[N, 3, H, W]``."""
    return box_mean(steps.abs().mean(1, keepdim=True))
