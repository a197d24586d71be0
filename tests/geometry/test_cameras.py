from __future__ import annotations

import numpy as np
import pytest

from diorama.errors import InputError
from diorama.geometry.cameras import Cameras, Capture, project


def rotations(count: int, seed: int = 0) -> np.ndarray:
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(count, 3, 3)))
    return np.asarray(turned * np.linalg.det(turned)[:, None, None])


def make_cameras(count: int = 9, seed: int = 0) -> Cameras:
    rng = np.random.default_rng(seed)
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3] = rotations(count, seed)
    matrices[:, :3, 3] = rng.normal(size=(count, 3))
    intrinsics = np.tile(np.array([[50.0, 0, 32], [0, 55, 24], [0, 0, 1]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=64, height=48)


def make_capture(count: int = 9) -> Capture:
    rng = np.random.default_rng(1)
    return Capture(
        frames=rng.integers(0, 256, (count, 48, 64, 3), dtype=np.uint8),
        cameras=make_cameras(count),
        points=rng.normal(size=(20, 3)) * 3 + 5,
        colors=rng.integers(0, 256, (20, 3), dtype=np.uint8),
        masks=rng.random((count, 48, 64)) > 0.5,
    )


def test_centers_are_the_camera_origins() -> None:
    cameras = make_cameras()
    for matrix, center in zip(cameras.world_to_camera, cameras.centers, strict=True):
        np.testing.assert_allclose(matrix @ [*center, 1], [0, 0, 0, 1], atol=1e-12)


def test_scaling_keeps_the_field_of_view() -> None:
    cameras = make_cameras()
    points = np.random.default_rng(0).normal(size=(30, 3)) * 4
    half = cameras.scaled(0.4)
    assert (half.width, half.height) == (26, 19)
    before, after = project(points, cameras)[0], project(points, half)[0]
    np.testing.assert_allclose(before / [64, 48], after / [26, 19])
    with pytest.raises(InputError, match="at least 1 pixel"):
        cameras.scaled(0.001)


def test_a_moved_world_looks_the_same() -> None:
    cameras = make_cameras()
    points = np.random.default_rng(0).normal(size=(30, 3)) * 4
    rotation, translation, scale = rotations(1, 7)[0], np.array([1.0, -2.0, 3.0]), 2.5
    moved = cameras.moved(rotation, translation, scale)
    pixels, depth = project(points, cameras)
    again, deeper = project(scale * points @ rotation.T + translation, moved)
    np.testing.assert_allclose(again, pixels, rtol=1e-6)
    np.testing.assert_allclose(deeper, scale * depth)
    np.testing.assert_allclose(moved.centers, scale * cameras.centers @ rotation.T + translation)


def test_selection_by_number_and_by_truth() -> None:
    capture = make_capture()
    chosen = capture.select(capture.held_out)
    numbers = np.flatnonzero(capture.held_out)
    assert len(chosen.cameras) == len(numbers)
    np.testing.assert_array_equal(chosen.frames, capture.frames[numbers])
    np.testing.assert_array_equal(chosen.cameras.centers, capture.cameras.select(numbers).centers)
    assert chosen.masks is not None
    assert capture.masks is not None
    np.testing.assert_array_equal(chosen.masks, capture.masks[numbers])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 48, 60])
def test_every_eighth_frame_is_held_out_and_never_an_end(count: int) -> None:
    held = make_capture(count).held_out
    assert held.shape == (count,)
    assert not held[0]
    assert not held[-1]
    assert held.sum() >= (count >= 3)
    assert held.sum() <= -(-count // 8)
    assert set(np.diff(np.flatnonzero(held))) <= {8}


def test_a_normalised_capture_is_centred_and_looks_the_same() -> None:
    capture = make_capture()
    normal = capture.normalised()
    np.testing.assert_allclose(np.median(normal.points, axis=0), 0, atol=1e-12)
    assert np.linalg.norm(normal.cameras.centers, axis=1).mean() == pytest.approx(1)
    np.testing.assert_allclose(project(normal.points, normal.cameras)[0], project(capture.points, capture.cameras)[0], rtol=1e-6)


def test_wrong_shapes_are_refused() -> None:
    cameras = make_cameras(3)
    with pytest.raises(InputError, match="one length"):
        Cameras(intrinsics=cameras.intrinsics[:2], world_to_camera=cameras.world_to_camera, width=64, height=48)
    with pytest.raises(InputError, match="at least 1"):
        Cameras(intrinsics=cameras.intrinsics, world_to_camera=cameras.world_to_camera, width=0, height=48)
    frames, points, colors = np.zeros((3, 48, 64, 3), np.uint8), np.zeros((2, 3)), np.zeros((2, 3), np.uint8)
    with pytest.raises(InputError, match="cameras' size"):
        Capture(frames=frames[:, 1:], cameras=cameras, points=points, colors=colors)
    with pytest.raises(InputError, match="points and colors"):
        Capture(frames=frames, cameras=cameras, points=points, colors=colors[:1])
    with pytest.raises(InputError, match="masks"):
        Capture(frames=frames, cameras=cameras, points=points, colors=colors, masks=np.ones((3, 48, 63), np.bool_))
