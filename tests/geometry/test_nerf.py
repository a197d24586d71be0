from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from diorama.errors import InputError
from diorama.geometry.cameras import Cameras, Capture
from diorama.geometry.encoding import EncodingConfig
from diorama.geometry.field import FieldConfig
from diorama.geometry.nerf import NerfConfig, NerfResult, learn

SIZE, COUNT = 32, 20
FIELD = FieldConfig(encoding=EncodingConfig(levels=5, coarsest=8, finest=128, log2_rows=14), hidden_size=32)
CONFIG = NerfConfig(field=FIELD, steps=120, seconds=1000, rays=256, intervals=16, device="cpu")
SHORT = replace(CONFIG, steps=4, rays=64)


@pytest.fixture(scope="module")
def scene() -> Capture:
    """A ball above a patterned floor under a sky, on a quarter of an orbit, and points on both."""
    angles = np.linspace(0, np.pi / 2, COUNT)
    positions = np.stack([4 * np.sin(angles), -4 * np.cos(angles), np.full(COUNT, 2.0)], -1)
    matrices = np.tile(np.eye(4), (COUNT, 1, 1))
    intrinsics = np.array([[1.2 * SIZE, 0, SIZE / 2], [0, 1.2 * SIZE, SIZE / 2], [0, 0, 1]])
    frames, points = np.zeros((COUNT, SIZE, SIZE, 3), np.uint8), []
    x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    for t, position in enumerate(positions):
        forward = np.array([0, 0, 0.5]) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        matrices[t, :3, :3] = np.stack([right, np.cross(forward, right), forward])
        matrices[t, :3, 3] = -matrices[t, :3, :3] @ position
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics).T @ matrices[t, :3, :3]
        colors, depths = trace(position, rays)
        frames[t] = np.round(255 * colors)
        points.append((position + depths[..., None] * rays)[np.isfinite(depths)][::13])
    cloud = np.concatenate(points)
    cloud = cloud[np.linalg.norm(cloud, axis=1) < 6]
    cameras = Cameras(intrinsics=np.tile(intrinsics, (COUNT, 1, 1)), world_to_camera=matrices, width=SIZE, height=SIZE)
    return Capture(frames=frames, cameras=cameras, points=cloud, colors=np.zeros(cloud.shape, np.uint8))


def trace(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colours and depths: a ball of radius 1 about (0, 0, 1) coloured by its normal, a floor of smooth squares, a sky."""
    sky = np.stack([np.full(rays.shape[:2], 0.4), np.full(rays.shape[:2], 0.6), np.full(rays.shape[:2], 0.9)], -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(rays[..., 2] < 0, -origin[2] / rays[..., 2], np.inf)
        place = origin + np.where(np.isfinite(floor), floor, 0)[..., None] * rays
        tiles = 0.5 + 0.4 * np.sin(2 * place[..., 0]) * np.sin(2 * place[..., 1]) * np.exp(-(place**2).sum(-1) / 30)
        offset = origin - np.array([0, 0, 1.0])
        a, b, c = (rays**2).sum(-1), rays @ offset, offset @ offset - 1
        root = b * b - a * c
        ball = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    normal = origin + np.where(np.isfinite(ball), ball, 0)[..., None] * rays - np.array([0, 0, 1.0])
    colors = np.where(np.isfinite(floor)[..., None], tiles[..., None] * [1.0, 0.7, 0.4], sky)
    colors = np.where(np.isfinite(ball)[..., None], 0.5 + 0.4 * normal, colors)
    return colors.clip(0, 1), np.minimum(ball, floor)


@pytest.fixture(scope="module")
def learned(scene: Capture) -> tuple[NerfResult, list[tuple[int, int]]]:
    heard: list[tuple[int, int]] = []
    return learn(scene, CONFIG, lambda done, total: heard.append((done, total))), heard


def test_frames_never_seen_are_shown(learned: tuple[NerfResult, list[tuple[int, int]]], scene: Capture) -> None:
    result, heard = learned
    assert result.views.held_out == (4, 12)
    assert result.views.mean_psnr > 23
    assert result.views.mean_ssim > 0.75
    assert result.views.steps == CONFIG.steps
    assert heard[-1] == (1000, 1000)
    assert heard == sorted(heard)
    rays = np.stack([*np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5), np.ones((SIZE, SIZE))], -1)
    rays = rays @ np.linalg.inv(scene.cameras.intrinsics[4]).T @ scene.cameras.world_to_camera[4, :3, :3]
    _, truth = trace(scene.cameras.centers[4], rays)
    close = truth < 8
    assert np.median(np.abs(result.depth[0] - truth)[close] / truth[close]) < 0.1


def test_shuffled_frames_are_shown_worse(learned: tuple[NerfResult, list[tuple[int, int]]], scene: Capture) -> None:
    order = np.random.default_rng(0).permutation(COUNT)
    shuffled = learn(replace(scene, frames=scene.frames[order]), CONFIG)
    assert shuffled.views.mean_psnr < learned[0].views.mean_psnr - 3


def test_what_masks_cover_changes_nothing(scene: Capture) -> None:
    masks = np.ones((COUNT, SIZE, SIZE), np.bool_)
    masks[:, 10:20, 5:15] = False
    spoiled = np.where(masks[..., None], scene.frames, 255 - scene.frames)
    clean, masked = (learn(replace(scene, frames=frames, masks=masks), SHORT) for frames in (scene.frames, spoiled))
    np.testing.assert_array_equal(clean.views.renders, masked.views.renders)
    assert clean.views.psnr == masked.views.psnr
    assert clean.views.ssim == pytest.approx(masked.views.ssim, abs=0.15)


def test_the_same_seed_gives_the_same_bytes(scene: Capture) -> None:
    one, two, other = (learn(scene, replace(SHORT, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.views.renders, two.views.renders)
    np.testing.assert_array_equal(one.depth, two.depth)
    assert (one.views.renders != other.views.renders).any()


def test_the_clock_ends_training_too(scene: Capture) -> None:
    result = learn(scene, replace(SHORT, steps=10**9, seconds=0.2))
    assert 1 <= result.views.steps < 10**6
    assert result.views.renders.shape == (2, SIZE, SIZE, 3)
    assert math.isfinite(result.views.mean_psnr)


def test_captures_without_points_are_learned_from_too(scene: Capture) -> None:
    result = learn(replace(scene, points=np.zeros((0, 3)), colors=np.zeros((0, 3), np.uint8)), SHORT)
    assert result.views.renders.dtype == np.uint8
    assert result.depth.shape == (2, SIZE, SIZE)


def test_two_frames_are_refused(scene: Capture) -> None:
    with pytest.raises(InputError, match="2 frames"):
        learn(scene.select([0, 1]), SHORT)


def test_a_capture_that_masks_cover_whole_is_refused(scene: Capture) -> None:
    with pytest.raises(InputError, match="mask"):
        learn(replace(scene, masks=np.zeros((COUNT, SIZE, SIZE), np.bool_)), SHORT)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"seconds": 0.0}, {"rays": 0}, {"intervals": 1}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="allowed are at least 1 step"):
        NerfConfig(**wrong)  # type: ignore[arg-type]
