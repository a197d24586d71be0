"""Convolutions with three taps in time at fewer products: Winograd's minimal filtering along time.

Two outputs of a filter with three taps need four products and not six, four outputs six and not twelve. A product is here a 2-D
convolution of a frame, so that sums of frames, which cost little, take the place of convolutions.

Source: Winograd 1980, "Arithmetic Complexity of Computations"; Lavin & Gray 2016, arXiv 1509.09308; points for small errors as in
Barabasz et al. 2020, arXiv 1803.10986.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TAPS", "conv_frames"]

TAPS = 3
"""Taps in time of the filters that are known here."""

_POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.75, -0.75, 1.5, -1.5)}
"""Where the polynomials of filter and frames are multiplied, beside infinity, by the number of frames made together. In float32 the errors of
four are 3.5 times those of the plain sum, with the usual points 0, 1, -1, 2, -2 five times."""


def conv_frames(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve a few frames without padding in time.

    Args:
        x: ``[T + 2, H, W, C]`` with T of 2 or 4.
        weight: ``[3, D, h, w, C]``.
        bias: ``[D]`` or None.

    Returns:
        ``[T, H, W, D]``; height and width are kept.
    """
    frames = x.shape[0] - TAPS + 1
    into, taps, out, share = (torch.tensor(values, dtype=x.dtype, device=x.device) for values in _transforms(frames))
    points = (into @ x.flatten(1)).view(-1, 1, *x.shape[1:]).movedim(-1, 2)
    kernels = (taps @ weight.flatten(1)).view(-1, *weight.shape[1:]).movedim(-1, 2)
    biases = [None if bias is None else bias * part for part in share]
    padding = weight.shape[2] // 2, weight.shape[3] // 2
    products = [F.conv2d(*given, padding=padding).movedim(1, -1).flatten() for given in zip(points, kernels, biases, strict=True)]
    return (out @ torch.stack(products)).view(frames, *x.shape[1:3], -1)


@functools.cache
def _transforms(frames: int) -> tuple[list[list[float]], list[list[float]], list[list[float]], list[float]]:
    """Return the matrices from frames to points ``[P, T + 2]``, from taps to points ``[P, 3]`` and from points to frames ``[T, P]``.

    Last come the parts of the bias ``[P]`` that the products take, so that it needs no pass of its own.
    """
    count = frames + TAPS - 1
    points = torch.tensor(_POINTS[frames], dtype=torch.float64)

    def at_points(size: int) -> Tensor:
        powers = points[:, None] ** torch.arange(size, dtype=torch.float64)
        infinity = torch.zeros(1, size, dtype=torch.float64)
        infinity[0, -1] = 1
        return torch.cat([powers, infinity])

    out = at_points(frames).T
    share = torch.linalg.pinv(out) @ torch.ones(frames, dtype=torch.float64)
    into = torch.linalg.inv(at_points(count)).T
    return into.tolist(), at_points(TAPS).tolist(), out.tolist(), share.tolist()
