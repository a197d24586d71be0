"""Rays of a capture in a bounded space: everything a radiance field looks at lies in the unit cube, however far away it is.

The room's middle keeps its shape and what is beyond is squeezed in, along the line to the middle, up to infinity on the cube's
walls. Along a ray, ``s`` in [0, 1) counts places to look at: half of them evenly in depth up to where most points end, half in
inverse depth from there on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diorama.geometry.cameras import Cameras, Capture, project

__all__ = ["Pixels", "Rays", "Space", "camera_rays"]

_FEW_POINTS = 16
_FARTHEST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Space:
    """Where the scene is: the cube of half-side ``radius`` about ``center`` keeps its shape, and depths run from ``near``."""

    center: tuple[float, float, float]
    """In the world of the cameras."""
    radius: float
    """In units of that world, above 0."""
    near: float
    """Depth where rays begin."""
    knee: float
    """Depth from which places along a ray thin out, above ``near``."""

    @staticmethod
    def of(capture: Capture) -> Space:
        """Return the space of a capture, from its sparse points; without points, from the cameras and a guess."""
        centers = capture.cameras.centers
        pixels, depths = project(capture.points, capture.cameras)
        inside = ((pixels >= 0) & (pixels < [capture.cameras.width, capture.cameras.height])).all(-1) & (depths > 0)
        seen = capture.points[inside.any(0)]
        if len(seen) < _FEW_POINTS:
            forward = capture.cameras.world_to_camera[:, 2, :3].mean(0)
            spread = float(np.linalg.norm(centers - centers.mean(0), axis=1).max()) or 1.0
            middle = centers.mean(0) + 2 * spread * forward
            return Space(center=_triple(middle), radius=2 * spread, near=0.1 * spread, knee=4 * spread)
        middle = np.median(seen, axis=0)
        radius = float(np.quantile(np.abs(seen - middle).max(1), 0.5))
        near, knee = np.quantile(depths[inside], [0.01, 0.95])
        near = 0.8 * float(near)
        return Space(center=_triple(middle), radius=max(radius, 1e-6 * float(knee)), near=near, knee=max(float(knee), 1.5 * near))

    def depth(self, s: Tensor) -> Tensor:
        """Return the depth of places ``s`` along a ray; 1 is infinitely far.

        Args:
            s: Any shape, in [0, 1]; from 0.999 on, depth grows no more.
        """
        far = 2 - 2 * s.clamp(0.5, 1 - _FARTHEST)
        return self.near + (self.knee - self.near) * torch.where(s < 0.5, 2 * s, 1 / far)

    def contract(self, points: Tensor) -> Tensor:
        """Return points of the world as points of the unit cube.

        Args:
            points: ``[..., 3]``.

        Returns:
            ``[..., 3]`` in [0, 1].

        Source: Barron et al. 2022, "Mip-NeRF 360", equation 10, with the maximum norm, so that directions fill the whole cube.
        """
        x = (points - points.new_tensor(self.center)) / self.radius
        norm = x.abs().amax(-1, keepdim=True).clamp_min(1.0)
        return 0.5 + 0.25 * x * ((2 - 1 / norm) / norm)

    def horizon(self, directions: Tensor) -> Tensor:
        """Return where rays of ``directions`` ``[..., 3]`` end at infinity, on the walls of the unit cube."""
        return 0.5 + 0.5 * directions / directions.abs().amax(-1, keepdim=True)


def _triple(vector: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z


@dataclass(frozen=True, kw_only=True)
class Rays:
    """Half-lines from cameras through pixels."""

    origins: Tensor
    """float32 ``[R, 3]`` in the world."""
    directions: Tensor
    """float32 ``[R, 3]``, 1 long along the camera's forward axis, so that distances along a ray are depths."""

    def __getitem__(self, index: slice | Tensor) -> Rays:
        return Rays(origins=self.origins[index], directions=self.directions[index])

    def __len__(self) -> int:
        return len(self.origins)


def camera_rays(cameras: Cameras, frames: Tensor, rows: Tensor, columns: Tensor) -> Rays:
    """Return the rays through pixel centres.

    Args:
        cameras: T of them.
        frames: int64 ``[R]``, which camera.
        rows: int64 ``[R]``, from the top.
        columns: int64 ``[R]``, from the left.

    Returns:
        R rays on the device of ``frames``.
    """
    turned = np.swapaxes(cameras.world_to_camera[:, :3, :3], 1, 2) @ np.linalg.inv(cameras.intrinsics)
    back, centers = (torch.from_numpy(table).float().to(frames.device)[frames] for table in (turned, cameras.centers))
    pixels = torch.stack([columns + 0.5, rows + 0.5, torch.ones_like(rows)], -1)
    return Rays(origins=centers, directions=(back * pixels[:, None]).sum(-1))


class Pixels:
    """The pixels a field learns from: those of all frames of a capture that belong to the rigid scene.

    Args:
        capture: Frames for training.
        device: Where rays and colours will be.
    """

    def __init__(self, capture: Capture, device: torch.device) -> None:
        self.cameras = capture.cameras
        self.colors = torch.from_numpy(capture.frames).to(device).flatten(0, 2)
        count = self.colors.shape[0]
        self.chosen = None if capture.masks is None else torch.from_numpy(np.flatnonzero(capture.masks)).to(device)
        self.count = count if self.chosen is None else len(self.chosen)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Rays, Tensor]:
        """Draw pixels at random.

        Args:
            count: How many, R.
            generator: On the CPU.

        Returns:
            R rays and their colours, float32 ``[R, 3]`` in [0, 1].
        """
        index = torch.randint(self.count, (count,), generator=generator).to(self.colors.device)
        if self.chosen is not None:
            index = self.chosen[index]
        width, height = self.cameras.width, self.cameras.height
        frames, place = index // (width * height), index % (width * height)
        rays = camera_rays(self.cameras, frames, place // width, place % width)
        return rays, self.colors[index].float() / 255
