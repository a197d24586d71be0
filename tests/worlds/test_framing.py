"""Framing: whole bodies in every frame of every move, seen by an independent projection, and shots that do not show their words."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from diorama.worlds.cameras import cameras
from diorama.worlds.framing import aim, all_seen, balls_of, contacts_fit, motion_shows
from diorama.worlds.scene import CAMERA_MOVES, Body, CameraMove, Scene
from diorama.worlds.solids import bounding_radius, start_rotation

MakeBody = Callable[..., Body]
MakeScene = Callable[..., Scene]
Array = npt.NDArray[np.float64]


def paths(scene: Scene, *travels: tuple[float, float, float]) -> list[tuple[Array, float]]:
    """Return the balls of the scene's bodies, each carried evenly along its travel."""
    u = np.linspace(0, 1, scene.num_frames)[:, None]
    return [
        balls_of(body, np.array(body.position) + u * np.array(travel), np.tile(start_rotation(body), (scene.num_frames, 1)))
        for body, travel in zip(scene.bodies, travels, strict=True)
    ]


def projected(scene: Scene, balls: list[tuple[Array, float]]) -> Array:
    """Return pixel x, y and depth of points on all balls, [T, P, 3]."""
    shot = cameras(scene)
    ways = np.random.default_rng(0).normal(size=(60, 3))
    ways /= np.linalg.norm(ways, axis=-1, keepdims=True)
    world = np.concatenate([(points[:, :, None] + radius * ways).reshape(len(points), -1, 3) for points, radius in balls], 1)
    matrix = shot.world_to_camera.double().numpy()
    local = np.einsum("tij,tpj->tpi", matrix[:, :3, :3], world) + matrix[:, None, :3, 3]
    image = local @ shot.intrinsics.double().numpy().T
    return np.concatenate([image[..., :2] / image[..., 2:], local[..., 2:]], -1)


@pytest.mark.parametrize("move", CAMERA_MOVES)
@pytest.mark.parametrize(("width", "height"), [(128, 128), (176, 96), (96, 176)])
def test_every_body_is_whole_and_large_in_every_frame(width: int, height: int, move: CameraMove, make_body: MakeBody, make_scene: MakeScene) -> None:
    bodies = (
        make_body(shape="capsule", motion="roll", position=(-1.0, 0.0, 0.4)),
        make_body(shape="box", color="blue", position=(1.0, 0.5, 0.4), yaw=0.7),
        make_body(color="green", position=(0.0, -0.8, 1.6)),
    )
    scene = make_scene(*bodies, width=width, height=height, num_frames=17)
    balls = paths(scene, (1.5, 0.3, 0), (0, 0, 0), (0, 0, -1.2))
    for seed in range(3):
        rng = random.Random(seed)
        camera = aim(rng, scene, move, rng.uniform(-3, 3), balls)
        assert camera is not None
        assert camera.move == move
        seen = projected(dataclasses.replace(scene, camera=camera), balls)
        assert (seen >= 0).all()
        assert (seen[..., :2] <= [width, height]).all()
        # the nearest such camera, with some room to spare: somewhere on the way the action comes near the rim
        reach = np.abs(seen[..., :2] / [width / 2, height / 2] - 1).max()
        assert 0.65 < reach < 0.98


def test_an_action_too_wide_for_any_camera_has_none(make_body: MakeBody, make_scene: MakeScene) -> None:
    scene = make_scene(make_body())
    assert aim(random.Random(0), scene, "static", 0.0, paths(scene, (60, 0, 0))) is None


def test_balls_turn_with_their_body(make_body: MakeBody) -> None:
    box = make_body(shape="box", radius=0.5)
    quarter = np.array([[1, 0, 0, 0], [math.cos(math.pi / 8), 0, 0, math.sin(math.pi / 8)]])
    points, radius = balls_of(box, np.array([[0, 0, 1.0], [2.0, 0, 1.0]]), quarter)
    assert points.shape == (2, 8, 3)
    assert radius == 0
    assert points[0].max(0) == pytest.approx([0.5, 0.5, 1.5])
    assert points[1].max(0) == pytest.approx([2 + math.sqrt(0.5), math.sqrt(0.5), 1.5])
    assert np.linalg.norm(points[1] - [2, 0, 1], axis=-1) == pytest.approx(bounding_radius("box", 0.5))


@pytest.mark.parametrize(
    ("contacts", "fits"),
    [
        (((0, 1, -1), (8, 0, 1), (9, 0, 1)), True),  # the floor does not count
        (((0, 1, -1),), False),  # missed
        (((0, 0, 1),), False),  # touching from the start
        (((30, 0, 1),), False),  # too late to be seen
        (((8, 0, 1), (12, 1, 2)), False),  # strikes a third
    ],
)
def test_bodies_touch_whom_they_should_in_time(
    contacts: tuple[tuple[int, int, int], ...], fits: bool, make_body: MakeBody, make_scene: MakeScene
) -> None:
    scene = make_scene(make_body(motion="collide", partner=1), make_body(color="blue"), make_body(color="green"))
    assert contacts_fit(scene, contacts) == fits


def test_a_still_need_not_show_the_hit(make_body: MakeBody, make_scene: MakeScene) -> None:
    scene = make_scene(make_body(motion="collide", partner=1), make_body(color="blue"), num_frames=1)
    assert contacts_fit(scene, ())


@pytest.mark.parametrize(
    ("motion", "travel", "shows"),
    [("roll", 1.0, True), ("roll", 0.4, False), ("slide", 0.4, False), ("rest", 0.0, True), ("rest", 0.2, False), ("bounce", 0.2, True)],
)
def test_movers_move_and_others_stay(motion: str, travel: float, shows: bool, make_body: MakeBody, make_scene: MakeScene) -> None:
    scene = make_scene(make_body(motion=motion))
    positions = np.linspace([[0.0, 0, 0.4]], [[travel, 0, 0.4]], scene.num_frames)
    assert motion_shows(scene, positions) == shows


@pytest.mark.parametrize(("travel", "shows"), [(0.5, True), (0.0, False), (3.0, False)])
def test_what_is_struck_moves_but_stays_near(travel: float, shows: bool, make_body: MakeBody, make_scene: MakeScene) -> None:
    scene = make_scene(make_body(motion="collide", partner=1), make_body(color="blue"))
    positions = np.linspace([[-1.0, 0, 0.4], [0, 0, 0.4]], [[0.0, 0, 0.4], [travel, 0, 0.4]], scene.num_frames)
    assert motion_shows(scene, positions) == shows


def test_bodies_too_small_or_one_over_another_are_not_seen(make_body: MakeBody, make_scene: MakeScene) -> None:
    near, far = make_scene(), make_scene(distance=12.0)
    assert all_seen(near, paths(near, (0, 0, 0)))
    assert not all_seen(far, paths(far, (0, 0, 0)))
    for place, seen in (((1.0, 0, 0.4), True), ((0, 1.0, 0.4), False)):
        scene = make_scene(make_body(), make_body(color="blue", position=place))
        assert all_seen(scene, paths(scene, (0, 0, 0), (0, 0, 0))) == seen


def test_the_end_of_a_string_is_out_of_the_frame(make_body: MakeBody, make_scene: MakeScene) -> None:
    for motion, seen in (("swing", False), ("rest", True)):
        scene = make_scene(make_body(motion=motion, radius=1.2, position=(0, 0, 1.0)), distance=13.0)
        assert all_seen(scene, paths(scene, (0, 0, 0))) == seen
    near = make_scene(make_body(motion="swing", position=(0, 0, 1.0)))
    assert all_seen(near, paths(near, (0, 0, 0)))


@pytest.mark.parametrize(
    ("start", "travel", "seen"),
    [
        ((-1.2, 1.0, 0.4), 2.4, True),
        ((-1.2, 1.0, 0.4), 1.2, False),  # ends behind its partner
        ((-1.2, -1.0, 0.4), 2.4, False),  # passes in front
        ((-1.2, 2.5, 0.4), 2.4, False),  # so far behind that it is never hidden
    ],
)
def test_what_passes_behind_is_hidden_on_the_way_only(
    start: tuple[float, float, float], travel: float, seen: bool, make_body: MakeBody, make_scene: MakeScene
) -> None:
    scene = make_scene(make_body(motion="pass_behind", partner=1, position=start), make_body(color="blue"))
    assert all_seen(scene, paths(scene, (travel, 0, 0), (0, 0, 0))) == seen
