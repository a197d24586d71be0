"""Cameras and captures: what reconstruction finds and what radiance fields and splats learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diorama.errors import InputError
from diorama.media import Pixels

__all__ = ["HOLD_OUT_EVERY", "Bools", "Cameras", "Capture", "Floats", "project"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

HOLD_OUT_EVERY = 8


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """A pinhole camera per frame, without distortion."""

    intrinsics: Floats
    """``[T, 3, 3]`` in pixels; the centre of the first pixel is at (0.5, 0.5)."""
    world_to_camera: Floats
    """``[T, 4, 4]`` with OpenCV axes: x right, y down, z forward."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""

    def __post_init__(self) -> None:
        count = len(self.intrinsics)
        if self.intrinsics.shape != (count, 3, 3) or self.world_to_camera.shape != (count, 4, 4):
            raise InputError(
                f"cameras need intrinsics [T, 3, 3] and world_to_camera [T, 4, 4] of one length, got {list(self.intrinsics.shape)} and "
                f"{list(self.world_to_camera.shape)}"
            )
        if self.width < 1 or self.height < 1:
            raise InputError(f"cameras of {self.width}x{self.height} pixels cannot see; every side must be at least 1")

    def __len__(self) -> int:
        return len(self.intrinsics)

    @property
    def centers(self) -> Floats:
        """Where the cameras are in the world, ``[T, 3]``."""
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        centers: Floats = -np.einsum("tji,tj->ti", rotation, translation)
        return centers

    def select(self, indices: Sequence[int] | NDArray[np.intp] | Bools) -> Cameras:
        """Return the cameras at ``indices``: numbers, or a bool ``[T]``."""
        chosen = np.asarray(indices)
        return replace(self, intrinsics=self.intrinsics[chosen], world_to_camera=self.world_to_camera[chosen])

    def scaled(self, factor: float) -> Cameras:
        """Return the cameras of the same views at ``factor`` times the size.

        Sides are rounded to whole pixels and each axis of the intrinsics follows its own side, so the field of view stays exactly.

        Raises:
            InputError: a side would fall below 1 pixel.
        """
        width, height = round(self.width * factor), round(self.height * factor)
        if width < 1 or height < 1:
            raise InputError(f"cameras of {self.width}x{self.height} pixels cannot be scaled by {factor:g}; every side must stay at least 1 pixel")
        intrinsics = self.intrinsics.copy()
        intrinsics[:, 0] *= width / self.width
        intrinsics[:, 1] *= height / self.height
        return replace(self, intrinsics=intrinsics, width=width, height=height)

    def moved(self, rotation: Floats, translation: Floats, scale: float) -> Cameras:
        """Return the cameras seen in another world: every point X becomes ``scale * rotation @ X + translation``.

        Args:
            rotation: ``[3, 3]``.
            translation: ``[3]``.
            scale: Above 0.
        """
        turned = self.world_to_camera[:, :3, :3] @ rotation.T
        matrices = np.tile(np.eye(4), (len(self), 1, 1))
        matrices[:, :3, :3] = turned
        matrices[:, :3, 3] = scale * self.world_to_camera[:, :3, 3] - turned @ translation
        return replace(self, world_to_camera=matrices)


def project(points: Floats, cameras: Cameras) -> tuple[Floats, Floats]:
    """Return where points are seen: pixels ``[T, P, 2]`` and depths ``[T, P]`` along the forward axis.

    Args:
        points: ``[P, 3]`` in the world. Pixels mean nothing where the depth is not above 0.
        cameras: T of them.
    """
    seen = np.einsum("tij,pj->tpi", cameras.world_to_camera[:, :3, :3], points) + cameras.world_to_camera[:, None, :3, 3]
    pixels = np.einsum("tij,tpj->tpi", cameras.intrinsics, seen)
    depth = seen[..., 2]
    return pixels[..., :2] / np.where(np.abs(depth) < 1e-12, 1e-12, depth)[..., None], depth


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Frames with their cameras and a sparse cloud of points."""

    frames: Pixels
    """uint8 ``[T, H, W, 3]``, undistorted, of the cameras' size."""
    cameras: Cameras
    points: Floats
    """``[P, 3]`` in the world of the cameras."""
    colors: Pixels
    """uint8 ``[P, 3]``."""
    masks: Bools | None = None
    """``[T, H, W]``, True where a pixel belongs to the rigid scene; None: all do."""

    def __post_init__(self) -> None:
        shape = (len(self.cameras), self.cameras.height, self.cameras.width)
        if self.frames.dtype != np.uint8 or self.frames.shape != (*shape, 3):
            raise InputError(
                f"a capture needs a uint8 frame of its cameras' size for each, {[*shape, 3]}, got {list(self.frames.shape)} in {self.frames.dtype}"
            )
        if self.points.ndim != 2 or self.points.shape[1] != 3 or self.colors.shape != self.points.shape:
            raise InputError(f"a capture needs points and colors [P, 3], got {list(self.points.shape)} and {list(self.colors.shape)}")
        if self.masks is not None and self.masks.shape != shape:
            raise InputError(f"masks of a capture need its frames' shape {list(shape)}, got {list(self.masks.shape)}")

    @property
    def held_out(self) -> Bools:
        """Which frames are kept from training, ``[T]``: every 8th, none at the ends, where a view would be a guess and not an interpolation."""
        count = len(self.cameras)
        if count < 3:
            return np.zeros(count, dtype=np.bool_)
        offset = min(HOLD_OUT_EVERY // 2, count // 2)
        held: Bools = np.arange(count) % HOLD_OUT_EVERY == offset
        held[[0, -1]] = False
        return held

    def select(self, indices: Sequence[int] | NDArray[np.intp] | Bools) -> Capture:
        """Return the capture of the frames at ``indices`` (numbers, or a bool ``[T]``) with all its points."""
        chosen = np.asarray(indices)
        masks = None if self.masks is None else self.masks[chosen]
        return replace(self, frames=self.frames[chosen], cameras=self.cameras.select(chosen), masks=masks)

    def normalised(self) -> Capture:
        """Return the same capture with the median of the points at the origin and the cameras 1 away from it on average.

        Without points the middle of the cameras is the origin.
        """
        centers = self.cameras.centers
        middle = np.median(self.points, axis=0) if len(self.points) else centers.mean(0)
        distance = float(np.linalg.norm(centers - middle, axis=1).mean())
        scale = 1.0 / distance if distance > 1e-9 else 1.0
        return replace(self, cameras=self.cameras.moved(np.eye(3), -scale * middle, scale), points=(self.points - middle) * scale)
