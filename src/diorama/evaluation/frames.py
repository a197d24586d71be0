"""Numbers about frames alone: how near a clip is to another, and how steady it is in time.

Takes uint8 ``[T, H, W, 3]`` or float ``[B, 3, T, H, W]`` in [-1, 1]; knows nothing of models or files.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.errors import InputError

__all__ = ["as_video", "difference", "flicker", "psnr", "ssim"]

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

    Source: Wang et al. 2004, "Image quality assessment", sections III.B and III.C: an 11 x 11 Gaussian window of
    sigma 1.5 laid only where it fits, K1 = 0.01, K2 = 0.03.
    """
    x, y = _pair(a, b)
    batch, _, _, height, width = x.shape
    if min(height, width) < 11:
        raise InputError(f"structural similarity needs sides of at least 11 pixels, got {width}x{height}")
    x, y = (v.reshape(-1, 1, height, width).double() for v in (x, y))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x.square()
    var_y = _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    bottom = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return (top / bottom).reshape(batch, -1).mean(1).float()


def _blur(image: Tensor) -> Tensor:
    offsets = torch.arange(-5, 6, dtype=image.dtype, device=image.device)
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = window / window.sum()
    return functional.conv2d(functional.conv2d(image, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))


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
