"""Drawing scenes: every attribute on its own, then places, speeds and a camera that keep the action whole in the frame.

A draw that does not show what its words say (a body leaves the frame, a mover misses its partner, bodies touch that should
not) is drawn again from the same chain of random numbers; words stay as drawn while places are tried.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from diorama.errors import InputError
from diorama.worlds.cameras import camera_poses, focal_length
from diorama.worlds.physics import simulate
from diorama.worlds.scene import COLORS, FLOORS, SHAPES, Body, Camera, CameraMove, Finish, Floor, Light, Motion, Scene, Shape, Size, held_out
from diorama.worlds.solids import lies, outline, pendulum_length, rest_height, rotation_matrix

__all__ = ["Split", "sample_scene"]

Split = Literal["train", "held_out", "any"]
Array = npt.NDArray[np.float64]
T = TypeVar("T")

_RADII: dict[Size, float] = {"small": 0.27, "medium": 0.40, "large": 0.58}
_NARROW: dict[Shape, float] = {"sphere": 1.0, "box": 0.92, "cylinder": 0.9, "cone": 1.02, "capsule": 0.68}
_NUM_BODIES = ((1, 45), (2, 37), (3, 14), (4, 4))
_FINISHES: tuple[tuple[Finish, int], ...] = (("matte", 46), ("glossy", 46), ("mirror", 8))
_LIGHTS: tuple[tuple[Light, int], ...] = (("day", 50), ("sunset", 27), ("night", 23))
_MOVES: tuple[tuple[CameraMove, int], ...] = (
    ("static", 26),
    ("orbit_left", 12),
    ("orbit_right", 12),
    ("dolly_in", 9),
    ("dolly_out", 9),
    ("crane_up", 6),
    ("crane_down", 6),
    ("pan_left", 6),
    ("pan_right", 6),
    ("tilt_up", 4),
    ("tilt_down", 4),
)
_FIRST: tuple[tuple[Motion, int], ...] = (
    ("rest", 12),
    ("roll", 15),
    ("slide", 12),
    ("bounce", 13),
    ("fall", 12),
    ("swing", 10),
    ("collide", 15),
    ("pass_behind", 11),
)
_OTHERS: tuple[tuple[Motion, int], ...] = (("rest", 62), ("roll", 8), ("slide", 8), ("bounce", 9), ("fall", 8), ("swing", 5))
_FLOOR_COLORS: dict[Floor, tuple[tuple[float, float, float], ...]] = {
    "checker": ((0.86, 0.84, 0.79), (0.78, 0.82, 0.86), (0.84, 0.77, 0.72), (0.75, 0.81, 0.76), (0.80, 0.78, 0.85)),
    "stripe": ((0.84, 0.81, 0.74), (0.74, 0.79, 0.84), (0.82, 0.74, 0.72), (0.74, 0.80, 0.72), (0.79, 0.79, 0.80)),
    "brick": ((0.62, 0.36, 0.29), (0.66, 0.46, 0.36), (0.55, 0.40, 0.36), (0.60, 0.53, 0.47)),
    "wood": ((0.68, 0.50, 0.33), (0.58, 0.41, 0.28), (0.76, 0.62, 0.45), (0.50, 0.37, 0.28)),
    "grass": ((0.34, 0.47, 0.20), (0.40, 0.50, 0.22), (0.31, 0.43, 0.24)),
    "concrete": ((0.66, 0.66, 0.65), (0.60, 0.61, 0.63), (0.70, 0.68, 0.64)),
}
_WORD_TRIES = 60
_PLACE_TRIES = 14
_MARGIN = 0.035
"""Share of the shorter side kept free round every body."""


@dataclass(frozen=True, kw_only=True)
class _Words:
    """What captions speak of, drawn before any place."""

    colors: tuple[str, ...]
    shapes: tuple[Shape, ...]
    sizes: tuple[Size, ...]
    finishes: tuple[Finish, ...]
    motions: tuple[Motion, ...]
    move: CameraMove


def sample_scene(
    seed: int,
    *,
    split: Split = "train",
    width: int = 128,
    height: int = 128,
    num_frames: int = 33,
    fps: float = 12.0,
    num_bodies: int | None = None,
) -> Scene:
    """Draw a scene.

    Args:
        seed: The same seed and arguments give the same scene.
        split: ``"train"`` never has a held-out combination of colour and shape, ``"held_out"`` has at least one.
        width: Pixels.
        height: Pixels.
        num_frames: At least 1.
        fps: Frames a second.
        num_bodies: 1 to 4; drawn if not given.

    Raises:
        InputError: an argument is out of range.
    """
    if split not in ("train", "held_out", "any"):
        raise InputError(f"split '{split}' is not known; allowed: train, held_out, any")
    if num_bodies is not None and not 1 <= num_bodies <= 4:
        raise InputError(f"a scene of {num_bodies} bodies cannot be drawn; allowed is 1 to 4")
    if min(width, height, num_frames) < 1 or not fps > 0:
        raise InputError(f"a clip of {width}x{height}, {num_frames} frames at {fps:g} a second cannot be drawn; every number must be above 0")
    rng = random.Random(seed)
    count = num_bodies or _pick(rng, _NUM_BODIES)
    floor = rng.choice(FLOORS)
    blank = Scene(
        bodies=(_placeholder(),),
        floor=floor,
        floor_color=_vary(rng, rng.choice(_FLOOR_COLORS[floor])),
        backdrop="walls" if rng.random() < 0.3 else "open",
        light=_pick(rng, _LIGHTS),
        sun_azimuth=0.0,
        camera=Camera(move="static", target=(0, 0, 0), distance=5, azimuth=0, elevation=0.3, amount=0, field_of_view=0.8),
        width=width,
        height=height,
        num_frames=num_frames,
        fps=fps,
        seed=seed,
    )
    for _ in range(_WORD_TRIES):
        words = _words(rng, count, split)
        for attempt in range(_PLACE_TRIES):
            scene = _stage(rng, blank, words, tight=0.95**attempt)
            if scene is not None:
                return scene
    raise InputError(f"no scene of {count} bodies fits a frame of {width}x{height} and {num_frames} frames; choose a squarer size or fewer bodies")


def _pick(rng: random.Random, weighted: tuple[tuple[T, int], ...]) -> T:
    return rng.choices([value for value, _ in weighted], [weight for _, weight in weighted])[0]


def _vary(rng: random.Random, color: tuple[float, float, float]) -> tuple[float, float, float]:
    bright = rng.uniform(0.92, 1.06)
    r, g, b = (round(min(1.0, max(0.0, c * bright + rng.uniform(-0.02, 0.02))), 4) for c in color)
    return r, g, b


def _words(rng: random.Random, count: int, split: Split) -> _Words:
    while True:
        colors = tuple(rng.sample(list(COLORS), count))
        shapes = tuple(rng.choice(SHAPES) for _ in range(count))
        kept = [held_out(c, s) for c, s in zip(colors, shapes, strict=True)]
        if split == "any" or any(kept) == (split == "held_out"):
            break
    motions = [_motion(rng, shapes[0], count, _FIRST), *(_motion(rng, shape, count, _OTHERS) for shape in shapes[1:])]
    if motions[0] in ("collide", "pass_behind"):
        motions[1] = "rest"
    move = _pick(rng, _MOVES)
    while move == "static" and set(motions) == {"rest"}:  # something has to change
        move = _pick(rng, _MOVES)
    return _Words(
        colors=colors,
        shapes=shapes,
        sizes=tuple(rng.choice(tuple(_RADII)) for _ in range(count)),
        finishes=tuple(_pick(rng, _FINISHES) for _ in range(count)),
        motions=tuple(motions),
        move=move,
    )


def _motion(rng: random.Random, shape: Shape, count: int, weights: tuple[tuple[Motion, int], ...]) -> Motion:
    while True:
        motion = _pick(rng, weights)
        if motion in ("collide", "pass_behind") and count == 1:
            continue
        if motion == "roll" and shape not in ("sphere", "cylinder", "capsule"):
            continue
        if motion == "slide" and shape == "sphere":
            continue
        return motion


def _placeholder() -> Body:
    return Body(
        shape="sphere",
        color="red",
        size="small",
        radius=0.3,
        finish="matte",
        motion="rest",
        direction="none",
        partner=None,
        position=(0, 0, 0.3),
        yaw=0.0,
        velocity=(0, 0, 0),
    )


def _stage(rng: random.Random, blank: Scene, words: _Words, *, tight: float) -> Scene | None:
    """Place bodies and camera for the words, or return None if what came out does not show them."""
    azimuth = rng.uniform(-math.pi, math.pi)
    bodies = _place(rng, blank, words, azimuth, tight)
    if bodies is None:
        return None
    side = rng.choice((-1, 1)) * rng.uniform(0.35, 1.25)
    scene = dataclasses.replace(blank, bodies=bodies, sun_azimuth=round((azimuth - math.pi / 2 + side) % math.tau, 4))
    trajectory = simulate(scene)
    if not _contacts_fit(scene, trajectory.contacts):
        return None
    positions, quaternions = trajectory.positions.double().numpy(), trajectory.quaternions.double().numpy()
    if not _motion_shows(scene, positions):
        return None
    balls = [_balls(body, positions[:, i], quaternions[:, i]) for i, body in enumerate(bodies)]
    camera = _aim(rng, scene, words.move, azimuth, balls)
    if camera is None:
        return None
    scene = dataclasses.replace(scene, camera=camera)
    return scene if _seen(scene, balls) else None


def _place(rng: random.Random, blank: Scene, words: _Words, azimuth: float, tight: float) -> tuple[Body, ...] | None:
    """Return bodies that start apart, laid out in the axes of the camera: u to its right, w away from it."""
    seconds = min(max((blank.num_frames - 1) / blank.fps, 1.2), 3.2)
    # small bodies move less far, so that the camera can stay near
    tight *= max(0.65, min(1.15, max(_RADII[size] for size in words.sizes) / 0.45))
    wide = max(0.8, min(1.5, blank.width / blank.height)) * tight
    placed: list[tuple[Body, tuple[float, float], tuple[float, float]]] = []
    order = sorted(range(len(words.motions)), key=lambda i: words.motions[i] != "rest" or i != 1)
    bodies: dict[int, Body] = {}
    spread = (0.55 + 0.42 * len(order)) * tight
    for i in order:
        radius = _RADII[words.sizes[i]] * _NARROW[words.shapes[i]] * rng.uniform(0.94, 1.06)
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
    rng: random.Random, words: _Words, i: int, radius: float, layout: _Layout, partner: Body | None
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


def _contacts_fit(scene: Scene, contacts: tuple[tuple[int, int, int], ...]) -> bool:
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


def _motion_shows(scene: Scene, positions: Array) -> bool:
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


def _balls(body: Body, positions: Array, quaternions: Array) -> tuple[Array, float]:
    """Return centres [T, P, 3] and the radius of balls whose hull is the body, in the world."""
    points, radius = outline(body)
    return positions[:, None] + np.einsum("tij,pj->tpi", rotation_matrix(quaternions), points), radius


def _aim(rng: random.Random, scene: Scene, move: CameraMove, azimuth: float, balls: list[tuple[Array, float]]) -> Camera | None:
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
    distance = 1.6
    for _ in range(40):
        camera = _camera(move, middle, distance, azimuth, elevation, extent, fov)
        if _framed(scene, camera, balls):
            break
        distance *= 1.07
    else:
        return None
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


def _seen(scene: Scene, balls: list[tuple[Array, float]]) -> bool:
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
            pivot = np.array(body.position) + [0, 0, pendulum_length(scene)]
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
