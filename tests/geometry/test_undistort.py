from __future__ import annotations

import numpy as np
import pytest

from diorama.errors import InputError
from diorama.geometry.cameras import project
from diorama.geometry.matches import Features, normal_scale
from diorama.geometry.sfm import Reconstruction
from diorama.geometry.undistort import capture_of, distorted, straighten, undistorted


def found(radial: float, count: int = 3) -> Reconstruction:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = -0.1 * np.arange(count)
    points = np.random.default_rng(0).uniform([-0.4, -0.3, 2], [0.4, 0.3, 3], (30, 3))
    bare = Reconstruction(
        num_frames=count + 1,
        width=96,
        height=72,
        registered=tuple(range(1, count + 1)),
        model_sizes=(count,),
        world_to_camera=poses,
        focal=90.0,
        radial=radial,
        points=points,
        tracks=np.full(30, count),
        errors=np.zeros(30),
    )
    pixels, _ = project(points, bare.cameras)
    return Reconstruction(
        **{
            **bare.__dict__,
            "seen_frames": np.repeat(np.arange(1, count + 1), 30),
            "seen_points": np.tile(np.arange(30), count),
            "seen_pixels": distorted(pixels.reshape(-1, 2), bare),
        }
    )


@pytest.mark.parametrize("radial", [-0.3, -0.05, 0.0, 0.1, 0.4])
def test_bending_and_straightening_undo_each_other(radial: float) -> None:
    model = found(radial)
    y, x = np.mgrid[0:73:8, 0:97:8].astype(float)
    places = np.stack([x, y], -1).reshape(-1, 2)
    np.testing.assert_allclose(undistorted(distorted(places, model), model), places, atol=1e-6)


@pytest.mark.parametrize("radial", [-0.3, 0.1, 0.4])
def test_no_pixel_of_an_undistorted_frame_comes_from_outside(radial: float) -> None:
    model = found(radial)
    corners = np.array([[0.0, 0], [96, 0], [0, 72], [96, 72], [48, 0], [0, 36]])
    sources = distorted(corners, model)
    assert (sources >= -1e-9).all()
    assert (sources <= [96 + 1e-9, 72 + 1e-9]).all()


def test_frames_come_out_straight_and_points_in_their_colours() -> None:
    model = found(0.2)
    y, x = np.mgrid[:72, :96] + 0.5
    places = np.stack([x, y], -1)
    straight = undistorted(places, model)
    # the frame shows at each pixel where a pinhole camera would have seen it
    frame = np.stack([straight[..., 0], straight[..., 1], np.full((72, 96), 50.0)], -1).clip(0, 255).round().astype(np.uint8)
    frames = np.tile(frame, (4, 1, 1, 1))
    masks = np.ones((4, 72, 96), np.bool_)
    masks[2, :, :30] = False
    capture = capture_of(model, frames, masks)
    assert capture.frames.shape == (3, 72, 96, 3)
    error = capture.frames[0, 4:-4, 4:-4, :2].astype(float) - places[4:-4, 4:-4]
    assert np.abs(error).max() < 1.1
    pixels, _ = project(model.points, model.cameras)
    np.testing.assert_allclose(capture.colors[:, :2], pixels.mean(0), atol=1.5)
    assert capture.masks is not None
    edge = undistorted(np.array([[30.0, 36.0]]), model)[0, 0]
    assert abs(int((~capture.masks[1, 36]).sum()) - edge) <= 1
    assert capture.masks[[0, 2]].all()


def test_straight_frames_are_not_touched() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 72, 96, 3), dtype=np.uint8)
    np.testing.assert_array_equal(capture_of(found(0.0), frames).frames, frames[1:])


def test_features_move_with_the_frames() -> None:
    model = found(0.3)
    scale = normal_scale(96, 72)
    points = np.random.default_rng(0).uniform(0, 70, (20, 2))
    bent = Features(points=distorted(points, model) * scale, descriptors=np.zeros((20, 128), np.float32))
    straight = straighten([bent] * 4, model)
    assert len(straight) == 3
    np.testing.assert_allclose(straight[0].points, points * scale, atol=1e-5)


def test_a_failed_reconstruction_has_no_capture() -> None:
    failed = Reconstruction(num_frames=4, width=96, height=72, failure="nothing matched")
    with pytest.raises(InputError, match="nothing matched"):
        capture_of(failed, np.zeros((4, 72, 96, 3), np.uint8))
