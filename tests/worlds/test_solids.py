"""Solids: their measures agree with one another, with MuJoCo's rotations and with the shapes that they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable

import mujoco
import numpy as np
import pytest

from diorama.worlds.scene import MOTIONS, SHAPES, Body, Motion, Scene, Shape
from diorama.worlds.solids import bounding_radius, half_height, lies, outline, pendulum_length, rest_height, rolls, rotation_matrix, start_rotation

MakeBody = Callable[..., Body]
EVERY_KIND = pytest.mark.parametrize(("shape", "motion"), [(shape, motion) for shape in SHAPES for motion in MOTIONS])


def support(shape: Shape, r: float, h: float, way: np.ndarray) -> np.ndarray:
    """Return how far the shape reaches along unit vectors [N, 3] in its own axes."""
    level, z = np.hypot(way[:, 0], way[:, 1]), way[:, 2]
    return {
        "sphere": np.full_like(z, r),
        "box": r * np.abs(way).sum(-1),
        "cylinder": r * level + h * np.abs(z),
        "cone": np.maximum(r * level - h * z, h * z),
        "capsule": r + (h - r) * np.abs(z),
    }[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_reaches_as_far_as_its_shape_in_every_direction(shape: Shape, make_body: MakeBody) -> None:
    body = make_body(shape=shape, radius=0.7)
    points, radius = outline(body)
    way = np.random.default_rng(0).normal(size=(500, 3))
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    reach = (way @ points.T).max(-1) + radius
    truth = support(shape, 0.7, half_height(shape, 0.7), way)
    # round things have eight corners here, which cut at most 1 - cos(22.5 degrees) of the radius
    slack = 0.7 * (1 - math.cos(math.pi / 8)) if shape in ("cylinder", "cone") else 0.0
    assert (reach <= truth + 1e-9).all()
    assert (reach >= truth - slack - 1e-9).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bounding_ball_is_the_smallest_about_the_centre(shape: Shape, make_body: MakeBody) -> None:
    points, radius = outline(make_body(shape=shape, radius=0.7))
    assert float(np.linalg.norm(points, axis=-1).max()) + radius == pytest.approx(bounding_radius(shape, 0.7))


@EVERY_KIND
def test_a_body_at_its_rest_height_touches_the_floor(shape: Shape, motion: Motion, make_body: MakeBody) -> None:
    body = make_body(shape=shape, motion=motion, yaw=0.7)
    points, radius = outline(body)
    turned = points @ rotation_matrix(np.array(start_rotation(body))).T
    lowest = rest_height(body) + float(turned[:, 2].min()) - radius
    if motion == "fall":  # it starts tilted, in the air
        assert lowest <= 1e-9
    else:
        assert lowest == pytest.approx(0, abs=1e-9)


@EVERY_KIND
def test_what_lies_has_a_level_axis_and_the_rest_stands(shape: Shape, motion: Motion, make_body: MakeBody) -> None:
    body = make_body(shape=shape, motion=motion, yaw=-1.1)
    quaternion = np.array(start_rotation(body))
    assert float(np.linalg.norm(quaternion)) == pytest.approx(1)
    tilt = 0.3 if motion == "fall" else 0.0
    upright = rotation_matrix(quaternion)[2, 2]
    assert upright == pytest.approx(math.cos(tilt + (math.pi / 2 if lies(body) else 0.0)), abs=1e-9)
    assert not rolls(body) or shape == "sphere" or lies(body)


def test_yaw_turns_a_standing_body_about_the_vertical(make_body: MakeBody) -> None:
    matrix = rotation_matrix(np.array(start_rotation(make_body(shape="box", yaw=0.5))))
    np.testing.assert_allclose(matrix @ [1, 0, 0], [math.cos(0.5), math.sin(0.5), 0], atol=1e-12)


def test_rotation_matrices_are_those_of_mujoco() -> None:
    quaternions = np.random.default_rng(1).normal(size=(4, 5, 4))
    quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
    ours = rotation_matrix(quaternions)
    assert ours.shape == (4, 5, 3, 3)
    for quaternion, matrix in zip(quaternions.reshape(-1, 4), ours.reshape(-1, 9), strict=True):
        theirs = np.zeros(9)
        mujoco.mju_quat2Mat(theirs, quaternion)
        np.testing.assert_allclose(matrix, theirs, atol=1e-12)


def test_strings_are_longer_where_the_frame_is_taller(make_scene: Callable[..., Scene]) -> None:
    wide, square, tall = (pendulum_length(make_scene(width=w, height=h)) for w, h in ((176, 96), (128, 128), (96, 176)))
    assert wide == square < tall
