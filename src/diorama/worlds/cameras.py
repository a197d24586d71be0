"""Cameras of a shot: eased moves about a target, as world-to-camera matrices with OpenCV axes (x right, y down, z forward)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diorama.worlds.scene import Camera, Scene

__all__ = ["Cameras", "camera_poses", "cameras", "focal_length"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """A camera per frame."""

    world_to_camera: Tensor
    """float32 [T, 4, 4]."""
    intrinsics: Tensor
    """float32 [3, 3] in pixels; the centre of the first pixel is at (0.5, 0.5)."""


def cameras(scene: Scene) -> Cameras:
    """Return the cameras of a scene's shot."""
    positions, rotations = camera_poses(scene.camera, scene.num_frames)
    matrices = np.tile(np.eye(4), (scene.num_frames, 1, 1))
    matrices[:, :3, :3] = rotations
    matrices[:, :3, 3] = -np.einsum("tij,tj->ti", rotations, positions)
    focal = focal_length(scene.camera, scene.width, scene.height)
    intrinsics = [[focal, 0, scene.width / 2], [0, focal, scene.height / 2], [0, 0, 1]]
    return Cameras(world_to_camera=torch.from_numpy(matrices).float(), intrinsics=torch.tensor(intrinsics, dtype=torch.float32))


def focal_length(camera: Camera, width: int, height: int) -> float:
    """Return the focal length in pixels; the field of view is that of the shorter side."""
    return min(width, height) / 2 / math.tan(camera.field_of_view / 2)


def camera_poses(camera: Camera, num_frames: int) -> tuple[Array, Array]:
    """Return camera positions [T, 3] in metres and rotations [T, 3, 3] from world to camera axes.

    A move eases in and out over the clip. Orbit left and pan left are the camera's own left: it travels to its left
    around the target, or turns to its left on the spot.
    """
    u = np.linspace(0.0, 1.0, num_frames) if num_frames > 1 else np.zeros(1)
    # half linear, half smoothstep: moving from the first frame on, without a jerk in the middle
    done = (0.5 * u + 0.5 * u * u * (3 - 2 * u)) * camera.amount
    sign = -1.0 if camera.move.endswith(("left", "in", "down")) else 1.0
    kind = camera.move.split("_")[0]
    target = np.array(camera.target)
    azimuth = camera.azimuth + (sign * done if kind == "orbit" else 0 * u)
    distance = camera.distance + (sign * done if kind == "dolly" else 0 * u)
    level = np.cos(camera.elevation)
    outward = np.stack([np.sin(azimuth) * level, -np.cos(azimuth) * level, np.full_like(u, np.sin(camera.elevation))], -1)
    positions = target + distance[:, None] * outward
    if kind == "crane":
        positions[:, 2] += sign * done
    ahead = target - positions
    yaw = np.arctan2(-ahead[:, 0], ahead[:, 1]) - (sign * done if kind == "pan" else 0)
    pitch = np.arctan2(ahead[:, 2], np.hypot(ahead[:, 0], ahead[:, 1])) + (sign * done if kind == "tilt" else 0)
    return positions, _rotations(yaw, pitch)


def _rotations(yaw: Array, pitch: Array) -> Array:
    """Return world-to-camera rotations [T, 3, 3] of level cameras; yaw 0 looks along +y and grows to the left."""
    zero = np.zeros_like(yaw)
    right = np.stack([np.cos(yaw), np.sin(yaw), zero], -1)
    forward = np.stack([-np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)], -1)
    return np.stack([right, np.cross(forward, right), forward], -2)
