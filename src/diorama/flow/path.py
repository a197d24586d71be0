"""The straight path between data and noise, and what the model predicts on it.

Flow time 0 is data and 1 is noise. A time tensor broadcasts against the values it belongs to, so one number per clip,
per frame or per cell all work.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["data_from_velocity", "interpolate", "noise_from_velocity", "velocity_target"]


def interpolate(data: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """Return the point ``(1 - t) * data + t * noise`` of the path.

    Args:
        data: Clean values, any shape.
        noise: Standard normal values of the same shape.
        t: Flow time in [0, 1], broadcastable to ``data``.

    Source: rectified flow, arXiv 2209.03003.
    """
    return (1 - t) * data + t * noise


def velocity_target(data: Tensor, noise: Tensor) -> Tensor:
    """Return ``noise - data``, the derivative of the path by flow time."""
    return noise - data


def data_from_velocity(x: Tensor, velocity: Tensor, t: Tensor | float) -> Tensor:
    """Return the clean values that ``velocity`` at the point ``x`` and time ``t`` implies."""
    return x - t * velocity


def noise_from_velocity(x: Tensor, velocity: Tensor, t: Tensor | float) -> Tensor:
    """Return the noise that ``velocity`` at the point ``x`` and time ``t`` implies."""
    return x + (1 - t) * velocity
