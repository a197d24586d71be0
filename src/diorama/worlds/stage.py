"""A scene made ready for the ray tracer: poses, colours and light as numbers per frame, on one device.

The tracer keeps vectors as three separate planes (structure of arrays): rays of one frame meet plain Python numbers,
rays of many frames meet gathered tensors, and the same code serves both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.worlds.cameras import Cameras
from diorama.worlds.physics import Trajectory
from diorama.worlds.scene import COLORS, Body, Light, Scene
from diorama.worlds.solids import bounding_radius, half_height, pendulum_length

__all__ = ["LIGHTING", "Lighting", "Plane", "Rays", "Solid", "Stage", "Vec", "build_stage", "dot", "linear", "madd", "take"]

Plane = Tensor | float
"""One component of a vector for every ray: a tensor [R], or one number for all."""
Vec = tuple[Plane, Plane, Plane]
Color = tuple[float, float, float]


def madd(a: Plane, b: Plane, c: Plane) -> Plane:
    """Return ``a + b * c`` in one pass over memory."""
    if isinstance(b, float) and isinstance(c, Tensor):
        b, c = c, b
    if not isinstance(b, Tensor):
        return a + b * c
    if isinstance(a, float):
        return a + b * c
    return torch.add(a, b, alpha=c) if isinstance(c, float) else torch.addcmul(a, b, c)


def dot(a: Vec, b: Vec) -> Plane:
    """Return the dot product."""
    return madd(madd(a[0] * b[0], a[1], b[1]), a[2], b[2])


def take(values: Vec, index: Tensor) -> Vec:
    """Return the vectors at ``index``; numbers stay numbers."""
    x, y, z = (value[index] if isinstance(value, Tensor) else value for value in values)
    return x, y, z


def linear(color: tuple[float, float, float]) -> Color:
    """Return linear RGB of an sRGB colour."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color)
    return r, g, b


@dataclass(frozen=True, kw_only=True)
class Rays:
    """Rays of any frames."""

    origin: Vec
    direction: Vec
    """Camera rays advance one metre of depth per unit of distance; mirrored ones are of the same length."""
    inverse_length: Tensor
    """1 / length of the direction, [R]."""
    frame: int | Tensor
    """The frame of all rays, or of each, [R]."""
    footprint: Plane
    """Width of a pixel in metres per unit of distance."""


@dataclass(frozen=True, kw_only=True)
class Lighting:
    """Light of a time of day, in linear RGB."""

    sun: Color
    """Irradiance of a surface that faces the sun or moon."""
    ambient: Color
    """From above."""
    bounce: float
    """Share of the ambient that comes from below."""
    elevation: float
    """Of the sun, radians."""
    horizon: Color
    zenith: Color


LIGHTING: dict[Light, Lighting] = {
    "day": Lighting(
        sun=(0.86, 0.82, 0.74), ambient=(0.31, 0.34, 0.39), bounce=0.6, elevation=0.92, horizon=(0.72, 0.82, 0.92), zenith=(0.22, 0.42, 0.78)
    ),
    "sunset": Lighting(
        sun=(0.98, 0.60, 0.34), ambient=(0.30, 0.27, 0.31), bounce=0.6, elevation=0.42, horizon=(0.95, 0.52, 0.25), zenith=(0.22, 0.20, 0.42)
    ),
    "night": Lighting(
        sun=(0.41, 0.43, 0.50), ambient=(0.14, 0.15, 0.20), bounce=0.5, elevation=0.85, horizon=(0.035, 0.055, 0.13), zenith=(0.006, 0.010, 0.035)
    ),
}


@dataclass(frozen=True, kw_only=True)
class Solid:
    """One body for the tracer; tables are indexed by frame."""

    body: Body
    height: float
    """Half of it, along its own z axis, metres."""
    bound: float
    """Radius of the bounding ball, metres."""
    albedo: Color
    poses: Tensor
    """[T, 12]: centre, then the rows of the world-to-body rotation."""
    shadows: Tensor
    """[T, 12]: three directions across the sun's (box: of its edges; else across and along the axis), three half extents along them or sines."""
    table: tuple[list[list[float]], list[list[float]]]
    """The same as lists, for rays of one frame."""

    def pose(self, frame: int | Tensor) -> tuple[Vec, tuple[Vec, Vec, Vec]]:
        """Return centre and world-to-body rows."""
        p = self.table[0][frame] if isinstance(frame, int) else self.poses[frame].unbind(-1)
        return (p[0], p[1], p[2]), ((p[3], p[4], p[5]), (p[6], p[7], p[8]), (p[9], p[10], p[11]))

    def shadow(self, frame: int | Tensor) -> tuple[tuple[Vec, Vec, Vec], Vec]:
        """Return directions and extents of the silhouette that the sun sees."""
        p = self.table[1][frame] if isinstance(frame, int) else self.shadows[frame].unbind(-1)
        return ((p[0], p[1], p[2]), (p[3], p[4], p[5]), (p[6], p[7], p[8])), (p[9], p[10], p[11])


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Everything the tracer needs of a clip."""

    scene: Scene
    lighting: Lighting
    sun: Color
    """Unit vector towards the sun."""
    solids: tuple[Solid, ...]
    origins: Tensor
    """Camera positions [T, 3]."""
    rotations: Tensor
    """World-to-camera rotations [T, 9]."""
    focal: float
    floor: tuple[Color, Color]
    """Linear main and second colour."""
    wall: tuple[Color, Color]
    """Linear colour of the walls and of their foot."""
    room: tuple[float, float, float, float]
    """Centre x and y, half width and height of the walls, metres."""
    strings: tuple[tuple[int, Color], ...]
    """Body index and pivot of every string."""


def build_stage(scene: Scene, trajectory: Trajectory, cameras: Cameras, device: torch.device) -> Stage:
    """Return the stage of a clip on ``device``."""
    lighting = LIGHTING[scene.light]
    level = math.cos(lighting.elevation)
    sun = (math.cos(scene.sun_azimuth) * level, math.sin(scene.sun_azimuth) * level, math.sin(lighting.elevation))
    rotation = cameras.world_to_camera[:, :3, :3]
    origins = -(rotation.transpose(1, 2) @ cameras.world_to_camera[:, :3, 3:])[..., 0]
    reach = float((origins[:, :2] - torch.tensor(scene.camera.target[:2])).abs().max())
    solids = tuple(_solid(body, trajectory.positions[:, i], trajectory.quaternions[:, i], sun, device) for i, body in enumerate(scene.bodies))
    length = pendulum_length(scene)
    return Stage(
        scene=scene,
        lighting=lighting,
        sun=sun,
        solids=solids,
        origins=origins.to(device),
        rotations=rotation.reshape(-1, 9).to(device),
        focal=float(cameras.intrinsics[0, 0]),
        floor=_floor_colors(scene),
        wall=_wall_colors(scene),
        room=(scene.camera.target[0], scene.camera.target[1], max(4.0, 1.1 * reach + 0.3), 2.8),
        strings=tuple((i, (b.position[0], b.position[1], b.position[2] + length)) for i, b in enumerate(scene.bodies) if b.motion == "swing"),
    )


def _floor_colors(scene: Scene) -> tuple[Color, Color]:
    shade = {"checker": 0.42, "stripe": 0.5, "brick": 1.45, "wood": 0.62, "grass": 1.35, "concrete": 0.8}[scene.floor]
    main = linear(scene.floor_color)
    second = tuple(min(1.0, c * shade) for c in main)
    if scene.floor == "brick":  # mortar is paler and greyer than the brick
        second = tuple(0.5 * c + 0.5 * 0.45 for c in main)
    if scene.floor == "grass":
        second = (min(1.0, main[0] * 1.6), min(1.0, main[1] * 1.3), main[2])
    return main, (second[0], second[1], second[2])


def _wall_colors(scene: Scene) -> tuple[Color, Color]:
    r, g, b = linear(scene.floor_color)
    mean = (r + g + b) / 3
    wall = (0.55 + 0.25 * (mean - b), 0.54 + 0.1 * (mean - r), 0.50 + 0.25 * (b - r))
    return wall, (0.35 * wall[0], 0.33 * wall[1], 0.32 * wall[2])


def _solid(body: Body, positions: Tensor, quaternions: Tensor, sun: Color, device: torch.device) -> Solid:
    w, x, y, z = quaternions.unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], -1),
        torch.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], -1),
        torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    poses = torch.cat([positions, *rows], -1)
    shadows = _silhouette(body, rows, torch.tensor(sun))
    red, green, blue = linear(COLORS[body.color])
    return Solid(
        body=body,
        height=half_height(body.shape, body.radius),
        bound=bounding_radius(body.shape, body.radius),
        albedo=(max(red, 0.014), max(green, 0.014), max(blue, 0.014)),  # else black shows no form
        poses=poses.to(device),
        shadows=shadows.to(device),
        table=(poses.tolist(), shadows.tolist()),
    )


def _silhouette(body: Body, axes: list[Tensor], sun: Tensor) -> Tensor:
    """Return the outline of a body as the sun sees it, [T, 12] (see ``Solid.shadows``)."""
    light = sun.expand_as(axes[0])
    if body.shape == "box":
        normals = [_unit(torch.linalg.cross(light, axis)) for axis in axes]
        extents = [sum((body.radius * (other * normal).sum(-1).abs() for other in axes), torch.zeros(len(light))) for normal in normals]
        return torch.cat([*normals, torch.stack(extents, -1)], -1)
    across = _unit(torch.linalg.cross(light, axes[2]))
    along = torch.linalg.cross(across, light)
    sine, cosine = (along * axes[2]).sum(-1), (light * axes[2]).sum(-1).abs()
    return torch.cat([across, along, light, torch.stack([sine, cosine.clamp(min=0.12), sine * 0], -1)], -1)


def _unit(vector: Tensor) -> Tensor:
    length = vector.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-4, vector / length.clamp(min=1e-4), torch.tensor([1.0, 0.0, 0.0]))
