"""Generated frames that come out at the given ones beside them as those move.

A generated passage ends somewhere near the given frame behind it, and moving at some speed near that frame's. Its last few frames are
drawn nearer, one by one, to what the given clip itself would have shown there if it had moved before as it moves then; its first few
likewise to what the clip before them would have gone on to show. Both pictures are brought along the flow between them, so that what
they share is in one place, and mixed. Where they do not show the same, are far apart, or the given clip's motion is not known, the
generated frame stays.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diorama.media import Pixels
from diorama.ops.box import box_mean
from diorama.ops.optical_flow import brought
from diorama.pipeline.lead import NEAR, agreed, alike, lead_surely, seen_flow

__all__ = ["approach"]

_FRAMES = 12
"""Frames that are drawn nearer, the less the farther they are: three latent frames."""
_LEAST = 0.02
"""A share below this is none, so that what is not trusted stays bit-equal."""
_FAR = 8.0
"""Pixels between where a thing is and where it would be: farther apart it is let alone."""


def approach(frames: Pixels, before: Pixels, after: Pixels, *, pace: float = 1.0) -> Pixels:
    """Bring the first and last generated frames nearer to the given ones beside them.

    Args:
        frames: Generated, ``[T, H, W, 3]`` uint8.
        before: The last given frames before them; of fewer than two ``[2, H, W, 3]`` no motion is known, and nothing is done.
        after: The first given frames behind them, likewise.
        pace: What a step of the generated frames takes of the time between two given ones.

    Returns:
        ``[T, H, W, 3]`` uint8.
    """
    near, count = frames.copy(), min(_FRAMES, len(frames))
    if not count or min(frames.shape[1:3]) < 4:
        return near
    for given, places in ((before, range(count)), (after[::-1], range(len(frames) - 1, len(frames) - 1 - count, -1))):
        if len(given) < 2:
            continue
        for step, (place, (picture, surely)) in enumerate(zip(places, lead_surely(given[-2:], count, pace=pace), strict=True)):
            near[place] = _between(near[place], picture, surely * (count - step) / (count + 1))
    return near


def _between(frame: Pixels, other: Tensor, share: Tensor) -> Pixels:
    """Return a picture between two, a share of the way to the other one where both show the same, and the first elsewhere.

    Args:
        frame: ``[H, W, 3]`` uint8.
        other: ``[1, 3, H, W]`` levels.
        share: ``[1, 1, H, W]`` from 0 to 1.
    """
    one = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
    flow = seen_flow(one, other)
    share = share * agreed(flow, seen_flow(other, one)) * torch.exp(-((box_mean(flow.norm(dim=1, keepdim=True), NEAR) / _FAR) ** 2))
    share = box_mean(share * alike(brought(one, -share * flow, "bicubic"), brought(other, (1 - share) * flow, "bicubic")), NEAR)
    share = share * (share > _LEAST)
    mixed = torch.lerp(brought(one, -share * flow, "bicubic"), brought(other, (1 - share) * flow, "bicubic"), share)
    drawn: Pixels = mixed[0].round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return drawn
