"""Cameras: projection, axes and the direction of every move."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from diorama.worlds.cameras import cameras
from diorama.worlds.scene import CAMERA_MOVES, CameraMove, Scene

Shot = Callable[..., Scene]


@pytest.fixture
def shot(make_scene: Shot) -> Shot:
    plain = {"target": (0.2, -0.1, 0.5), "azimuth": 0.3, "amount": 0.5, "width": 160, "height": 96, "num_frames": 9}
    return lambda move, **changes: make_scene(move=move, **(plain | changes))


def project(scene: Scene, point: tuple[float, float, float]) -> torch.Tensor:
    """Return pixel x, y and depth of a world point in every frame, [T, 3]."""
    seen = cameras(scene)
    local = seen.world_to_camera @ torch.tensor([*point, 1.0])
    image = local[:, :3] @ seen.intrinsics.T
    return torch.cat([image[:, :2] / image[:, 2:], local[:, 2:3]], -1)


@pytest.mark.parametrize("move", CAMERA_MOVES)
def test_first_frame_looks_at_the_target_from_the_distance(move: CameraMove, shot: Shot) -> None:
    scene = shot(move)
    torch.testing.assert_close(project(scene, scene.camera.target)[0], torch.tensor([80.0, 48.0, 4.0]), atol=1e-3, rtol=0)


def test_a_known_camera_projects_a_known_point(shot: Shot) -> None:
    """From (0.2, -0.1 - 4 cos 0.3, 0.5 + 4 sin 0.3), a point 1 m right of the target is f / 4 pixels right of the centre."""
    scene = shot("static", azimuth=0.0)
    focal = 48 / math.tan(0.4)
    x, y, depth = project(scene, (1.2, -0.1, 0.5))[3].tolist()
    assert (x, y, depth) == pytest.approx((80 + focal / 4, 48, 4), abs=1e-3)
    x, y, depth = project(scene, (0.2, -0.1, 1.5))[3].tolist()
    assert (x, y, depth) == pytest.approx((80, 48 - focal * math.cos(0.3) / (4 - math.sin(0.3)), 4 - math.sin(0.3)), abs=1e-3)


def test_rotations_are_proper(shot: Shot) -> None:
    for move in CAMERA_MOVES:
        rotation = cameras(shot(move)).world_to_camera[:, :3, :3]
        torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(9, 3, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(9), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("move", "axis", "sign"),
    [
        ("pan_left", 0, 1),
        ("pan_right", 0, -1),
        ("tilt_up", 1, 1),
        ("tilt_down", 1, -1),
        ("dolly_in", 2, -1),
        ("dolly_out", 2, 1),
    ],
)
def test_moves_shift_the_target_the_right_way(move: CameraMove, axis: int, sign: int, shot: Shot) -> None:
    scene = shot(move)
    seen = project(scene, scene.camera.target)[:, axis] * sign
    assert (seen.diff() > 0).all()


@pytest.mark.parametrize(("move", "sign"), [("orbit_left", -1), ("orbit_right", 1)])
def test_an_orbit_travels_to_its_own_side_at_one_distance(move: CameraMove, sign: int, shot: Shot) -> None:
    scene = shot(move)
    matrices = cameras(scene).world_to_camera
    eyes = -(matrices[:, :3, :3].transpose(1, 2) @ matrices[:, :3, 3:])[..., 0]
    distance = (eyes - torch.tensor(scene.camera.target)).norm(dim=-1)
    torch.testing.assert_close(distance, torch.full((9,), 4.0), atol=1e-4, rtol=0)
    sideways = (eyes - eyes[0]) @ matrices[0, 0, :3]
    assert (sideways.diff() * sign > 0).all()
    centre = project(scene, scene.camera.target)[:, :2]
    torch.testing.assert_close(centre, torch.tensor([80.0, 48.0]).expand(9, 2), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("move", "sign"), [("crane_up", 1), ("crane_down", -1)])
def test_a_crane_rises_by_its_amount_and_keeps_the_target(move: CameraMove, sign: int, shot: Shot) -> None:
    scene = shot(move)
    matrices = cameras(scene).world_to_camera
    eyes = -(matrices[:, :3, :3].transpose(1, 2) @ matrices[:, :3, 3:])[..., 0]
    assert float(eyes[-1, 2] - eyes[0, 2]) == pytest.approx(sign * 0.5, abs=1e-4)
    torch.testing.assert_close(project(scene, scene.camera.target)[:, :2], torch.tensor([80.0, 48.0]).expand(9, 2), atol=2e-3, rtol=0)


def test_a_still_uses_the_first_camera(shot: Shot) -> None:
    scene = shot("orbit_left")
    still = cameras(dataclasses.replace(scene, num_frames=1))
    torch.testing.assert_close(still.world_to_camera[0], cameras(scene).world_to_camera[0])
