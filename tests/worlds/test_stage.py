"""Stages: numbers and tensors give the same, poses undo rotations, and the light of every hour is as told."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from diorama.worlds.cameras import camera_poses, cameras
from diorama.worlds.physics import simulate
from diorama.worlds.scene import CAMERA_MOVES, COLORS, FLOORS, LIGHTS, SHAPES, Body, Floor, Light, Scene
from diorama.worlds.solids import outline, pendulum_length, rotation_matrix
from diorama.worlds.stage import LIGHTING, Stage, build_stage, dot, linear, madd, take

MakeBody = Callable[..., Body]
MakeScene = Callable[..., Scene]
MakeStage = Callable[..., Stage]


def numbers(nested: Any) -> list[Any]:
    """Return what nested tuples hold, in order."""
    return [value for part in nested for value in numbers(part)] if isinstance(nested, tuple) else [nested]


def test_numbers_and_tensors_multiply_alike() -> None:
    values = (0.7, -1.3, 2.1)
    for kinds in itertools.product((False, True), repeat=3):
        a, b, c = (torch.full((4,), v) if tensor else v for v, tensor in zip(values, kinds, strict=True))
        torch.testing.assert_close(torch.as_tensor(madd(a, b, c)).expand(4), torch.full((4,), 0.7 - 1.3 * 2.1))
        torch.testing.assert_close(torch.as_tensor(dot((a, b, c), (c, a, b))).expand(4), torch.full((4,), 0.7 * 2.1 - 1.3 * 0.7 - 2.1 * 1.3))


def test_taking_keeps_numbers() -> None:
    x, y, z = take((torch.arange(4.0), 2.5, torch.arange(4.0) * 10), torch.tensor([3, 1]))
    assert y == 2.5
    assert isinstance(x, torch.Tensor)
    assert isinstance(z, torch.Tensor)
    assert x.tolist() == [3, 1]
    assert z.tolist() == [30, 10]


def test_linear_is_the_srgb_curve() -> None:
    assert linear((0.0, 0.5, 1.0)) == pytest.approx((0.0, 0.21404, 1.0), abs=1e-5)
    curve = [linear((i / 100,) * 3)[0] for i in range(101)]
    assert all(a < b for a, b in itertools.pairwise(curve))
    assert max(b - a for a, b in itertools.pairwise(curve)) < 0.03  # no step where the two pieces meet


@pytest.mark.parametrize("light", LIGHTS)
def test_the_sun_stands_where_the_scene_says(light: Light, make_scene: MakeScene, make_stage: MakeStage) -> None:
    x, y, z = make_stage(make_scene(light=light, sun_azimuth=2.0)).sun
    assert math.hypot(x, y, z) == pytest.approx(1)
    assert math.atan2(y, x) == pytest.approx(2.0)
    assert math.asin(z) == pytest.approx(LIGHTING[light].elevation)
    assert 0 < LIGHTING[light].elevation < math.pi / 2


def test_night_is_darker_than_day_and_sunset_is_warm() -> None:
    day, sunset, night = LIGHTING["day"], LIGHTING["sunset"], LIGHTING["night"]
    for name in ("sun", "ambient", "horizon", "zenith"):
        assert all(dark < bright for dark, bright in zip(getattr(night, name), getattr(day, name), strict=True))
    for name in ("sun", "horizon"):
        assert getattr(sunset, name)[0] / getattr(sunset, name)[2] > 1.5 * getattr(day, name)[0] / getattr(day, name)[2]
    for light in LIGHTING.values():
        assert all(0 <= value <= 1 for color in (light.sun, light.ambient, light.horizon, light.zenith) for value in color)


@pytest.mark.parametrize("shape", SHAPES)
def test_poses_are_the_trajectory_for_one_frame_and_for_many(shape: str, make_body: MakeBody, make_scene: MakeScene) -> None:
    scene = make_scene(make_body(shape=shape, motion="fall", yaw=0.7, position=(0.2, -0.1, 1.5)), num_frames=7)
    moved = simulate(scene)
    solid = build_stage(scene, moved, cameras(scene), torch.device("cpu")).solids[0]
    frames = torch.tensor([6, 0, 3])
    for read in (solid.pose, solid.shadow):
        one_by_one = torch.tensor([numbers(read(frame)) for frame in frames.tolist()])
        torch.testing.assert_close(torch.stack(numbers(read(frames)), -1), one_by_one)
    center, rows = solid.pose(6)
    assert center == pytest.approx(moved.positions[6, 0].tolist())
    to_world = rotation_matrix(moved.quaternions[6, 0].double().numpy())
    np.testing.assert_allclose(np.array(rows) @ to_world, np.eye(3), atol=1e-5)


def test_a_boxs_shadow_holds_its_corners_and_lies_across_the_sun(make_body: MakeBody, make_scene: MakeScene, make_stage: MakeStage) -> None:
    box = make_body(shape="box", yaw=0.6)
    stage = make_stage(make_scene(box, sun_azimuth=1.0), (0.8, 0.36, -0.48, 0.0))
    points = outline(box)[0] @ rotation_matrix(np.array([0.8, 0.36, -0.48, 0.0])).T
    directions, extents = stage.solids[0].shadow(0)
    for direction, extent in zip(directions, extents, strict=True):
        assert np.dot(direction, stage.sun) == pytest.approx(0, abs=1e-6)
        assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-6)
        assert np.abs(points @ np.array(direction)).max() == pytest.approx(extent, abs=1e-6)


@pytest.mark.parametrize("move", CAMERA_MOVES)
def test_cameras_stand_where_they_were_put_and_inside_the_room(move: str, make_scene: MakeScene, make_stage: MakeStage) -> None:
    scene = make_scene(move=move, amount=0.8, distance=9.0, azimuth=0.7, target=(2.0, -3.0, 0.5), backdrop="walls")
    stage = make_stage(scene)
    eyes = camera_poses(scene.camera, scene.num_frames)[0]
    np.testing.assert_allclose(stage.origins.numpy(), eyes, atol=1e-4)
    x, y, half, _ = stage.room
    assert np.abs(eyes[:, :2] - [x, y]).max() < half


def test_bodies_keep_the_order_of_their_colours_and_black_still_reflects(make_body: MakeBody, make_scene: MakeScene, make_stage: MakeStage) -> None:
    stage = make_stage(make_scene(*(make_body(color=color) for color in COLORS)))
    for solid, color in zip(stage.solids, COLORS, strict=True):
        assert solid.albedo == pytest.approx(linear(COLORS[color]), abs=0.0145)
        assert min(solid.albedo) > 0.01
    assert len({solid.albedo for solid in stage.solids}) == len(COLORS)


@pytest.mark.parametrize("floor", FLOORS)
def test_floors_have_two_colours_in_range(floor: Floor, make_scene: MakeScene, make_stage: MakeStage) -> None:
    for color in ((0.9, 0.9, 0.9), (0.3, 0.45, 0.2), (0.6, 0.35, 0.3)):
        stage = make_stage(make_scene(floor=floor, floor_color=color))
        first, second = stage.floor
        assert first == pytest.approx(linear(color))
        assert math.dist(first, second) > 0.02
        assert all(0 <= value <= 1 for part in (*stage.floor, *stage.wall) for value in part)


def test_only_swinging_bodies_hang_on_a_string(make_body: MakeBody, make_scene: MakeScene, make_stage: MakeStage) -> None:
    scene = make_scene(make_body(), make_body(color="blue", motion="swing", position=(0.5, 0.2, 0.9)))
    assert make_stage(scene).strings == ((1, (0.5, 0.2, 0.9 + pendulum_length(scene))),)
