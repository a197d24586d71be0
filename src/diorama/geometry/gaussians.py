"""A cloud of Gaussians, and one camera that looks at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from diorama.geometry.cameras import Cameras, Floats

__all__ = ["Gaussians", "View"]


@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """Parameters of N Gaussians as they are learned, before any activation."""

    means: Tensor
    """float32 ``[N, 3]`` in the world."""
    log_scales: Tensor
    """float32 ``[N, 3]``, natural logarithms of the standard deviations along the Gaussian's own axes."""
    quaternions: Tensor
    """float32 ``[N, 4]``, (w, x, y, z) from own axes to the world, of any length but zero."""
    logits: Tensor
    """float32 ``[N]``; the opacity is their sigmoid."""
    sh: Tensor
    """float32 ``[N, 1, 3]`` or ``[N, 4, 3]``: real spherical harmonics of degree 0 or 1; RGB in [0, 1] is 0.5 + their sum, at least 0."""

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        """The degree of the spherical harmonics, 0 or 1."""
        return 0 if self.sh.shape[1] == 1 else 1

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def map(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        """Return the cloud with ``function`` applied to every parameter."""
        return replace(self, **{name: function(tensor) for name, tensor in self.tensors().items()})

    def joined(self, other: Gaussians) -> Gaussians:
        """Return this cloud followed by ``other``."""
        return replace(self, **{name: torch.cat([tensor, getattr(other, name)]) for name, tensor in self.tensors().items()})


@dataclass(frozen=True, kw_only=True)
class View:
    """One pinhole camera."""

    world_to_camera: Floats
    """float64 ``[4, 4]``, OpenCV axes."""
    focal: tuple[float, float]
    """Pixels, along x and y."""
    center: tuple[float, float]
    """Pixels; the centre of the first pixel is at (0.5, 0.5)."""
    width: int
    height: int
    near: float = 0.01
    """Gaussians nearer than this along the forward axis, in the world's unit, are not drawn."""

    @classmethod
    def of(cls, cameras: Cameras, index: int, near: float = 0.01) -> View:
        """Return camera number ``index``."""
        k = cameras.intrinsics[index]
        return cls(
            world_to_camera=np.ascontiguousarray(cameras.world_to_camera[index], dtype=np.float64),
            focal=(float(k[0, 0]), float(k[1, 1])),
            center=(float(k[0, 2]), float(k[1, 2])),
            width=cameras.width,
            height=cameras.height,
            near=near,
        )

    @property
    def position(self) -> Floats:
        """Where the camera is in the world, ``[3]``."""
        position: Floats = -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]
        return position
