"""Physics: laws that every motion must keep."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import pytest
import torch

from diorama.worlds.physics import simulate
from diorama.worlds.scene import SHAPES, Body, Scene, Shape
from diorama.worlds.solids import pendulum_length, rest_height

GRAVITY = 9.81


MakeBody = Callable[..., Body]
MakeScene = Callable[..., Scene]


def test_free_fall_follows_the_parabola(make_body: MakeBody, make_scene: MakeScene) -> None:
    z = simulate(make_scene(make_body(motion="fall", position=(0, 0, 4.0)), num_frames=9)).positions[:, 0, 2]
    t = torch.arange(9) / 12.0
    torch.testing.assert_close(z, 4.0 - GRAVITY / 2 * t * t, atol=0.03, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_resting_bodies_stay(shape: Shape, make_body: MakeBody, make_scene: MakeScene) -> None:
    still = make_body(shape=shape)
    still = dataclasses.replace(still, position=(0.0, 0.0, rest_height(still)))
    moved = simulate(make_scene(still))
    assert float((moved.positions - moved.positions[0]).norm(dim=-1).max()) < 0.01
    assert float((moved.quaternions[-1] - moved.quaternions[0]).norm()) < 0.02
    assert (5, 0, -1) in moved.contacts


@pytest.mark.parametrize("shape", SHAPES)
def test_what_falls_comes_to_rest_on_the_floor(shape: Shape, make_body: MakeBody, make_scene: MakeScene) -> None:
    positions = simulate(make_scene(make_body(shape=shape, motion="fall", position=(0, 0, 1.8)), num_frames=61)).positions[:, 0]
    assert 0.2 < float(positions[-1, 2]) < 0.8
    assert float((positions[-1] - positions[-6]).norm()) < 0.25


def test_a_bounce_loses_some_height_each_time(make_body: MakeBody, make_scene: MakeScene) -> None:
    z = simulate(make_scene(make_body(motion="bounce", position=(0, 0, 1.6)), num_frames=97)).positions[:, 0, 2] - 0.4
    peaks = [float(z[0])] + [float(z[i]) for i in range(1, 96) if z[i - 1] < z[i] >= z[i + 1]]
    assert len(peaks) >= 3
    assert all(0.5 < later / first < 0.95 for first, later in itertools.pairwise(peaks[:3]))


@pytest.mark.parametrize("shape", ["sphere", "cylinder", "capsule"])
def test_rolling_is_without_slip(shape: Shape, make_body: MakeBody, make_scene: MakeScene) -> None:
    yaw = 0.0 if shape == "sphere" else math.pi / 2
    roller = make_body(shape=shape, motion="roll", direction="right", velocity=(0.8, 0, 0), yaw=yaw)
    moved = simulate(make_scene(roller, num_frames=25))
    travel = moved.positions[1:, 0, 0] - moved.positions[:-1, 0, 0]
    a, b = moved.quaternions[:-1, 0], moved.quaternions[1:, 0]
    turn = 2 * (a * b).sum(-1).abs().clamp(max=1).acos()
    torch.testing.assert_close(turn * 0.4, travel, atol=0.012, rtol=0.05)
    assert float(travel.sum()) == pytest.approx(0.8 * 2, rel=0.15)


def test_sliding_slows_down_without_turning(make_body: MakeBody, make_scene: MakeScene) -> None:
    slider = make_body(shape="box", motion="slide", direction="right", velocity=(1.4, 0, 0))
    moved = simulate(make_scene(slider))
    travel = moved.positions[:, 0, 0].diff()
    assert float(travel[0]) > float(travel[-1]) * 1.5
    assert float((moved.quaternions[-1, 0] - moved.quaternions[0, 0]).norm()) < 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pendulum_keeps_its_string_and_swings_both_ways_along_its_velocity(shape: Shape, make_body: MakeBody, make_scene: MakeScene) -> None:
    start = (0.3, 0.2, 0.9)
    world = make_scene(make_body(shape=shape, motion="swing", position=start, velocity=(1.2, 0.9, 0), yaw=0.7), num_frames=49)
    positions = simulate(world).positions[:, 0]
    pivot = torch.tensor(start) + torch.tensor([0, 0, pendulum_length(world)])
    torch.testing.assert_close((positions - pivot).norm(dim=-1), torch.full((49,), pendulum_length(world)), atol=1e-3, rtol=0)
    along = (positions - torch.tensor(start)) @ torch.tensor([0.8, 0.6, 0.0])
    across = (positions - torch.tensor(start)) @ torch.tensor([-0.6, 0.8, 0.0])
    assert float(along[1]) > 0.05
    assert float(along.max()) > 0.5
    assert float(along.min()) < -0.5
    assert float(across.abs().max()) < 1e-3


def test_a_collision_is_reported_and_moves_the_partner(make_body: MakeBody, make_scene: MakeScene) -> None:
    mover = make_body(motion="collide", direction="right", partner=1, position=(-1.6, 0, 0.4), velocity=(1.5, 0, 0))
    moved = simulate(make_scene(mover, make_body(color="blue")))
    frames = [frame for frame, a, b in moved.contacts if (a, b) == (0, 1)]
    # the gap of 0.8 m takes 0.53 s, that is 6.4 frames
    assert frames[0] == 7
    assert float(moved.positions[frames[0] - 2, 1, 0]) == pytest.approx(0, abs=1e-3)
    assert float(moved.positions[-1, 1, 0]) > 0.3


def test_the_same_scene_gives_the_same_motion(make_body: MakeBody, make_scene: MakeScene) -> None:
    world = make_scene(make_body(shape="cone", motion="fall", position=(0, 0, 1.8)))
    first, second = simulate(world), simulate(world)
    assert torch.equal(first.positions, second.positions)
    assert torch.equal(first.quaternions, second.quaternions)
    assert first.contacts == second.contacts
