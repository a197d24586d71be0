"""The solids that bodies are made of: their measures, their pose at time 0, and the string that a swinging one hangs on."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from diorama.worlds.scene import Body, Scene, Shape

__all__ = [
    "bounding_radius",
    "half_height",
    "lies",
    "outline",
    "pendulum_length",
    "rest_height",
    "rolls",
    "rotation_matrix",
    "start_rotation",
]

Array = npt.NDArray[np.float64]

_HALF_HEIGHT: dict[Shape, float] = {"sphere": 1.0, "box": 1.0, "cylinder": 1.15, "cone": 1.1, "capsule": 1.9}
_BOUND: dict[Shape, float] = {"sphere": 1.0, "box": math.sqrt(3), "cylinder": math.hypot(1, 1.15), "cone": math.hypot(1, 1.1), "capsule": 1.9}


def half_height(shape: Shape, radius: float) -> float:
    """Return half the extent along the body's own z axis, metres."""
    return _HALF_HEIGHT[shape] * radius


def bounding_radius(shape: Shape, radius: float) -> float:
    """Return the radius in metres of the sphere about the centre that holds the body."""
    return _BOUND[shape] * radius


def rolls(body: Body) -> bool:
    """Return whether the body moves over the floor by rolling and not by sliding."""
    return body.motion in ("roll", "collide", "pass_behind") and body.shape in ("sphere", "cylinder", "capsule")


def lies(body: Body) -> bool:
    """Return whether the body's own z axis is level at time 0: capsules always, cylinders when they roll."""
    return body.shape == "capsule" or (body.shape == "cylinder" and rolls(body))


def rest_height(body: Body) -> float:
    """Return the height in metres of the centre when the body stands or lies on the floor as it starts."""
    return body.radius if lies(body) else half_height(body.shape, body.radius)


def start_rotation(body: Body) -> tuple[float, float, float, float]:
    """Return the unit quaternion (w, x, y, z) at time 0: yaw, after laying down what lies; a falling body is tilted a little."""
    half = math.pi / 4 if lies(body) else 0.0
    if body.motion == "fall":
        half += 0.15
    a, b, c, s = math.cos(body.yaw / 2), math.sin(body.yaw / 2), math.cos(half), math.sin(half)
    return a * c, -b * s, a * s, b * c


def rotation_matrix(quaternion: Array) -> Array:
    """Return matrices [..., 3, 3] from the body's axes to the world's for unit quaternions [..., 4] (w, x, y, z)."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def outline(body: Body) -> tuple[Array, float]:
    """Return points [P, 3] in the body's axes and a radius whose swept balls have the body as their convex hull, metres."""
    r, h = body.radius, half_height(body.shape, body.radius)
    if body.shape == "sphere":
        return np.zeros((1, 3)), r
    if body.shape == "capsule":
        return np.array([[0, 0, h - r], [0, 0, r - h]]), r
    if body.shape == "box":
        return np.array([[x, y, z] for x in (-r, r) for y in (-r, r) for z in (-r, r)]), 0.0
    angles = np.arange(8) * math.pi / 4
    ring = np.stack([r * np.cos(angles), r * np.sin(angles), np.full(8, -h)], -1)
    top = np.array([[0, 0, h]]) if body.shape == "cone" else ring * [1, 1, -1]
    return np.concatenate([ring, top]), 0.0


def pendulum_length(scene: Scene) -> float:
    """Return metres from a swinging body's centre up to where its string is tied, above the frame."""
    return 4.6 if scene.height > 1.15 * scene.width else 3.0
