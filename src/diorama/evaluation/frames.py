"""Numbers about frames alone: how near a clip is to another, and how steady it is in time.

Takes uint8 ``[T, H, W, 3]`` or float ``[B, 3, T, H, W]`` in [-1, 1]; knows nothing of models or files.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.geometry.image_metrics import ssim_map

__all__ = ["as_video", "difference", "flicker", "judder", "psnr", "ssim"]

Frames = Tensor | np.ndarray


def as_video(frames: Frames) -> Tensor:
    """Return frames as one batch in the range [0, 1].

    Args:
        frames: uint8 ``[T, H, W, 3]``, or float ``[B, 3, T, H, W]`` (or ``[3, T, H, W]``) in [-1, 1].

    Returns:
        ``[B, 3, T, H, W]`` float32 in [0, 1].

    Raises:
        InputError: neither of those forms.
    """
    video = torch.from_numpy(np.ascontiguousarray(frames)) if isinstance(frames, np.ndarray) else frames
    if video.dtype == torch.uint8 and video.ndim == 4 and video.shape[-1] == 3:
        return (video.permute(3, 0, 1, 2)[None] / 255.0).contiguous()
    if video.is_floating_point() and video.ndim == 4 and video.shape[0] == 3:
        video = video[None]
    if video.is_floating_point() and video.ndim == 5 and video.shape[1] == 3:
        return (video.detach().float().clamp(-1.0, 1.0) + 1.0) / 2.0
    raise InputError(
        f"frames of shape {tuple(video.shape)} and type {video.dtype} cannot be graded: give uint8 [T, H, W, 3] or float [B, 3, T, H, W]"
    )


def _pair(a: Frames, b: Frames) -> tuple[Tensor, Tensor]:
    x, y = as_video(a), as_video(b)
    if x.shape != y.shape:
        raise InputError(f"two clips of different sizes cannot be compared: {tuple(x.shape)} and {tuple(y.shape)} as [B, C, T, H, W]; resize one")
    return x, y.to(x.device)


def psnr(a: Frames, b: Frames) -> Tensor:
    """Return the peak signal-to-noise ratio of each clip in dB, from the mean square over all its frames.

    Args:
        a: A clip in either form of ``as_video``.
        b: The other clip, of the same size.

    Returns:
        ``[B]`` in dB; infinite where the clips are equal.

    Raises:
        InputError: the sizes differ.
    """
    x, y = _pair(a, b)
    return -10.0 * torch.log10((x - y).square().flatten(1).mean(1))


def ssim(a: Frames, b: Frames) -> Tensor:
    """Return the structural similarity of each clip: the mean over frames, colour channels and places.

    Args:
        a: A clip in either form of ``as_video``, both sides at least 11 pixels.
        b: The other clip, of the same size.

    Returns:
        ``[B]`` in [-1, 1]; 1 where the clips are equal.

    Raises:
        InputError: the sizes differ or a side is below 11 pixels.
    """
    x, y = (video.flatten(1, 2).double() for video in _pair(a, b))
    return ssim_map(x, y).flatten(1).mean(1).float()


def difference(frames: Frames) -> Tensor:
    """Return how much each clip changes from frame to frame.

    Args:
        frames: A clip in either form of ``as_video``.

    Returns:
        ``[B]`` mean absolute difference of neighbouring frames in grey levels of 255; 0 for a single frame.
    """
    video = as_video(frames)
    if video.shape[2] < 2:
        return video.new_zeros(video.shape[0])
    return video.diff(dim=2).abs().flatten(1).mean(1) * 255.0


def flicker(frames: Frames) -> Tensor:
    """Return how much each clip shakes: what two frames differ by beyond the frame between them.

    Steady change, such as a slow pan over a smooth wall, cancels; a pixel that jumps forth and back does not.

    Args:
        frames: A clip in either form of ``as_video``.

    Returns:
        ``[B]`` mean absolute second difference in time, halved, in grey levels of 255; 0 below three frames.
    """
    video = as_video(frames)
    if video.shape[2] < 3:
        return video.new_zeros(video.shape[0])
    return video.diff(dim=2).diff(dim=2).abs().flatten(1).mean(1) * (255.0 / 2.0)


def judder(frames: Frames, stride: int) -> Tensor:
    """Return how much larger the steps into a new group of frames are than those within one.

    An autoencoder codes groups of frames; one that draws details anew in every group makes things move in jerks, a group each.

    Args:
        frames: A clip in either form of ``as_video``, of one frame and then groups.
        stride: Frames in a group.

    Returns:
        ``[B]`` median over groups but the first of the mean absolute step into them, over the median of all steps within groups: 1 is even.
        NaN for a clip of fewer than two groups, of groups of one, or that stands still within them.
    """
    steps = as_video(frames).diff(dim=2).abs().mean(dim=(1, 3, 4))
    within = torch.arange(steps.shape[1]) % stride != 0
    into = ~within
    into[:1] = False  # the first frame is a group by itself, and drawn as one
    if not into.any() or not within.any():
        return steps.new_full((len(steps),), torch.nan)
    usual = steps[:, within].median(1).values
    return torch.where(usual > 0, steps[:, into].median(1).values / usual, torch.nan)
