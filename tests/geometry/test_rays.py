from __future__ import annotations

import numpy as np
import pytest
import torch

from diorama.geometry.cameras import Cameras, Capture, project
from diorama.geometry.rays import Pixels, Space, camera_rays
from diorama.runtime import generator

SPACE = Space(center=(0.2, -0.1, 0.4), radius=2.0, near=0.5, knee=6.0)


def orbit(count: int, size: int = 32) -> Cameras:
    """Cameras on a quarter circle of radius 4 about the origin, looking at it from a little above."""
    angles = np.linspace(0, np.pi / 2, count)
    positions = np.stack([4 * np.sin(angles), -np.ones(count), -4 * np.cos(angles)], -1)
    matrices = np.tile(np.eye(4), (count, 1, 1))
    for matrix, position in zip(matrices, positions, strict=True):
        forward = -position / np.linalg.norm(position)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        matrix[:3, 3] = -matrix[:3, :3] @ position
    intrinsics = np.tile([[1.2 * size, 0, size / 2], [0, 1.2 * size, size / 2], [0, 0, 1]], (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=size, height=size)


def capture(cameras: Cameras, points: np.ndarray, masks: np.ndarray | None = None) -> Capture:
    count, height, width = len(cameras), cameras.height, cameras.width
    frames = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return Capture(frames=frames, cameras=cameras, points=points, colors=np.zeros(points.shape, np.uint8), masks=masks)


def test_a_ray_passes_through_its_own_pixel_at_every_depth() -> None:
    cameras = orbit(5)
    frames, rows, columns = torch.tensor([0, 2, 4]), torch.tensor([0, 7, 31]), torch.tensor([31, 12, 3])
    rays = camera_rays(cameras, frames, rows, columns)
    for depth in (0.5, 3.0, 40.0):
        points = (rays.origins + depth * rays.directions).double().numpy()
        pixels, depths = project(points, cameras)
        chosen = frames.numpy(), np.arange(3)
        np.testing.assert_allclose(depths[chosen], depth, rtol=1e-5)
        np.testing.assert_allclose(pixels[chosen], np.stack([columns + 0.5, rows + 0.5], -1), atol=1e-3)


def test_depth_rises_from_near_and_is_even_up_to_the_knee() -> None:
    s = torch.linspace(0, 0.999, 1000)
    depth = SPACE.depth(s)
    assert depth[0] == pytest.approx(0.5)
    assert float(SPACE.depth(torch.tensor(0.5))) == pytest.approx(6.0)
    assert bool((depth[1:] > depth[:-1]).all())
    even = depth[s < 0.5]
    torch.testing.assert_close(even[1:] - even[:-1], torch.full((len(even) - 1,), float(even[1] - even[0])), rtol=1e-3, atol=1e-4)
    assert bool(torch.isfinite(SPACE.depth(torch.ones(1))).all())


def test_contraction_keeps_the_middle_and_leads_to_the_horizon() -> None:
    chance = generator(0)
    center = torch.tensor(SPACE.center)
    inside = center + SPACE.radius * (2 * torch.rand(100, 3, generator=chance) - 1)
    torch.testing.assert_close(SPACE.contract(inside), 0.5 + (inside - center) / (4 * SPACE.radius))
    directions = torch.randn(100, 3, generator=chance)
    far = SPACE.contract(center + 1e6 * directions)
    torch.testing.assert_close(far, SPACE.horizon(directions), atol=1e-4, rtol=0)
    distances = torch.linspace(0.1, 300, 500)
    path = (SPACE.contract(center + distances[:, None] * directions[0]) - 0.5).abs().amax(-1)
    assert bool((path[1:] > path[:-1]).all())
    assert float(path.max()) < 0.5


def test_space_follows_the_points_and_their_scale() -> None:
    cameras = orbit(8)
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (500, 3))
    space = Space.of(capture(cameras, points))
    assert np.linalg.norm(space.center) < 0.15
    assert 0.5 < space.radius < 0.75
    assert space.near < 3.0 < space.knee < 6.0
    larger = Space.of(capture(cameras.moved(np.eye(3), np.zeros(3), 10.0), 10 * points))
    assert larger.radius == pytest.approx(10 * space.radius)
    assert larger.near == pytest.approx(10 * space.near)
    assert larger.knee == pytest.approx(10 * space.knee)


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.full((50, 3), 1000.0)])
def test_space_without_points_in_view_is_guessed_from_the_cameras(points: np.ndarray) -> None:
    space = Space.of(capture(orbit(8), points))
    assert space.radius > 0
    assert 0 < space.near < space.knee


def test_pixels_are_drawn_with_their_colour_from_the_rigid_scene_only() -> None:
    cameras = orbit(6)
    masks = np.zeros((6, 32, 32), np.bool_)
    masks[:, 4:9, 20:30] = True
    shot = capture(cameras, np.zeros((0, 3)), masks)
    rays, colors = Pixels(shot, torch.device("cpu")).draw(400, generator(3))
    pixels, depths = project((rays.origins + rays.directions).double().numpy(), cameras)
    frame = np.abs(rays.origins.numpy()[:, None] - cameras.centers).sum(-1).argmin(1)
    place = np.floor(pixels[frame, np.arange(400)]).astype(int)
    assert masks[frame, place[:, 1], place[:, 0]].all()
    np.testing.assert_allclose(depths[frame, np.arange(400)], 1.0, rtol=1e-5)
    np.testing.assert_allclose(colors.numpy() * 255, shot.frames[frame, place[:, 1], place[:, 0]], atol=1e-3)
