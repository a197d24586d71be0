from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from diorama.errors import InputError
from diorama.geometry.cameras import Cameras
from diorama.geometry.trajectory import align, compare_trajectories


def turn(axis: int, angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def orbit(count: int = 12) -> Cameras:
    matrices = np.tile(np.eye(4), (count, 1, 1))
    for i, angle in enumerate(np.linspace(0, 1.5, count)):
        matrices[i, :3, :3] = turn(1, angle)
        matrices[i, :3, 3] = [0.1 * i, 0, 4]
    intrinsics = np.tile(np.array([[300.0, 0, 128], [0, 300, 128], [0, 0, 1]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=256, height=256)


def test_alignment_finds_the_similarity() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    rotation, translation, scale = turn(0, 1.0) @ turn(2, 2.0), np.array([3.0, -1, 2]), 0.3
    found = align(points, scale * points @ rotation.T + translation)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation, translation, atol=1e-9)
    assert found.scale == pytest.approx(scale)
    np.testing.assert_allclose(found.apply(points), scale * points @ rotation.T + translation)


def test_a_mirrored_path_is_not_turned_inside_out() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    found = align(points, points * [1, 1, -1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_the_same_path_in_another_world_has_no_error() -> None:
    true = orbit()
    result = compare_trajectories(true.moved(turn(0, 1.2), np.array([5.0, 1, 2]), 7.0), true)
    assert result.ate < 1e-9
    assert result.rpe_translation < 1e-9
    assert result.rpe_rotation < 1e-7
    assert result.focal == pytest.approx(0)
    assert result.similarity.scale == pytest.approx(1 / 7)


def test_errors_are_shares_of_the_extent() -> None:
    true = orbit()
    rng = np.random.default_rng(0)
    moved = true.world_to_camera.copy()
    noise = rng.normal(size=(12, 3)) * 0.01
    moved[:, :3, 3] += noise
    result = compare_trajectories(replace(true, world_to_camera=moved), true)
    assert result.extent == pytest.approx(max(np.linalg.norm(a - b) for a in true.centers for b in true.centers))
    assert 0.3 * 0.01 < result.ate * result.extent < 0.02
    assert result.rpe_translation * result.extent == pytest.approx(math.sqrt(6) * 0.01, rel=0.4)


def test_a_wrong_turn_and_focal_length_show() -> None:
    true = orbit()
    moved = true.world_to_camera.copy()
    for i in range(1, 12, 2):
        moved[i, :3] = turn(2, 0.02) @ moved[i, :3]
    intrinsics = true.intrinsics.copy()
    intrinsics[:, 0, 0] *= 1.1
    result = compare_trajectories(replace(true, world_to_camera=moved, intrinsics=intrinsics), true)
    assert result.rpe_rotation == pytest.approx(0.02, rel=1e-3)
    assert result.focal == pytest.approx(0.1)


def test_paths_without_extent_are_refused() -> None:
    true = orbit()
    still = replace(true, world_to_camera=np.tile(true.world_to_camera[:1], (12, 1, 1)))
    with pytest.raises(InputError, match="one place"):
        compare_trajectories(still, true)
    with pytest.raises(InputError, match="one place"):
        compare_trajectories(true, still)
    with pytest.raises(InputError, match="at least 3"):
        compare_trajectories(true.select([0, 1]), true.select([0, 1]))
