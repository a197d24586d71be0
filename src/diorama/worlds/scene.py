"""What a world is made of: frozen values with every attribute named, before any physics or light.

World axes: x to the right of the default camera, y away from it, z up; metres, radians, seconds; the floor is z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from diorama.errors import InputError

__all__ = [
    "CAMERA_MOVES",
    "COLORS",
    "FINISHES",
    "FLOORS",
    "LIGHTS",
    "MOTIONS",
    "SHAPES",
    "SIZES",
    "Body",
    "Camera",
    "CameraMove",
    "Scene",
    "held_out",
]

Shape = Literal["sphere", "box", "cylinder", "cone", "capsule"]
Size = Literal["small", "medium", "large"]
Finish = Literal["matte", "glossy", "mirror"]
Motion = Literal["rest", "roll", "slide", "bounce", "fall", "collide", "swing", "pass_behind"]
Direction = Literal["none", "left", "right", "toward", "away"]
Floor = Literal["checker", "stripe", "brick", "wood", "grass", "concrete"]
Backdrop = Literal["open", "walls"]
Light = Literal["day", "sunset", "night"]
CameraMove = Literal[
    "static", "orbit_left", "orbit_right", "dolly_in", "dolly_out", "crane_up", "crane_down", "pan_left", "pan_right", "tilt_up", "tilt_down"
]

SHAPES: tuple[Shape, ...] = get_args(Shape)
SIZES: tuple[Size, ...] = get_args(Size)
FINISHES: tuple[Finish, ...] = get_args(Finish)
MOTIONS: tuple[Motion, ...] = get_args(Motion)
FLOORS: tuple[Floor, ...] = get_args(Floor)
LIGHTS: tuple[Light, ...] = get_args(Light)
CAMERA_MOVES: tuple[CameraMove, ...] = get_args(CameraMove)

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.10, 0.08),
    "orange": (0.95, 0.48, 0.05),
    "yellow": (0.93, 0.85, 0.10),
    "green": (0.10, 0.60, 0.18),
    "cyan": (0.10, 0.75, 0.80),
    "blue": (0.10, 0.22, 0.85),
    "purple": (0.48, 0.12, 0.68),
    "pink": (0.96, 0.50, 0.68),
    "white": (0.92, 0.92, 0.90),
    "black": (0.05, 0.05, 0.06),
}
"""Colour names to display-referred sRGB in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """One object and what it will do."""

    shape: Shape
    color: str
    """A key of ``COLORS``."""
    size: Size
    radius: float
    """Half the object's width in metres; its height follows from the shape."""
    finish: Finish
    motion: Motion
    direction: Direction
    """Where a moving body goes as the first frame's camera sees it; ``"none"`` for rest, bounce, fall and swing in place."""
    partner: int | None
    """Index of the body that this one hits or passes behind, for ``collide`` and ``pass_behind``."""
    position: tuple[float, float, float]
    """Centre at time 0, metres."""
    yaw: float
    """Rotation about z at time 0, radians."""
    velocity: tuple[float, float, float]
    """Linear velocity at time 0, metres a second."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera move about a target."""

    move: CameraMove
    target: tuple[float, float, float]
    """Point looked at in the first frame, metres."""
    distance: float
    """Metres from the target in the first frame."""
    azimuth: float
    """Angle about z of the first frame's camera seen from the target, radians; 0 looks along +y."""
    elevation: float
    """Angle above the floor of the first frame's camera seen from the target, radians."""
    amount: float
    """Extent of the whole move: radians for orbit, pan and tilt, metres for dolly and crane."""
    field_of_view: float
    """Angle of the shorter image side, radians."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A world and the shot taken of it."""

    bodies: tuple[Body, ...]
    floor: Floor
    floor_color: tuple[float, float, float]
    """Main sRGB colour of the floor, [0, 1]; the second one follows from the pattern."""
    backdrop: Backdrop
    light: Light
    sun_azimuth: float
    """Radians about z."""
    camera: Camera
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    num_frames: int
    fps: float
    seed: int
    """What it was sampled from."""

    def __post_init__(self) -> None:
        if not self.bodies:
            raise InputError("a scene with 0 bodies cannot be made; give at least 1")
        for body in self.bodies:
            if body.color not in COLORS:
                raise InputError(f"colour '{body.color}' is not known; allowed: {', '.join(COLORS)}")


def held_out(color: str, shape: str) -> bool:
    """Return whether this combination of colour and shape is kept out of every training set.

    One pair in ten is: every colour and every shape is seen in training, these pairs are not.
    """
    return (list(COLORS).index(color) + 2 * SHAPES.index(shape)) % 10 == 4
