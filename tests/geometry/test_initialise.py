from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from diorama.geometry.cameras import Cameras, Capture, project
from diorama.geometry.initialise import distances, initialise
from diorama.geometry.rasterise_plain import SH_C0


def capture(points: np.ndarray, size: int = 64) -> Capture:
    """Five cameras side by side that look along z; frames are red on the left and blue on the right."""
    matrices = np.tile(np.eye(4), (5, 1, 1))
    matrices[:, 0, 3] = np.linspace(-0.2, 0.2, 5)
    intrinsics = np.tile(np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]]), (5, 1, 1))
    frames = np.zeros((5, size, size, 3), np.uint8)
    frames[:, :, : size // 2, 0] = 255
    frames[:, :, size // 2 :, 2] = 255
    colors = np.full(points.shape, 51, np.uint8)
    return Capture(
        frames=frames, cameras=Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=size, height=size), points=points, colors=colors
    )


def left_half(count: int = 400) -> np.ndarray:
    chance = np.random.default_rng(0)
    return np.stack([chance.uniform(-1, -0.2, count), chance.uniform(-0.95, 0.95, count), chance.uniform(1.9, 2.1, count)], -1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_points_become_gaussians_of_their_colour_and_of_the_size_of_their_gaps() -> None:
    scene = capture(left_half())
    cloud = initialise(scene, max_points=1000, guesses=0, generator=generator())
    assert np.allclose(cloud.means.numpy(), scene.points, atol=1e-6)
    assert torch.allclose(0.5 + SH_C0 * cloud.sh[:, 0], torch.tensor(0.2))
    assert float(cloud.sh[:, 1:].abs().max()) == 0
    distance = torch.cdist(cloud.means, cloud.means).sort().values
    scales = cloud.log_scales.exp()
    assert bool((scales[:, 0] >= distance[:, 1] * 0.57).all())
    assert bool((scales[:, 0] <= distance[:, 3] * 1.001).all())


def test_too_many_points_are_drawn_from() -> None:
    cloud = initialise(capture(left_half()), max_points=50, guesses=0, generator=generator())
    assert len(cloud) == 50
    assert len(torch.unique(cloud.means, dim=0)) == 50


def test_guesses_are_where_no_point_is_seen_beside_points_and_behind_them() -> None:
    scene = capture(left_half())
    near, far = distances(scene)
    cloud = initialise(scene, max_points=1000, guesses=300, generator=generator())
    guesses = cloud.means[400:].double().numpy()
    assert len(guesses) == 300
    assert guesses[:, 2].min() >= 1.9 - 1e-6
    assert near * 2 < guesses[:, 2].max() <= far + 1e-4
    # the points are 1.9 to 2.1 away and half of the guesses with them; a quarter is the sky
    assert 0.4 < (guesses[:, 2] < 2.1).mean() < 0.65
    assert 0.15 < (guesses[:, 2] > 0.999 * far).mean() < 0.35
    pixels, _ = project(guesses, scene.cameras)
    # the points cover the left part of every frame, so a guess is on the right of at least one
    assert (pixels[..., 0].max(0) > 28).all()
    blue = 0.5 + SH_C0 * cloud.sh[400:, 0]
    assert float((blue[:, 2] > 0.9).float().mean()) > 0.9


def test_guesses_keep_away_from_what_a_mask_leaves_out() -> None:
    scene = capture(np.zeros((0, 3)))
    masks = np.ones((5, 64, 64), np.bool_)
    masks[:, 5, :40] = False
    cloud = initialise(replace(scene, masks=masks), max_points=100, guesses=200, generator=generator())
    pixels, _ = project(cloud.means.double().numpy(), scene.cameras)
    allowed = (pixels[..., 1] >= 16 - 1e-3) | (pixels[..., 0] >= 48 - 1e-3)
    assert allowed.any(0).all()
    assert len(cloud) == 200


def test_without_points_guesses_fill_the_frames() -> None:
    scene = capture(np.zeros((0, 3)))
    near, far = distances(scene)
    assert 0 < near < far
    cloud = initialise(scene, max_points=100, guesses=200, generator=generator())
    assert len(cloud) == 200
    assert bool(cloud.means.isfinite().all())
    red = 0.5 + SH_C0 * cloud.sh[:, 0, 0]
    assert 0.3 < float((red > 0.9).float().mean()) < 0.7


def test_one_seed_is_one_cloud() -> None:
    clouds = [initialise(capture(left_half()), max_points=100, guesses=50, generator=generator()) for _ in range(2)]
    for name, tensor in clouds[0].tensors().items():
        assert torch.equal(tensor, clouds[1].tensors()[name])


def test_points_in_one_place_have_a_size() -> None:
    cloud = initialise(capture(np.tile([[0.0, 0.0, 2.0]], (20, 1))), max_points=100, guesses=0, generator=generator())
    assert bool(cloud.log_scales.isfinite().all())
