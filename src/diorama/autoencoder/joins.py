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

from diorama import runtime
from diorama.autoencoder.model import Autoencoder
from diorama.ops.box import box_mean
from diorama.ops.optical_flow import brought, flow_between

__all__ = ["decode_evenly", "even_join", "even_joins"]

_SHARES = (7 / 16, 4 / 16)
"""Of a difference along the motion: how much of it the frame at the join takes over, and the next one away from it."""
_STEPS = (3 / 8, 1 / 8)
"""Of a step that is too large: the same; it is spread over the steps between four frames and to both neighbours then."""
_MOVED = 24.0
"""Levels of 255 by which the same thing may be drawn differently; beyond it is another."""
_STAYED = 12.0
"""Levels of 255 by which a place may step too far and still be drawn differently; beyond it something moved."""
_NEAR = 7
"""Side in pixels of the neighbourhood whose changes are compared."""
_LIGHT = 31
"""Side in pixels of the neighbourhood whose mean is its light: a fade changes it at every step, and is no matter of drawing."""
_PIXELS = 1 << 16
"""Pixels of frames of as many joins as are evened together; those of larger frames are evened one by one."""


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
    if time < 4:
        return
    count, device = len(frames), torch.device(device)
    alike: dict[tuple[int, int], list[list[int]]] = {}
    for join in range(0 if ring else 1, count, time):
        around = [k for k in range(-2, 2) if ring or 0 <= join + k < count]
        alike.setdefault((len(around), around.index(0)), []).append([(join + k) % count for k in around])

    def even(part: tuple[int, list[list[int]]]) -> None:
        join, places = part
        groups = torch.from_numpy(frames[places]).to(device).movedim(-1, 2).float()
        frames[places] = even_join(groups, join).round().clamp(0, 255).byte().movedim(2, -1).cpu().numpy()

    # No frame is beside two joins, so they can be evened in any order; small ones several together and at once, large ones in the memory of one.
    together = _PIXELS // (frames.shape[1] * frames.shape[2])
    size = max(1, together)
    parts = [(join, places[i : i + size]) for (_, join), places in alike.items() for i in range(0, len(places), size)]
    if together:
        runtime.at_once(even, parts, device)
    else:
        list(map(even, parts))


def even_join(frames: Tensor, join: int) -> Tensor:
    """Even the step between two neighbouring frames of each of several clips.

    Args:
        frames: ``[B, N, 3, H, W]`` levels of 255, up to two frames on either side of the step.
        join: The first frame behind it, at least 1.

    Returns:
        ``[B, N, 3, H, W]``.
    """
    moved = _handed_over(frames, join)
    steps = moved.diff(dim=1)
    beside = _beside(steps, join)
    if not beside.shape[1]:
        return moved
    excess = steps[:, join - 1] - beside.mean(1)
    excess = (1 - _usual(_activity(steps), join)) * excess * torch.exp(-((excess / _STAYED) ** 2))
    for away, share in enumerate(_STEPS):
        if join - 1 - away >= 0:
            moved[:, join - 1 - away] += share * excess
        if join + away < moved.shape[1]:
            moved[:, join + away] -= share * excess
    return moved


def _handed_over(frames: Tensor, join: int) -> Tensor:
    """Bring what is drawn differently on both sides of a join nearer to each other, along the motion."""
    pairs = [(join - 1 - away, join, share) for away, share in enumerate(_SHARES) if join - 1 - away >= 0]
    pairs += [(join + away, join - 1, share) for away, share in enumerate(_SHARES) if join + away < frames.shape[1]]
    places, others, shares = (list(column) for column in zip(*pairs, strict=True))
    own, other = frames[:, places].flatten(0, 1), frames[:, others].flatten(0, 1)
    change = (brought(other, _flow(own, other), "bicubic") - own).view_as(frames[:, places])
    light = _means(frames.diff(dim=1), _LIGHT).abs().mean(2, keepdim=True)
    change -= _usual(light, join)[:, None] * _means(change, _LIGHT)
    moved = frames.clone()
    moved[:, places] += frames.new_tensor(shares)[:, None, None, None] * change * torch.exp(-((change / _MOVED) ** 2))
    return moved


def _beside(steps: Tensor, join: int) -> Tensor:
    """Return the steps next to that at a join, of which there are at most two."""
    return steps[:, [step for step in (join - 2, join) if 0 <= step < steps.shape[1]]]


def _usual(changes: Tensor, join: int) -> Tensor:
    """Return how much of the change at a join is no more than the changes beside it, 0 to 1; all where nothing is beside it.

    Args:
        changes: ``[B, N - 1, 1, H, W]``, at least 0.
        join: As in ``even_join``.

    Returns:
        ``[B, 1, H, W]``.
    """
    here, beside = changes[:, join - 1], _beside(changes, join)
    return (beside.mean(1) / here.clamp_min(1e-6)).clamp_max(1) if beside.shape[1] else torch.ones_like(here)


def _flow(first: Tensor, second: Tensor) -> Tensor:
    """Return the flow between pictures, found at half their size: finer than that, coded pictures say little."""
    small = (functional.avg_pool2d(picture, 2) for picture in (first, second))
    return 2 * functional.interpolate(flow_between(*small), first.shape[2:], mode="bilinear", align_corners=False)


def _activity(steps: Tensor) -> Tensor:
    """Return how much changes around every place ``[B, N, 1, H, W]`` in steps ``[B, N, 3, H, W]``."""
    return _means(steps.abs().mean(2, keepdim=True))


def _means(planes: Tensor, side: int = _NEAR) -> Tensor:
    """Return means over squares around every place of planes ``[B, N, C, H, W]``."""
    return box_mean(planes.flatten(0, 1), side).view_as(planes)
