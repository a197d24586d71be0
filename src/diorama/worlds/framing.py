"""A camera that keeps the action whole in the frame, and the test that a shot shows what its words say."""

from __future__ import annotations

import math
import random

import numpy as np
import numpy.typing as npt

from diorama.worlds.cameras import camera_poses, focal_length
from diorama.worlds.scene import Body, Camera, CameraMove, Scene
from diorama.worlds.solids import outline, pendulum_length, rotation_matrix

__all__ = ["aim", "all_seen", "balls_of", "contacts_fit", "motion_shows"]

Array = npt.NDArray[np.float64]

_MARGIN = 0.035
"""Share of the shorter side kept free round every body."""


def contacts_fit(scene: Scene, contacts: tuple[tuple[int, int, int], ...]) -> bool:
    """Return whether exactly those bodies touch that are meant to, and early enough to be seen."""
    wanted = {tuple(sorted((i, b.partner))) for i, b in enumerate(scene.bodies) if b.motion == "collide" and b.partner is not None}
    first: dict[tuple[int, int], int] = {}
    for frame, a, b in contacts:
        if b >= 0:
            first.setdefault((a, b), frame)
    if not set(first) <= wanted:
        return False
    still = scene.num_frames == 1
    return still or all(pair in first and 0 < first[(pair[0], pair[1])] <= 0.7 * scene.num_frames for pair in wanted)


def motion_shows(scene: Scene, positions: Array) -> bool:
    """Return whether movers get somewhere and the others stay."""
    if scene.num_frames < 9:
        return True
    struck = {b.partner for b in scene.bodies if b.motion == "collide"}
    for i, body in enumerate(scene.bodies):
        moved = float(np.linalg.norm(positions[-1, i] - positions[0, i]))
        if body.motion == "rest" and i not in struck and moved > 0.08:
            return False
        if i in struck and not 0.1 < moved < 2.2:
            return False
        if body.motion in ("roll", "slide", "pass_behind") and moved < 0.6:
            return False
    return True


def balls_of(body: Body, positions: Array, quaternions: Array) -> tuple[Array, float]:
    """Return centres [T, P, 3] and the radius of balls whose hull is the body, in the world."""
    points, radius = outline(body)
    return positions[:, None] + np.einsum("tij,pj->tpi", rotation_matrix(quaternions), points), radius


def aim(rng: random.Random, scene: Scene, move: CameraMove, azimuth: float, balls: list[tuple[Array, float]]) -> Camera | None:
    """Return the nearest camera that keeps every body in frame for the whole move, with some room to spare."""
    low = np.min([points.min((0, 1)) - radius for points, radius in balls], 0)
    high = np.max([points.max((0, 1)) + radius for points, radius in balls], 0)
    kind = move.split("_")[0]
    fov = rng.uniform(0.62, 0.8)
    elevation = rng.uniform(0.16, 0.5)
    if any(b.motion == "pass_behind" for b in scene.bodies):
        elevation = rng.uniform(0.1, 0.26)
    extent = {
        "orbit": rng.uniform(0.6, 1.05),
        "dolly": rng.uniform(0.28, 0.4),
        "crane": rng.uniform(0.2, 0.36),
        "pan": rng.uniform(0.26, 0.42),
        "tilt": rng.uniform(0.2, 0.32),
        "static": 0.0,
    }[kind]
    middle = (low + high) / 2
    slack = rng.uniform(1.0, 1.2)
    distance = 1.5
    while not _framed(scene, _camera(move, middle, distance, azimuth, elevation, extent, fov), balls):
        distance *= 1.25
        if distance > 20:
            return None
    distance *= 0.85
    while not _framed(scene, camera := _camera(move, middle, distance, azimuth, elevation, extent, fov), balls):
        distance *= 1.06
    wider = _camera(move, middle, distance * slack, azimuth, elevation, extent, fov)
    return wider if _framed(scene, wider, balls) else camera


def _camera(move: CameraMove, middle: Array, distance: float, azimuth: float, elevation: float, extent: float, fov: float) -> Camera:
    """Return a camera of the move about ``middle``; moves are centred, so that the action is seen in the middle of them."""
    kind, way = move.split("_")[0], -1.0 if move.endswith(("left", "in", "down")) else 1.0
    amount, target = extent, middle
    if kind == "orbit":
        azimuth -= way * extent * 0.35
    elif kind == "dolly":
        amount = extent * distance
        if way < 0:
            distance *= 1.3
            amount *= 1.3
    elif kind == "crane":
        amount = extent * distance
        elevation = elevation + (0.22 if way < 0 else -0.06)
    elif kind in ("pan", "tilt"):
        out = np.array([math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation), math.sin(elevation)])
        eye = middle + distance * out
        if kind == "pan":  # turning right starts left of the middle
            azimuth += way * extent / 2
        else:  # turning up starts below it
            elevation += way * extent / 2
        target = eye - distance * np.array([math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation), math.sin(elevation)])
    x, y, z = (round(float(v), 5) for v in target)
    return Camera(
        move=move,
        target=(x, y, z),
        distance=round(distance, 5),
        azimuth=round(math.remainder(azimuth, math.tau), 5),
        elevation=round(elevation, 5),
        amount=round(amount, 5) if kind != "static" else 0.0,
        field_of_view=round(fov, 5),
    )


def _framed(scene: Scene, camera: Camera, balls: list[tuple[Array, float]]) -> bool:
    """Return whether every body is whole in every frame and the camera above the floor and clear of all."""
    eyes, rotations = camera_poses(camera, scene.num_frames)
    if eyes[:, 2].min() < 0.25:
        return False
    focal = focal_length(camera, scene.width, scene.height)
    margin = _MARGIN * min(scene.width, scene.height)
    for points, radius in balls:
        seen = np.einsum("tij,tpj->tpi", rotations, points - eyes[:, None])
        depth = seen[..., 2]
        if depth.min() < radius + 0.4:
            return False
        span = radius * focal / (depth - 0.5 * radius) + margin
        x, y = seen[..., 0] / depth * focal, seen[..., 1] / depth * focal
        if (np.abs(x) + span).max() > scene.width / 2 or (np.abs(y) + span).max() > scene.height / 2:
            return False
    return True


def all_seen(scene: Scene, balls: list[tuple[Array, float]]) -> bool:
    """Return whether bodies are large enough, strings end outside the frame, and what passes behind is hidden on the way."""
    camera = scene.camera
    eyes, rotations = camera_poses(camera, scene.num_frames)
    focal = focal_length(camera, scene.width, scene.height)
    side = min(scene.width, scene.height)
    centers = np.stack([points.mean(1) for points, _ in balls], 1)
    seen = np.einsum("tij,tnj->tni", rotations, centers - eyes[:, None])
    radii = np.array([body.radius for body in scene.bodies])
    share = 2 * radii * focal / seen[..., 2] / side
    mean = share.mean(0)
    if mean.max() < 0.2 or mean.min() < 0.1:
        return False
    image = seen[..., :2] / seen[..., 2:] * focal
    for i in range(len(radii)):
        for j in range(i):
            if np.linalg.norm(image[0, i] - image[0, j]) < 0.6 * (share[0, i] + share[0, j]) / 2 * side:
                return False
    for i, body in enumerate(scene.bodies):
        if body.motion == "swing":
            pivot = np.array(body.position) + np.array([0, 0, pendulum_length(scene)])
            tied = np.einsum("tij,tj->ti", rotations, pivot - eyes)
            if (tied[:, 1] / tied[:, 2].clip(0.1) * focal > -scene.height / 2).any():
                return False
        if body.motion == "pass_behind" and body.partner is not None and scene.num_frames > 8:
            gap = np.linalg.norm(image[:, i] - image[:, body.partner], axis=-1) / side
            touch = share[:, i] / 2 + share[:, body.partner] / 2
            farther = seen[:, i, 2] > seen[:, body.partner, 2]
            if not farther.all() or gap[0] < 0.75 * touch[0] or gap[-1] < 0.75 * touch[-1] or (gap / touch).min() > 0.5:
                return False
    return True
