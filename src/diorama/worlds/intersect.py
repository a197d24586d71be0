"""Where rays meet things: the solids in their own axes, the floor and the walls, and the shadow that a solid throws.

Every function takes planes (see ``stage``) and returns planes. A miss is an infinite distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.worlds.stage import Plane, Rays, Solid, Vec, dot, madd, take

__all__ = ["Hit", "candidates", "hit_solid", "hit_walls", "silhouette_depth"]

_NEAR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Hit:
    """Where some rays meet one solid."""

    distance: Tensor
    """[K], infinite for a miss."""
    normal: tuple[Tensor, Tensor, Tensor]
    """Outward, unit, world axes."""
    face: Tensor
    """int32 [K]: a number per smooth piece of the surface."""
    band: Tensor
    """Position along the solid's own x axis in radii, [K]."""


def candidates(rays: Rays, solid: Solid) -> Tensor:
    """Return indices of the rays that meet the solid's bounding ball in front of them."""
    center, _ = solid.pose(rays.frame)
    offset = (rays.origin[0] - center[0], rays.origin[1] - center[1], rays.origin[2] - center[2])
    along = dot(rays.direction, offset) * rays.inverse_length
    gap = dot(offset, offset) - solid.bound**2
    near = (along * along > gap) & (along < 0)
    return near.nonzero().squeeze(-1)


def hit_solid(rays: Rays, index: Tensor, solid: Solid) -> Hit:
    """Return where the rays at ``index`` first meet the solid from outside."""
    frame = rays.frame if isinstance(rays.frame, int) else rays.frame[index]
    center, rows = solid.pose(frame)
    origin, direction = take(rays.origin, index), take(rays.direction, index)
    offset = (origin[0] - center[0], origin[1] - center[1], origin[2] - center[2])
    o = (dot(rows[0], offset), dot(rows[1], offset), dot(rows[2], offset))
    d = tuple(_tensor(dot(row, direction)) for row in rows)
    r, h = solid.body.radius, solid.height
    distance, normal, face = _SHAPES[solid.body.shape](o, (d[0], d[1], d[2]), r, h)
    columns = [(rows[0][k], rows[1][k], rows[2][k]) for k in range(3)]
    world = tuple(_tensor(dot(column, normal)) for column in columns)
    finite = torch.where(distance.isfinite(), distance, 0.0)
    band = _tensor(madd(o[0], d[0], finite)) / r
    return Hit(distance=distance, normal=(world[0], world[1], world[2]), face=face, band=band)


def _tensor(plane: Plane) -> Tensor:
    assert isinstance(plane, Tensor)
    return plane


_Local = tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]
_Direction = tuple[Tensor, Tensor, Tensor]


def _away_from_zero(d: Tensor) -> Tensor:
    return torch.where(d.abs() < 1e-9, 1e-9, d)


def _at(o: Plane, d: Tensor, t: Tensor) -> Tensor:
    return _tensor(madd(o, d, t))


def _sphere(o: Vec, d: _Direction, r: float, h: float) -> _Local:
    a, b = _tensor(dot(d, d)), _tensor(dot(d, o))
    c = dot(o, o) - r * r
    disc = b * b - a * c
    t = (-b - disc.clamp(min=0).sqrt()) / a
    normal = (_at(o[0], d[0], t) / r, _at(o[1], d[1], t) / r, _at(o[2], d[2], t) / r)
    hit = (disc > 0) & (t > _NEAR)
    return torch.where(hit, t, math.inf), normal, torch.zeros_like(t, dtype=torch.int32)


def _box(o: Vec, d: _Direction, r: float, h: float) -> _Local:
    near, far = [], []
    for k in range(3):
        inverse = 1 / _away_from_zero(d[k])
        middle, half = inverse * o[k], inverse.abs() * r
        near.append(-middle - half)
        far.append(half - middle)
    t = torch.maximum(torch.maximum(near[0], near[1]), near[2])
    out = torch.minimum(torch.minimum(far[0], far[1]), far[2])
    is_x = near[0] == t
    is_y = (near[1] == t) & ~is_x
    is_z = ~(is_x | is_y)
    normal = (torch.where(is_x, -d[0].sign(), 0.0), torch.where(is_y, -d[1].sign(), 0.0), torch.where(is_z, -d[2].sign(), 0.0))
    face = (1.5 * normal[0] + 2.5 * normal[1] + 3.5 * normal[2] + 3.5).int()
    return torch.where((t < out) & (t > _NEAR), t, math.inf), normal, face


def _cylinder(o: Vec, d: _Direction, r: float, h: float) -> _Local:
    a = (d[0] * d[0] + d[1] * d[1]).clamp(min=1e-12)
    b = _tensor(madd(d[0] * o[0], d[1], o[1]))
    c = o[0] * o[0] + o[1] * o[1] - r * r
    disc = b * b - a * c
    root = disc.clamp(min=0).sqrt()
    inverse = 1 / _away_from_zero(d[2])
    middle, half = inverse * o[2], inverse.abs() * h
    side, cap = (-b - root) / a, -middle - half
    t = torch.maximum(side, cap)
    out = torch.minimum((root - b) / a, half - middle)
    on_cap = cap > side
    x, y = _at(o[0], d[0], t), _at(o[1], d[1], t)
    normal = (torch.where(on_cap, 0.0, x / r), torch.where(on_cap, 0.0, y / r), torch.where(on_cap, -d[2].sign(), 0.0))
    hit = (disc > 0) & (t < out) & (t > _NEAR)
    return torch.where(hit, t, math.inf), normal, on_cap.int()


def _cone(o: Vec, d: _Direction, r: float, h: float) -> _Local:
    """Apex at z = h, base at z = -h."""
    k = r / (2 * h)
    below, fall = h - o[2], -d[2]  # distance below the apex, and its change along the ray
    a = d[0] * d[0] + d[1] * d[1] - k * k * fall * fall
    a = torch.where(a.abs() < 1e-7, 1e-7, a)
    b = _tensor(madd(d[0] * o[0], d[1], o[1])) - k * k * (fall * below)
    c = o[0] * o[0] + o[1] * o[1] - k * k * (below * below)
    disc = b * b - a * c
    root = disc.clamp(min=0).sqrt()
    best = torch.full_like(root, math.inf)
    for t in ((-b - root) / a, (root - b) / a):
        depth = _at(below, fall, t)
        ok = (disc > 0) & (depth > 0) & (depth < 2 * h) & (t > _NEAR)
        best = torch.minimum(best, torch.where(ok, t, math.inf))
    base = (-h - o[2]) / _away_from_zero(d[2])
    x, y = _at(o[0], d[0], base), _at(o[1], d[1], base)
    base = torch.where((x * x + y * y < r * r) & (base > _NEAR), base, math.inf)
    on_base = base < best
    best = torch.minimum(best, base)
    t = torch.where(best.isfinite(), best, 0.0)
    x, y = _at(o[0], d[0], t), _at(o[1], d[1], t)
    level = 1 / math.hypot(1, k)
    scale = level * torch.rsqrt((x * x + y * y).clamp(min=1e-12))
    normal = (torch.where(on_base, 0.0, x * scale), torch.where(on_base, 0.0, y * scale), torch.where(on_base, -1.0, k * level))
    return best, normal, on_base.int()


def _capsule(o: Vec, d: _Direction, r: float, h: float) -> _Local:
    a = (d[0] * d[0] + d[1] * d[1]).clamp(min=1e-12)
    b = _tensor(madd(d[0] * o[0], d[1], o[1]))
    c = o[0] * o[0] + o[1] * o[1] - r * r
    disc = b * b - a * c
    side = (-b - disc.clamp(min=0).sqrt()) / a
    half = h - r
    z = _at(o[2], d[2], side)
    end = z.clamp(-half, half)
    rise = o[2] - end
    q = _tensor(dot(d, d))
    e = b + d[2] * rise
    round_disc = e * e - q * (c + rise * rise)
    round_end = (-e - round_disc.clamp(min=0).sqrt()) / q
    on_side = z.abs() <= half
    t = torch.where(on_side, side, round_end)
    hit = (disc > 0) & (on_side | (round_disc > 0)) & (t > _NEAR)
    t = torch.where(hit, t, 0.0)
    z = _at(o[2], d[2], t)
    normal = (_at(o[0], d[0], t) / r, _at(o[1], d[1], t) / r, (z - z.clamp(-half, half)) / r)
    return torch.where(hit, t, math.inf), normal, torch.zeros_like(t, dtype=torch.int32)


_SHAPES = {"sphere": _sphere, "box": _box, "cylinder": _cylinder, "cone": _cone, "capsule": _capsule}


def hit_walls(rays: Rays, room: tuple[float, float, float, float]) -> tuple[Tensor, Tensor]:
    """Return the distance [R] to the four upright walls about the rays' origins, and whether it is one across x, [R].

    Args:
        rays: They start inside.
        room: Centre x and y, half width and height, metres.
    """
    x, y, half, _ = room
    first = _wall(rays.origin[0] - x, rays.direction[0], half)
    second = _wall(rays.origin[1] - y, rays.direction[1], half)
    return torch.minimum(first, second), first < second


def _wall(offset: Plane, direction: Plane, half: float) -> Tensor:
    inverse = 1 / _away_from_zero(_tensor(direction))
    return inverse.abs() * half - inverse * offset


def silhouette_depth(solid: Solid, offset: Vec, frame: int | Tensor) -> Tensor:
    """Return how far inside the solid's outline, as the sun sees it, points lie; negative outside, metres.

    Args:
        solid: What throws the shadow.
        offset: Points minus the solid's centre.
        frame: Of each point.
    """
    (n0, n1, n2), extent = solid.shadow(frame)
    r, h = solid.body.radius, solid.height
    x, y = _tensor(dot(offset, n0)), _tensor(dot(offset, n1))
    if solid.body.shape == "sphere":
        return r - (x * x + y * y).sqrt()
    if solid.body.shape == "box":
        z = _tensor(dot(offset, n2))
        return torch.minimum(torch.minimum(extent[0] - x.abs(), extent[1] - y.abs()), extent[2] - z.abs())
    sine, cosine = extent[0], extent[1]
    if solid.body.shape == "capsule":
        beyond = (y.abs() - sine * (h - r)).clamp(min=0)
        return r - (x * x + beyond * beyond).sqrt()
    x = x.abs() / r
    if solid.body.shape == "cylinder":
        arc = (1 - x * x).clamp(min=0).sqrt()
        return torch.minimum(r - x * r, sine * h + (cosine * r) * arc - y.abs())
    # a cone: the hull of the base's ellipse and the apex, in coordinates where the ellipse is the unit circle
    y = (y + sine * h) / (cosine * r)
    reach = 2 * h * sine / (cosine * r)
    reach = reach.clamp(min=1.0) if isinstance(reach, Tensor) else max(1.0, reach)
    rise = 1 / reach
    level = (1 - rise * rise) ** 0.5
    outside = torch.where(y * level > x * rise, x * level + y * rise, (x * x + y * y).sqrt())
    return (1 - outside) * r
