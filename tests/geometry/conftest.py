"""A small rigid world for tests that reconstruct: a textured corner of a room that a camera circles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from diorama.geometry.cameras import Cameras
from diorama.geometry.measure import MeasureConfig, Measured, Source, measure

WIDTH, HEIGHT, COUNT = 128, 96, 9
LIGHT = MeasureConfig(num_frames=COUNT, side=32, nerf_steps=2, splat_steps=2)


def ring(count: int = COUNT) -> Cameras:
    """Cameras on an arc that look at the corner (0, 0, 0), y down."""
    matrices = []
    for angle in np.linspace(0.45, 1.15, count):
        center = np.array([5 * math.cos(angle), -2.2 - 0.2 * math.sin(5 * angle), 5 * math.sin(angle)])
        forward = np.array([0.8, -0.6, 0.8]) - center
        forward /= np.linalg.norm(forward)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ center
        matrices.append(matrix)
    intrinsics = np.tile(np.array([[120.0, 0, WIDTH / 2], [0, 120.0, HEIGHT / 2], [0, 0, 1]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=np.stack(matrices), width=WIDTH, height=HEIGHT)


def _texture(seed: int) -> np.ndarray:
    """Speckles of several sizes, ``[512, 512, 3]``."""
    random = np.random.default_rng(seed)
    out = np.zeros((512, 512, 3))
    for cells, weight in ((16, 60.0), (64, 60.0), (128, 30.0)):
        out += np.kron(random.normal(size=(cells, cells, 3)), np.ones((512 // cells, 512 // cells, 1))) * weight
    return np.clip(out + 128, 0, 255)


def room(cameras: Cameras) -> np.ndarray:
    """Three walls that meet in a corner, as the cameras see them with four samples a pixel."""
    textures = [_texture(seed) for seed in range(3)]
    y, x = np.mgrid[: 2 * HEIGHT, : 2 * WIDTH]
    pixels = np.stack([(x + 0.5) / 2, (y + 0.5) / 2, np.ones_like(x, dtype=float)], -1)
    frames = []
    for intrinsics, matrix in zip(cameras.intrinsics, cameras.world_to_camera, strict=True):
        center = -matrix[:3, :3].T @ matrix[:3, 3]
        rays = pixels @ np.linalg.inv(intrinsics).T @ matrix[:3, :3]
        best = np.full(rays.shape[:2], np.inf)
        picture = np.full((*rays.shape[:2], 3), 128.0)
        for axis in range(3):
            with np.errstate(divide="ignore", invalid="ignore"):
                distance = -center[axis] / rays[..., axis]
            hit = (distance > 0) & (distance < best)
            places = center + rays * np.where(hit, distance, 0.0)[..., None]
            u, v = (places[..., other] for other in range(3) if other != axis)
            color = textures[axis][(v * 90).astype(int) % 512, (u * 90).astype(int) % 512]
            picture = np.where(hit[..., None], color, picture)
            best = np.where(hit, distance, best)
        frames.append(picture.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3)).round().astype(np.uint8))
    return np.stack(frames)


@pytest.fixture(scope="session")
def corner() -> Source:
    """The world as what can be measured, with its true cameras."""
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    return Source(name="corner", frames=room(ring()), fps=12.0, truth=ring())


@pytest.fixture(scope="session")
def light() -> MeasureConfig:
    """The least that runs through every stage."""
    return LIGHT


@pytest.fixture(scope="session")
def measured_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ``measured`` was measured."""
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="session")
def measured(corner: Source, measured_folder: Path) -> Measured:
    """The corner, measured."""
    return measure(corner, measured_folder, LIGHT)
