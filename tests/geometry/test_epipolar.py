from __future__ import annotations

import numpy as np
import pytest

from diorama.geometry.cameras import Cameras, project
from diorama.geometry.epipolar import epipolar_distances, fit_pair, fundamental_from_poses, measure_epipolar, sampson, tsed
from diorama.geometry.matches import Features, Matches, normal_scale


def travelling(count: int = 12, step: float = 0.05) -> Cameras:
    """Return cameras that go sideways and turn a little."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    angles = np.linspace(0, 0.1, count)
    matrices[:, 0, 0] = matrices[:, 2, 2] = np.cos(angles)
    matrices[:, 0, 2], matrices[:, 2, 0] = -np.sin(angles), np.sin(angles)
    matrices[:, 0, 3] = -step * np.arange(count)
    intrinsics = np.tile(np.array([[300.0, 0, 128], [0, 300, 128], [0, 0, 1]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=256, height=256)


def scene_features(cameras: Cameras, num_points: int = 400, noise: float = 0.1, seed: int = 0) -> list[Features]:
    """Return the features of a cloud of points, each with a descriptor of its own, in pixels of the normal size."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2.0, -2.0, 3.0], [2.0, 2.0, 8.0], (num_points, 3))
    descriptors = rng.integers(0, 180, (num_points, 128)).astype(np.float32)
    pixels, depth = project(points, cameras)
    scale = normal_scale(cameras.width, cameras.height)
    out = []
    for view, far in zip(pixels, depth, strict=True):
        inside = (far > 0) & (view > 0).all(1) & (view < [cameras.width, cameras.height]).all(1)
        shaken = view[inside] + rng.normal(0, noise, (int(inside.sum()), 2))
        out.append(Features(points=shaken * scale, descriptors=descriptors[inside]))
    return out


def true_matches(noise: float = 0.0) -> tuple[Matches, np.ndarray]:
    cameras = travelling()
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 3], [1, 1, 8], (200, 3))
    pixels, _ = project(points, cameras)
    found = Matches(first=pixels[0], second=pixels[6] + rng.normal(0, 1, (200, 2)) * noise, ratio=np.zeros(200))
    return found, fundamental_from_poses(cameras, 0, 6)


def test_true_poses_leave_no_epipolar_error() -> None:
    found, fundamental = true_matches()
    assert max(error.max() for error in epipolar_distances(found, fundamental)) < 1e-9
    assert sampson(found, fundamental).max() < 1e-18


def test_distances_to_lines_and_sampson_follow_their_definitions() -> None:
    found, fundamental = true_matches(noise=1.0)
    x, y = np.append(found.first[5], 1), np.append(found.second[5], 1)
    line, back = fundamental @ x, fundamental.T @ y
    forward, backward = epipolar_distances(found, fundamental)
    assert forward[5] == pytest.approx(abs(y @ line) / np.hypot(*line[:2]))
    assert backward[5] == pytest.approx(abs(x @ back) / np.hypot(*back[:2]))
    assert sampson(found, fundamental)[5] == pytest.approx((y @ fundamental @ x) ** 2 / (line[:2] @ line[:2] + back[:2] @ back[:2]))


def test_the_curve_of_a_rigid_scene_keeps_its_matches() -> None:
    cameras = travelling()
    result = measure_epipolar(scene_features(cameras), (256, 256), distances=(1, 5, 10, 30), pairs=3)
    assert [point.distance for point in result.curve] == [1, 5, 10]
    assert [point.num_pairs for point in result.curve] == [3, 3, 2]
    assert len(result.pairs) == 8
    assert result.features > 100
    for point in result.curve:
        assert point.keep_ratio > 0.95
        assert point.mean_error <= point.rmse < 1.5
    far = [fit for fit in result.pairs if fit.second - fit.first == 10]
    assert all(fit.turning < 0.6 and fit.motion > 20 and fit.still < 0.05 for fit in far)


def test_shaken_points_err_more() -> None:
    cameras = travelling(6)
    calm, shaken = (measure_epipolar(scene_features(cameras, noise=noise), (256, 256), distances=(5,)) for noise in (0.05, 0.4))
    assert calm.curve[0].rmse < shaken.curve[0].rmse
    assert calm.curve[0].sampson < shaken.curve[0].sampson


def test_unrelated_frames_keep_few_matches() -> None:
    cameras = travelling(2)
    a = scene_features(cameras, seed=0)[0]
    other = scene_features(cameras, seed=1)[1]
    swapped = Features(points=other.points[: len(a)], descriptors=a.descriptors[: len(other)])
    result = measure_epipolar([a, swapped], (256, 256))
    assert result.pairs[0].num_matches > 100
    assert result.curve[0].keep_ratio < 0.3


def test_too_few_matches_are_no_fit() -> None:
    nothing = fit_pair(Matches(first=np.zeros((4, 2)), second=np.zeros((4, 2)), ratio=np.zeros(4)), 0, 1, (256, 256))
    assert nothing.num_inliers == 0
    assert nothing.keep_ratio == 0
    assert np.isnan(nothing.rmse)
    assert nothing.still == 1.0


def test_tsed_tells_right_poses_from_wrong_ones() -> None:
    cameras = travelling(step=0.2)
    features = scene_features(cameras)
    right = tsed(features, cameras)
    assert right.consistent == 1.0
    assert right.num_pairs == 11
    assert right.median < 0.5
    bent = cameras.world_to_camera.copy()
    bent[6:, 1, 3] += 0.3
    wrong = tsed(features, Cameras(intrinsics=cameras.intrinsics, world_to_camera=bent, width=256, height=256))
    assert wrong.consistent == pytest.approx(10 / 11)
    assert tsed(features[:1], cameras.select([0])).num_pairs == 0
