from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from diorama.geometry.cameras import Cameras, project
from diorama.geometry.epipolar import measure_epipolar
from diorama.geometry.gate import Gate, gate
from diorama.geometry.matches import Features, normal_scale


def features(shifts: np.ndarray, yaws: np.ndarray, num_points: int = 400, movers: float = 0.0) -> list[Features]:
    """Return features of a cloud seen by cameras at ``shifts`` [T, 3] turned by ``yaws`` [T]; a share of the points moves by itself."""
    rng = np.random.default_rng(0)
    count = len(shifts)
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, 0, 0] = matrices[:, 2, 2] = np.cos(yaws)
    matrices[:, 0, 2], matrices[:, 2, 0] = -np.sin(yaws), np.sin(yaws)
    matrices[:, :3, 3] = -np.einsum("tij,tj->ti", matrices[:, :3, :3], shifts)
    intrinsics = np.tile(np.array([[300.0, 0, 128], [0, 300, 128], [0, 0, 1]]), (count, 1, 1))
    cameras = Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=256, height=256)
    points = rng.uniform([-2, -2, 3], [2, 2, 9], (num_points, 3))
    descriptors = rng.integers(0, 180, (num_points, 128)).astype(np.float32)
    out = []
    for t in range(count):
        moved = points.copy()
        moved[: int(movers * num_points)] += np.array([0.4, 0.1, 0]) * math.sin(t)
        pixels, depth = (v[0] for v in project(moved, cameras.select([t])))
        seen = (depth > 0) & (pixels > 0).all(1) & (pixels < 256).all(1)
        shaken = pixels[seen] + rng.normal(0, 0.15, (int(seen.sum()), 2))
        out.append(Features(points=shaken * normal_scale(256, 256), descriptors=descriptors[seen]))
    return out


def judge(found: list[Features]) -> Gate:
    return gate(measure_epipolar(found, (256, 256), pairs=3))


def line(step: tuple[float, float, float], count: int = 14) -> np.ndarray:
    return np.outer(np.arange(count), step)


@pytest.mark.parametrize("step", [(0.06, 0, 0), (0, 0.05, 0), (0, 0, 0.1)])
@pytest.mark.parametrize("turn", [0.0, 0.02])
def test_a_moving_camera_is_measurable(step: tuple[float, float, float], turn: float) -> None:
    result = judge(features(line(step), turn * np.arange(14)))
    assert result.measurable
    assert result.cause == ""
    assert result.parallax > 0.3


def test_a_moving_camera_is_measurable_beside_things_that_move() -> None:
    assert judge(features(line((0.06, 0, 0)), np.zeros(14), movers=0.2)).measurable


@pytest.mark.parametrize("movers", [0.0, 0.3])
def test_a_still_camera_is_not_measurable_and_says_so(movers: float) -> None:
    result = judge(features(np.zeros((14, 3)), np.zeros(14), movers=movers))
    assert not result.measurable
    assert "stands still" in result.cause


def test_a_turning_camera_is_not_measurable_and_says_so() -> None:
    result = judge(features(np.zeros((14, 3)), 0.02 * np.arange(14)))
    assert not result.measurable
    assert "parallax" in result.cause
    assert result.parallax < 0.05
    assert result.homography > 0.95


def test_black_frames_and_noise_are_not_measurable() -> None:
    empty = Features(points=np.zeros((0, 2)), descriptors=np.zeros((0, 128), np.float32))
    assert "nothing to follow" in judge([empty] * 5).cause
    rng = np.random.default_rng(0)
    noise = [Features(points=rng.random((300, 2)) * 640, descriptors=rng.integers(0, 180, (300, 128)).astype(np.float32)) for _ in range(6)]
    result = judge(noise)
    assert not result.measurable
    assert "no two frames" in result.cause


def test_chance_inliers_do_not_pass() -> None:
    found = features(line((0.06, 0, 0)), np.zeros(14))
    rng = np.random.default_rng(1)
    scattered = [replace(f, points=rng.permutation(f.points)) for f in found]
    assert not judge(scattered).measurable
