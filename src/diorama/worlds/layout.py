"""Where bodies start and how fast: a layout in the axes of the first camera, with paths that keep clear of one another."""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass

from diorama.worlds.scene import Body, CameraMove, Finish, Motion, Scene, Shape, Size
from diorama.worlds.solids import lies, pendulum_length, rest_height

__all__ = ["RADII", "Words", "place_bodies"]

RADII: dict[Size, float] = {"small": 0.27, "medium": 0.40, "large": 0.58}
_NARROW: dict[Shape, float] = {"sphere": 1.0, "box": 0.92, "cylinder": 0.9, "cone": 1.02, "capsule": 0.68}


@dataclass(frozen=True, kw_only=True)
class Words:
    """What captions speak of, drawn before any place."""

    colors: tuple[str, ...]
    shapes: tuple[Shape, ...]
    sizes: tuple[Size, ...]
    finishes: tuple[Finish, ...]
    motions: tuple[Motion, ...]
    move: CameraMove


def place_bodies(rng: random.Random, blank: Scene, words: Words, azimuth: float, tight: float) -> tuple[Body, ...] | None:
    """Return bodies that start apart, laid out in the axes of the camera: u to its right, w away from it."""
    seconds = min(max((blank.num_frames - 1) / blank.fps, 1.2), 3.2)
    # small bodies move less far, so that the camera can stay near
    tight *= max(0.65, min(1.15, max(RADII[size] for size in words.sizes) / 0.45))
    wide = max(0.8, min(1.5, blank.width / blank.height)) * tight
    placed: list[tuple[Body, tuple[float, float], tuple[float, float]]] = []
    order = sorted(range(len(words.motions)), key=lambda i: words.motions[i] != "rest" or i != 1)
    bodies: dict[int, Body] = {}
    spread = (0.55 + 0.42 * len(order)) * tight
    for i in order:
        radius = RADII[words.sizes[i]] * _NARROW[words.shapes[i]] * rng.uniform(0.94, 1.06)
        for _ in range(30):
            partner = bodies[1] if words.motions[i] in ("collide", "pass_behind") else None
            center = (rng.uniform(-spread, spread) * wide, rng.uniform(-spread, spread) * 0.75) if len(order) > 1 else (0.0, 0.0)
            body, start, end = _body(rng, words, i, radius, (center, azimuth, seconds, wide, tight, pendulum_length(blank)), partner)
            if all(_apart(body, start, end, other) for other in placed):
                break
        else:
            return None
        placed.append((body, start, end))
        bodies[i] = body
    return tuple(bodies[i] for i in range(len(order)))


_Layout = tuple[tuple[float, float], float, float, float, float, float]


def _body(
    rng: random.Random, words: Words, i: int, radius: float, layout: _Layout, partner: Body | None
) -> tuple[Body, tuple[float, float], tuple[float, float]]:
    """Return a body and where its path starts and ends in (u, w)."""
    (u, w), azimuth, seconds, wide, tight, string = layout
    motion, shape = words.motions[i], words.shapes[i]
    directions = (
        ("left", "right")
        if motion in ("collide", "pass_behind", "swing") or (shape == "capsule" and motion == "slide")
        else ("left", "right", "left", "right", "toward", "away")
    )
    direction = rng.choice(directions)
    du, dw = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "toward": (0.0, -1.0), "away": (0.0, 1.0)}[direction]
    travel = rng.uniform(1.3, 2.1) * (wide if du else 1.15 * tight)
    speed, lift = 0.0, 0.0
    start, end = (u, w), (u, w)
    turn = rng.uniform(-0.2, 0.2)  # paths are a little off the camera's axes
    if motion in ("roll", "slide"):
        du, dw = du * math.cos(turn) - dw * math.sin(turn), du * math.sin(turn) + dw * math.cos(turn)
        start, end = (u - du * travel / 2, w - dw * travel / 2), (u + du * travel / 2, w + dw * travel / 2)
        speed = travel / seconds + (0.245 * seconds if motion == "slide" else 0.0)
    elif partner is not None:
        pu, pw = _to_view(partner.position, azimuth)
        reach = radius + partner.radius
        if motion == "collide":
            gap = rng.uniform(0.6, 1.1) * wide
            start, end = (pu - du * (gap + reach), pw - dw * (gap + reach)), (pu, pw)
            speed = gap / (rng.uniform(0.28, 0.42) * seconds) + 0.15
        else:
            behind = pw + reach + rng.uniform(0.15, 0.5)
            half = reach * rng.uniform(1.25, 1.6)
            start, end = (pu - du * half, behind), (pu + du * half, behind)
            speed = 2 * half / seconds + (0.245 * seconds if shape in ("box", "cone") else 0.0)
    elif motion in ("bounce", "fall"):
        lift = tight * (rng.uniform(0.9, 1.5) if motion == "bounce" else rng.uniform(1.1, 1.9))
        direction = "none"
    elif motion == "swing":
        half = rng.uniform(0.7, 1.05) * wide
        speed = half * math.sqrt(9.81 / string)
        du, dw = du * math.cos(turn), math.sin(turn)
        lift = rng.uniform(0.12, 0.4)
        start, end = (u - du * half, w - dw * half), (u + du * half, w + dw * half)
    if motion == "rest":
        direction = "none"
    right, forward = (math.cos(azimuth), math.sin(azimuth)), (-math.sin(azimuth), math.cos(azimuth))
    if motion == "swing":
        at, shown = (u, w), "none"
    else:
        at, shown = start, direction
    yaw = _yaw(rng, shape, motion, math.atan2(right[1] * du + forward[1] * dw, right[0] * du + forward[0] * dw), azimuth)
    body = Body(
        shape=shape,
        color=words.colors[i],
        size=words.sizes[i],
        radius=round(radius, 4),
        finish=words.finishes[i],
        motion=motion,
        direction=shown,  # type: ignore[arg-type]
        partner=1 if partner is not None else None,
        position=(0.0, 0.0, 0.0),
        yaw=round(yaw, 4),
        velocity=(speed * (right[0] * du + forward[0] * dw), speed * (right[1] * du + forward[1] * dw), 0.0) if speed else (0.0, 0.0, 0.0),
    )
    place = (right[0] * at[0] + forward[0] * at[1], right[1] * at[0] + forward[1] * at[1], rest_height(body) + lift)
    return dataclasses.replace(body, position=place), start, end


def _to_view(point: tuple[float, float, float], azimuth: float) -> tuple[float, float]:
    c, s = math.cos(azimuth), math.sin(azimuth)
    return c * point[0] + s * point[1], -s * point[0] + c * point[1]


def _yaw(rng: random.Random, shape: Shape, motion: Motion, heading: float, azimuth: float) -> float:
    """Return a yaw: rollers turn their axis across their path, capsules slide along theirs, others show a side or a corner."""
    if motion in ("roll", "collide", "pass_behind") and shape in ("sphere", "cylinder", "capsule"):
        return heading if shape == "sphere" else heading + math.pi / 2
    if shape == "capsule":
        return heading if motion == "slide" else azimuth + rng.uniform(-0.8, 0.8)
    return azimuth + rng.uniform(0.2, 1.3)


def _apart(body: Body, start: tuple[float, float], end: tuple[float, float], other: tuple[Body, tuple[float, float], tuple[float, float]]) -> bool:
    """Return whether two paths keep clear of one another, where they are not meant to meet."""
    against, first, last = other
    room = _girth(body) + _girth(against) + 0.12
    meet = body.motion == "collide"
    steps = [k / 8 for k in range(9)]
    for a in steps if not meet else [0.0]:
        for b in steps:
            gap_u = start[0] + a * (end[0] - start[0]) - first[0] - b * (last[0] - first[0])
            gap_w = start[1] + a * (end[1] - start[1]) - first[1] - b * (last[1] - first[1])
            if math.hypot(gap_u, gap_w) < room:
                return False
    if body.motion == "pass_behind" or meet:
        return True
    return abs(start[0] - first[0]) > 0.75 * (body.radius + against.radius)


def _girth(body: Body) -> float:
    """Return the radius of the circle on the floor that the body stays in."""
    if lies(body):
        return rest_height(body) * (1.9 if body.shape == "capsule" else 1.5)
    return body.radius * (1.42 if body.shape == "box" else 1.0)
