"""What light does: sky, floor, walls and bodies under a sun with soft shadows, mirrors by one reflection, haze.

Shadows are exact outlines with an analytic penumbra, so nothing here is random and one ray a pixel shows no noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.worlds.intersect import candidates, hit_solid, hit_walls, silhouette_depth
from diorama.worlds.solids import rolls
from diorama.worlds.stage import Plane, Rays, Solid, Stage, Vec, dot, madd, take
from diorama.worlds.textures import Ground, pattern

__all__ = ["FAR", "Traced", "trace"]

FAR = 1e4
_HAZE = 45.0
_SKY = 4000
_WALL = 2000


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What rays see, [R] each."""

    color: list[Tensor]
    """Linear red, green, blue."""
    distance: Tensor
    """Along the ray, infinite for the sky."""
    surface: Tensor
    """int32: eight times the body's number (from 1) plus its face; 0 the floor; others beyond."""


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Points on bodies where light is wanted, [K] each."""

    position: Vec
    normal: tuple[Tensor, Tensor, Tensor]
    frame: int | Tensor
    surface: Tensor
    band: Tensor
    blur: Tensor
    """Width of a pixel on the surface, metres."""
    view: Vec
    """Unit direction from the eye."""


def trace(stage: Stage, rays: Rays, *, reflect: bool = True) -> Traced:
    """Return what the rays see.

    Args:
        stage: The clip.
        rays: Any rays that start outside every body and above the floor.
        reflect: Whether mirrors reflect; seen in another mirror they only shine.
    """
    down = _as_tensor(rays.direction[2])
    # rays at or above the horizon meet the floor beyond everything
    distance = torch.where(down < -1e-5, -rays.origin[2] / down.clamp(max=-1e-5), math.inf)
    surface = torch.where(distance < FAR, 0, _SKY).int()
    walls: tuple[Tensor, Tensor] | None = None
    if stage.scene.backdrop == "walls":
        walls = hit_walls(rays, stage.room)
        height = madd(rays.origin[2], rays.direction[2], walls[0])
        inside = (walls[0] < distance) & (height < stage.room[3])
        distance = torch.where(inside, walls[0], distance)
        surface = torch.where(inside, walls[1].int() + _WALL, surface)
    color = _background(stage, rays, distance, surface)
    if walls is not None:
        _paint_walls(stage, rays, distance, surface, color)
    _paint_bodies(stage, rays, color, distance, surface, reflect)
    for index, pivot in stage.strings:
        _draw_string(stage, rays, stage.solids[index], pivot, (color, distance))
    return Traced(color=color, distance=distance, surface=surface)


def _as_tensor(plane: Plane) -> Tensor:
    assert isinstance(plane, Tensor)
    return plane


def _background(stage: Stage, rays: Rays, distance: Tensor, surface: Tensor) -> list[Tensor]:
    """Return floor and sky for every ray, hazed into one another at the horizon."""
    light = stage.lighting
    up = (rays.direction[2] * rays.inverse_length).clamp_(0, 1)
    blend = (up * 2.2 - up * up * 1.2).clamp_(0, 1)
    sky = [madd(h, blend, z - h) for h, z in zip(light.horizon, light.zenith, strict=True)]
    # a level camera sees no floor in its upper rows
    first = int((surface == 0).int().argmax())
    low = _from(rays, first)
    reach = distance[first:].clamp(max=FAR)
    floor = _floor_light(stage, low, reach)
    meters = reach / low.inverse_length
    clear = torch.exp((meters * meters * (-1 / _HAZE**2)).clamp_(min=-20))
    for s, f in zip(sky, floor, strict=True):
        _as_tensor(s)[first:].lerp_(f, clear)
    return [_as_tensor(s) for s in sky]


def _from(rays: Rays, first: int) -> Rays:
    def cut(plane: Plane) -> Plane:
        return plane[first:] if isinstance(plane, Tensor) else plane

    return Rays(
        origin=(cut(rays.origin[0]), cut(rays.origin[1]), cut(rays.origin[2])),
        direction=(cut(rays.direction[0]), cut(rays.direction[1]), cut(rays.direction[2])),
        inverse_length=rays.inverse_length[first:],
        frame=rays.frame if isinstance(rays.frame, int) else rays.frame[first:],
        footprint=cut(rays.footprint),
    )


def _floor_light(stage: Stage, rays: Rays, distance: Tensor) -> list[Tensor]:
    dx, dy, dz = (_as_tensor(d) for d in rays.direction)
    point = (_as_tensor(madd(rays.origin[0], dx, distance)), _as_tensor(madd(rays.origin[1], dy, distance)), 0.0)
    # a pixel covers an ellipse of the floor: `minor` wide, longer along the view
    minor = distance * rays.footprint
    level = torch.rsqrt((dx * dx + dy * dy).clamp(min=1e-8))
    major = minor / (dz.abs() * rays.inverse_length).clamp(min=1e-3)
    cx, cy = (dx * level).abs(), (dy * level).abs()
    ground = Ground(x=point[0], y=point[1], width_x=major * cx + minor * cy, width_y=major * cy + minor * cx)
    share, factor = pattern(stage.scene.floor, ground)
    blur = (0.5 * minor + 0.5 * major).clamp(max=4.0)
    open_sky = torch.ones_like(dx)
    lit: Tensor | None = None
    for solid in stage.solids:
        center, _ = solid.pose(rays.frame)
        offset = (point[0] - center[0], point[1] - center[1], -center[2])
        shade = _shadow(stage, solid, offset, blur, rays.frame)
        lit = shade if lit is None else lit * shade
        open_sky = open_sky * _contact(solid, offset, center[2])
    assert lit is not None
    sun, ambient, slope = stage.lighting.sun, stage.lighting.ambient, stage.sun[2]
    colors = []
    for k in range(3):
        light = torch.add(lit * (sun[k] * slope), open_sky, alpha=ambient[k]).mul_(factor)
        first, second = stage.floor[0][k], stage.floor[1][k]
        colors.append(light.mul_(share * (second - first) + first))
    return colors


def _shadow(stage: Stage, solid: Solid, offset: Vec, blur: Plane, frame: int | Tensor) -> Tensor:
    """Return the share of the sun in [0, 1] that gets past one solid."""
    x, y, z = stage.sun
    ahead = -_as_tensor(dot(offset, (x, y, z)))
    inside = silhouette_depth(solid, offset, frame)
    edge = ahead.clamp(min=0) * 0.07 + blur + 0.015
    cover = (inside / edge + 0.5).clamp_(0, 1)
    return 1 - cover * (ahead > 0)


def _contact(solid: Solid, offset: Vec, height: Plane) -> Tensor:
    """Return the share of the sky in [0, 1] that a ball of the solid's size leaves to the floor below it."""
    size = math.sqrt(solid.body.radius * solid.height)
    x, y = _as_tensor(offset[0]), _as_tensor(offset[1])
    lift = height.clamp(min=size) if isinstance(height, Tensor) else max(height, size)
    inverse = torch.rsqrt(x * x + y * y + lift * lift)
    return 1 - (0.75 * size * size) * lift * (inverse * inverse * inverse)


def _paint_walls(stage: Stage, rays: Rays, distance: Tensor, surface: Tensor, color: list[Tensor]) -> None:
    index = ((surface >= _WALL) & (surface < _SKY)).nonzero().squeeze(-1)
    t = distance[index]
    origin, direction = take(rays.origin, index), take(rays.direction, index)
    point = (madd(origin[0], direction[0], t), madd(origin[1], direction[1], t), _as_tensor(madd(origin[2], direction[2], t)))
    across_x = surface[index] == _WALL + 1
    facing = torch.where(across_x, -stage.sun[0] * _as_tensor(direction[0]).sign(), -stage.sun[1] * _as_tensor(direction[1]).sign()).clamp(min=0)
    frame = rays.frame if isinstance(rays.frame, int) else rays.frame[index]
    width = t * (rays.footprint[index] if isinstance(rays.footprint, Tensor) else rays.footprint) + 1e-4
    for solid in stage.solids:
        center, _ = solid.pose(frame)
        facing = facing * _shadow(stage, solid, (point[0] - center[0], point[1] - center[1], point[2] - center[2]), width, frame)
    foot = ((0.18 - point[2]) / width + 0.5).clamp_(0, 1)
    corner = 1 - 0.25 * torch.exp(-1.5 * point[2])
    for k in range(3):
        light = (facing * (0.8 * stage.lighting.sun[k]) + 1.05 * stage.lighting.ambient[k]) * corner
        color[k][index] = light * torch.lerp(torch.full_like(foot, stage.wall[0][k]), torch.full_like(foot, stage.wall[1][k]), foot)


def _paint_bodies(stage: Stage, rays: Rays, color: list[Tensor], distance: Tensor, surface: Tensor, reflect: bool) -> None:
    """Write what bodies show over the background, in place."""
    hits = []
    for number, solid in enumerate(stage.solids, 1):
        index = candidates(rays, solid)
        if not index.numel():
            continue
        hit = hit_solid(rays, index, solid)
        hits.append((number, index, hit))
        nearer = hit.distance < distance[index]
        distance[index] = torch.where(nearer, hit.distance, distance[index])
        surface[index] = torch.where(nearer, hit.face + 8 * number, surface[index])
    for number, index, hit in hits:
        seen = ((distance[index] == hit.distance) & hit.distance.isfinite()).nonzero().squeeze(-1)
        if not seen.numel():
            continue
        index = index[seen]
        t = hit.distance[seen]
        origin, direction, inverse = take(rays.origin, index), take(rays.direction, index), rays.inverse_length[index]
        normal = tuple(n[seen] for n in hit.normal)
        blur = t * (rays.footprint[index] if isinstance(rays.footprint, Tensor) else rays.footprint)
        points = _Points(
            position=(madd(origin[0], direction[0], t), madd(origin[1], direction[1], t), madd(origin[2], direction[2], t)),
            normal=(normal[0], normal[1], normal[2]),
            frame=rays.frame if isinstance(rays.frame, int) else rays.frame[index],
            surface=surface[index],
            band=hit.band[seen],
            blur=blur,
            view=(direction[0] * inverse, direction[1] * inverse, direction[2] * inverse),
        )
        shown = _body_light(stage, points, number)
        if stage.solids[number - 1].body.finish == "mirror" and reflect:
            shown = _mirror(stage, points, 1 / inverse, stage.solids[number - 1], shown)
        for k in range(3):
            color[k][index] = shown[k]


def _body_light(stage: Stage, points: _Points, number: int) -> list[Tensor]:
    solid, light = stage.solids[number - 1], stage.lighting
    facing = _as_tensor(dot(points.normal, stage.sun)).clamp(min=0)
    lit = (facing > 0).float()
    for other in stage.solids:
        if other is not solid:
            center, _ = other.pose(points.frame)
            offset = (points.position[0] - center[0], points.position[1] - center[1], points.position[2] - center[2])
            lit = lit * _shadow(stage, other, offset, points.blur, points.frame)
    facing = facing * lit
    above = 0.5 + 0.5 * points.normal[2]
    # what is near the floor sees less of the sky
    near_floor = (_as_tensor(points.position[2]) * (0.45 / solid.body.radius) + 0.55).clamp_(0, 1)
    shine = _shine(stage, points) * lit if solid.body.finish != "matte" else None
    if rolls(solid.body):
        band = ((0.3 - points.band.abs()) * (solid.body.radius / points.blur.clamp(min=1e-4)) + 0.5).clamp_(0, 1)
    shown = []
    for k in range(3):
        low = light.bounce * light.ambient[k] * 1.3 * (0.4 + stage.floor[0][k])
        ambient = (above * (light.ambient[k] - low) + low) * near_floor
        albedo: Plane = solid.albedo[k]
        if rolls(solid.body):
            albedo = solid.albedo[k] + band * _stripe(solid.albedo[k], solid.body.color)
        out = torch.add(ambient, facing, alpha=light.sun[k]) * albedo
        if shine is not None:
            out = torch.add(out, shine, alpha=light.sun[k])
        shown.append(out)
    return shown


def _stripe(albedo: float, color: str) -> float:
    """Return what the stripe round a rolling body adds to its albedo: it makes the turning visible."""
    return 0.06 if color == "black" else -0.6 * albedo


def _shine(stage: Stage, points: _Points) -> Tensor:
    """Return the Blinn-Phong highlight of a glossy body."""
    half = tuple(s - v for s, v in zip(stage.sun, points.view, strict=True))
    vector = (half[0], half[1], half[2])
    cosine = _as_tensor(dot(points.normal, vector)) * torch.rsqrt(_as_tensor(dot(vector, vector)).clamp(min=1e-6))
    power = cosine.clamp_(min=0)
    for _ in range(6):  # to the 64th
        power = power * power
    return 0.55 * power


def _mirror(stage: Stage, points: _Points, length: Tensor, solid: Solid, own: list[Tensor]) -> list[Tensor]:
    """Return the body's colour with the world reflected in it."""
    cosine = _as_tensor(dot(points.view, points.normal))
    direction = tuple(_as_tensor(v) - 2 * cosine * n for v, n in zip(points.view, points.normal, strict=True))
    scaled = (direction[0] * length, direction[1] * length, direction[2] * length)
    x, y, z = (_as_tensor(madd(_as_tensor(p), n, 2e-3)) for p, n in zip(points.position, points.normal, strict=True))
    curved = 1.0 if solid.body.shape == "box" else 4.0
    rays = Rays(
        origin=(x, y, z.clamp(min=1e-3)),
        direction=scaled,
        inverse_length=1 / length,
        frame=points.frame,
        footprint=curved * points.blur / length + 0.004,
    )
    seen = trace(stage, rays, reflect=False)
    edge = (1 + cosine).clamp(0, 1) ** 3
    shown = []
    for k in range(3):
        tint = 0.25 + 0.7 * solid.albedo[k]
        shown.append(0.35 * own[k] + seen.color[k] * (tint + (1 - tint) * edge))
    return shown


def _draw_string(stage: Stage, rays: Rays, solid: Solid, pivot: tuple[float, float, float], layers: tuple[list[Tensor], Tensor]) -> None:
    """Blend a thin string between a body and its pivot over the picture, its width filtered by the pixel."""
    color, distance = layers
    center, _ = solid.pose(rays.frame)
    line = (center[0] - pivot[0], center[1] - pivot[1], center[2] - pivot[2])
    offset = (rays.origin[0] - pivot[0], rays.origin[1] - pivot[1], rays.origin[2] - pivot[2])
    d = rays.direction
    dd, dl, ll = _as_tensor(dot(d, d)), _as_tensor(dot(d, line)), dot(line, line)
    do, lo = _as_tensor(dot(d, offset)), dot(line, offset)
    # closest points of the ray and the string
    s = ((dd * lo - dl * do) / (dd * ll - dl * dl).clamp(min=1e-9)).clamp_(0, 1)
    t = (dl * s - do) / dd
    gap = tuple(madd(madd(o, di, t), -s, li) for o, di, li in zip(offset, d, line, strict=True))
    away = _as_tensor(dot((gap[0], gap[1], gap[2]), (gap[0], gap[1], gap[2]))).sqrt()
    width = t.clamp(min=0) * rays.footprint + 1e-5
    thick = 0.022
    cover = ((0.5 * (width + thick) - away) / width).clamp_(0, 1) * (thick / torch.maximum(width, torch.full_like(width, thick)))
    cover = torch.where((t > 0) & (t < distance), cover, 0.0)
    for k in range(3):
        tone = 0.12 * (stage.lighting.ambient[k] + 0.5 * stage.lighting.sun[k])
        color[k] += cover * (tone - color[k])
