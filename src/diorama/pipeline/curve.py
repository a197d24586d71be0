"""Numbers over the latent frames of a shot: how much of one thing and of another."""

from __future__ import annotations

import torch
from torch import Tensor

from diorama.errors import InputError

__all__ = ["ramp", "read_curve"]


def ramp(count: int, first: int, last: int) -> Tensor:
    """Return ``[count]`` numbers that are 0 up to ``first``, 1 from ``last`` on and rise between."""
    return ((torch.arange(count) - first) / max(1, last - first)).clamp(0, 1)


def read_curve(curve: str, count: int) -> Tensor:
    """Return the influence ``[count]`` of every latent frame, in [0, 1].

    Args:
        curve: Points share-of-the-time:influence, such as ``0.25:0 0.75:1``, joined by straight lines.
        count: Latent frames.

    Raises:
        InputError: the curve is not understood.
    """
    try:
        points = sorted((float(x), float(y)) for x, y in (point.split(":") for point in curve.split()))
    except ValueError:
        points = []
    if not points or not all(0 <= value <= 1 for point in points for value in point):
        raise InputError(f"the curve '{curve}' is not understood: give points share:influence between 0 and 1, for example '0.25:0 0.75:1'")
    shares = torch.arange(count) / max(1, count - 1)
    places, values = (torch.tensor(column) for column in zip(*points, strict=True))
    right = torch.searchsorted(places, shares).clamp(1, max(1, len(points) - 1))
    if len(points) == 1:
        return values.expand(count).clone()
    x0, x1, y0, y1 = places[right - 1], places[right], values[right - 1], values[right]
    return (y0 + ((shares - x0) / (x1 - x0).clamp_min(1e-6)).clamp(0, 1) * (y1 - y0)).clamp(0, 1)
