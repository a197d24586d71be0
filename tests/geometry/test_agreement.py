"""A still textured plane seen by known cameras agrees with them everywhere; what moves on its own, or is lost, does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diorama.geometry.agreement import GRID, agreement, follow, residual, roughness, shrunk, triangulate, windows
from diorama.geometry.cameras import Cameras, project
from diorama.geometry.controls import bent, outlier, repeated

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

SIDE, COUNT, FOCAL = 128, 14, 128.0


def path(count: int = COUNT) -> Cameras:
    """Cameras that travel to the right and forward in front of the plane z = 4."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, 0, 3] = -np.linspace(-0.5, 0.5, count)
    matrices[:, 2, 3] = -np.linspace(0.0, 0.4, count)
    matrices[:, 1, 3] = 0.1 * np.sin(np.linspace(0, 3, count))
    intrinsics = np.tile(np.array([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=SIDE, height=SIDE)


def texture() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(256, 256, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(128 + 260 * smooth, 0, 255).astype(np.uint8)


def seen(cameras: Cameras) -> np.ndarray:
    """The plane z = 4, 4 units on a side, as the cameras see it."""
    frames = []
    for intrinsics, matrix in zip(cameras.intrinsics, cameras.world_to_camera, strict=True):
        plane = intrinsics @ np.stack([matrix[:3, 0], matrix[:3, 1], 4 * matrix[:3, 2] + matrix[:3, 3]], 1)
        pixel = np.array([[4 / 256, 0, -2], [0, 4 / 256, -2], [0, 0, 1]])
        half = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        warp = half @ plane @ pixel @ np.linalg.inv(half)
        frames.append(cv2.warpPerspective(texture(), warp, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))
    return np.stack(frames)


ALL = np.ones(COUNT, dtype=bool)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return seen(path())


def test_points_come_back_from_their_pictures() -> None:
    cameras = path()
    points = np.random.default_rng(1).normal(size=(30, 3)) * 0.5 + [0, 0, 4]
    places, _ = project(points, cameras)
    places[:4, 3] = np.nan
    assert np.allclose(triangulate(places, cameras), points, atol=1e-5)
    assert residual(places, cameras).max() < 1e-4
    places[5, 7] += 8
    assert residual(places, cameras)[7] > 1
    assert residual(places, cameras)[6] < 1e-4


def test_what_would_be_behind_the_cameras_agrees_with_none() -> None:
    cameras = path()
    places, _ = project(np.array([[0.0, 0.0, 4.0]]), cameras)
    assert math.isinf(residual(SIDE - places, cameras)[0])


def test_windows_span_a_journey() -> None:
    slow, fast = list(windows([0.5] * 29)), list(windows([30.0] * 9))
    assert {last - first for first, last in slow} == {12, 6}  # the last ones end with the clip
    assert fast == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert next(windows([5.0] * 29)) == (0, 5)
    assert list(windows([9.0] * 2)) == []


def test_roughness_is_the_noise_on_a_smooth_path() -> None:
    random = np.random.default_rng(2)
    time = np.linspace(0, 1, 10)
    smooth = np.stack([5 + 3 * time, 2 + time**2], -1)[:, None].repeat(400, 1)
    assert roughness(smooth).max() < 1e-6
    noisy = smooth + random.normal(0, 0.5, smooth.shape)
    assert float(np.sqrt((roughness(noisy) ** 2).mean())) == pytest.approx(0.5 * math.sqrt(2), rel=0.1)
    smooth[6:, 0] = np.nan
    assert roughness(smooth)[0] < 1e-6


def test_a_still_world_agrees_with_its_cameras(frames: np.ndarray) -> None:
    told = agreement(frames, path(), ALL)
    assert len(told.ties) == COUNT - 1
    assert len(told.regions) == GRID * GRID
    assert min(told.ties) > 0.8
    assert np.nanmin(told.regions) > 0.7
    assert told.moving < 0.1


def test_a_corner_is_followed_to_where_the_camera_puts_it(frames: np.ndarray) -> None:
    places = follow(shrunk(frames), 0, 6)
    kept = np.isfinite(places[-1, :, 0])
    start = places[0, kept]
    ahead = np.concatenate([(start - SIDE / 2) / FOCAL, np.ones((len(start), 1))], 1)
    depth = 4.0
    matrix = path().world_to_camera[0]
    points = (ahead * depth - matrix[:3, 3]) @ matrix[:3, :3]
    there = project(points, path().select([5]))[0][0]
    assert float(np.median(np.linalg.norm(there - places[-1, kept], axis=1))) < 0.2


def test_wrong_cameras_agree_with_little(frames: np.ndarray) -> None:
    wrong = path().select(np.arange(COUNT)[::-1])
    told = agreement(frames, wrong, ALL)
    assert told.moving > 0.8
    assert np.nanmax(told.regions) < 0.5


def test_a_patch_that_moves_on_its_own_is_found(frames: np.ndarray) -> None:
    made = frames.copy()
    made[:, 32:96, 32:96] = frames[::-1, 32:96, 32:96]
    regions = np.array(agreement(made, path(), ALL).regions).reshape(GRID, GRID)
    border = np.ones((GRID, GRID), dtype=bool)
    border[1:3, 1:3] = False
    assert regions[1:3, 1:3].max() < 0.4
    assert np.nanmedian(regions[border]) > 0.7


def test_ties_show_where_the_chain_breaks(frames: np.ndarray) -> None:
    other = np.random.default_rng(3).integers(0, 255, frames.shape).astype(np.uint8)
    ties = np.array(agreement(outlier(frames, other), path(), ALL).ties)
    middle = COUNT // 2
    assert ties[[middle - 1, middle]].max() < 0.2
    assert np.delete(ties, [middle - 1, middle]).min() > 0.8


def test_a_world_that_breathes_moves(frames: np.ndarray) -> None:
    assert agreement(bent(frames), path(), ALL).moving > 0.6


def test_frames_without_cameras_are_left_out(frames: np.ndarray) -> None:
    found = ALL.copy()
    found[[3, 8]] = False
    assert agreement(frames, path().select(found), found).moving < 0.1
    nothing = agreement(frames, None, np.zeros(COUNT, dtype=bool))
    assert math.isnan(nothing.moving)
    assert min(nothing.ties) > 0.8


def test_plain_frames_say_nothing() -> None:
    told = agreement(np.full((6, 40, 40, 3), 90, np.uint8), None, np.zeros(6, dtype=bool))
    assert told.ties == (0.0,) * 5
    assert all(math.isnan(region) for region in told.regions)


def test_large_frames_are_shrunk_and_their_cameras_with_them() -> None:
    frames = seen(path())
    large = np.stack([cv2.resize(frame, (512, 512), interpolation=cv2.INTER_CUBIC) for frame in frames])
    assert shrunk(large).shape == (COUNT, 256, 256)
    told = agreement(large, path().scaled(4), ALL)
    assert told.moving < 0.1
    assert agreement(repeated(frames), path(), ALL).moving > 0.5
