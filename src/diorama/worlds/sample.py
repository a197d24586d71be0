"""Drawing scenes: every attribute on its own, then places, speeds and a camera that keep the action whole in the frame.

A draw that does not show what its words say (a body leaves the frame, a mover misses its partner, bodies touch that should
not) is drawn again from the same chain of random numbers; words stay as drawn while places are tried.
"""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Literal, TypedDict, TypeVar, Unpack

from diorama.errors import InputError
from diorama.worlds.framing import aim, all_seen, balls_of, contacts_fit, motion_shows
from diorama.worlds.layout import RADII, Words, place_bodies
from diorama.worlds.physics import Trajectory, simulate
from diorama.worlds.scene import COLORS, FLOORS, SHAPES, Body, Camera, CameraMove, Finish, Floor, Light, Motion, Scene, Shape, held_out

__all__ = ["Split", "Wanted", "sample_scene", "sample_world"]

Split = Literal["train", "held_out", "any"]
T = TypeVar("T")

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


class Wanted(TypedDict, total=False):
    """Keywords of ``sample_world``, which has their defaults and says what they mean."""

    split: Split
    width: int
    height: int
    num_frames: int
    fps: float
    num_bodies: int | None


def sample_scene(seed: int, **wanted: Unpack[Wanted]) -> Scene:
    """Draw a scene; arguments and errors as ``sample_world``."""
    return sample_world(seed, **wanted)[0]


def sample_world(
    seed: int,
    *,
    split: Split = "train",
    width: int = 128,
    height: int = 128,
    num_frames: int = 33,
    fps: float = 12.0,
    num_bodies: int | None = None,
) -> tuple[Scene, Trajectory]:
    """Draw a scene and return it with its motion, which drawing had to simulate.

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
        MissingExtraError: MuJoCo is not installed.
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
            world = _stage(rng, blank, words, tight=0.95**attempt)
            if world is not None:
                return world
    raise InputError(f"no scene of {count} bodies fits a frame of {width}x{height} and {num_frames} frames; choose a squarer size or fewer bodies")


def _pick(rng: random.Random, weighted: tuple[tuple[T, int], ...]) -> T:
    return rng.choices([value for value, _ in weighted], [weight for _, weight in weighted])[0]


def _vary(rng: random.Random, color: tuple[float, float, float]) -> tuple[float, float, float]:
    bright = rng.uniform(0.92, 1.06)
    r, g, b = (round(min(1.0, max(0.0, c * bright + rng.uniform(-0.02, 0.02))), 4) for c in color)
    return r, g, b


def _words(rng: random.Random, count: int, split: Split) -> Words:
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
    return Words(
        colors=colors,
        shapes=shapes,
        sizes=tuple(rng.choice(tuple(RADII)) for _ in range(count)),
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


def _stage(rng: random.Random, blank: Scene, words: Words, *, tight: float) -> tuple[Scene, Trajectory] | None:
    """Place bodies and camera for the words, or return None if what came out does not show them."""
    azimuth = rng.uniform(-math.pi, math.pi)
    bodies = place_bodies(rng, blank, words, azimuth, tight)
    if bodies is None:
        return None
    side = rng.choice((-1, 1)) * rng.uniform(0.35, 1.25)
    scene = dataclasses.replace(blank, bodies=bodies, sun_azimuth=round((azimuth - math.pi / 2 + side) % math.tau, 4))
    trajectory = simulate(scene)
    if not contacts_fit(scene, trajectory.contacts):
        return None
    positions, quaternions = trajectory.positions.double().numpy(), trajectory.quaternions.double().numpy()
    if not motion_shows(scene, positions):
        return None
    balls = [balls_of(body, positions[:, i], quaternions[:, i]) for i, body in enumerate(bodies)]
    camera = aim(rng, scene, words.move, azimuth, balls)
    if camera is None:
        return None
    scene = dataclasses.replace(scene, camera=camera)
    return (scene, trajectory) if all_seen(scene, balls) else None
