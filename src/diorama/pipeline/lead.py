"""What follows given frames if everything in them goes on as it moves."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from diorama.media import Pixels
from diorama.ops.optical_flow import brought, flow_between

__all__ = ["lead"]


def lead(frames: Pixels, count: int) -> Pixels:
    """Carry the last step of a clip on.

    Every place of the last frame goes on as far with each frame as it went with the step before it; what comes into the picture is not
    known, and the border's last pixels stand for it. So it is good for a few frames, and as a hint.

    Args:
        frames: ``[2, H, W, 3]`` uint8, the last two of the clip.
        count: Frames wanted.

    Returns:
        ``[count, H, W, 3]`` uint8.
    """
    before, last = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()[:, None]
    # Found at half the size, as where detail is handed over: finer than that, coded pictures say little.
    back = flow_between(*(functional.avg_pool2d(picture, 2) for picture in (last, before)))
    back = 2 * functional.interpolate(back, last.shape[2:], mode="bilinear", align_corners=False)
    moved = torch.cat([brought(last, step * back, "bicubic") for step in range(1, count + 1)])
    levels: Pixels = moved.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return levels
