"""Compiled loops of the radiance field: where to look along rays, the grid's lookups and their gradient.

Import this module only from inside a function: numba is in the extra ``geometry``. The twins are ``occupancy.march_plain``
and ``encoding.gather_plain``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diorama.geometry.compiled import compiled
from diorama.geometry.encoding import FEATURES, PRIMES

__all__ = ["Found", "Ground", "Lines", "gather", "march", "scatter"]

Array = NDArray[Any]

_ONE = np.float32(1)
_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_QUARTER = np.float32(0.25)
_TWO = np.float32(2)
_PRIME_Y, _PRIME_Z = np.uint32(PRIMES[1]), np.uint32(PRIMES[2])
assert FEATURES == 4, "the loops below are written out for four features"


@compiled(fast=True)
def _row(x, y, z, side, mask):  # type: ignore[no-untyped-def]  # numba infers the types
    if mask == 0:
        return (np.int64(z) * side + y) * side + x
    return np.int64((np.uint32(x) ^ (np.uint32(y) * _PRIME_Y) ^ (np.uint32(z) * _PRIME_Z)) & np.uint32(mask))


@compiled(fast=True)
def gather(first, last, points, table, starts, sides, masks, out):  # type: ignore[no-untyped-def]
    """Interpolate all points on levels ``first`` to ``last`` - 1; level by level, because one level's table fits into a cache.

    Args:
        first: Start of the range of levels.
        last: End of the range.
        points: float32 [N, 3] in [0, 1].
        table: float32 [rows, 4].
        starts: int64 [L], a level's first row.
        sides: int64 [L], vertices along a side.
        masks: int64 [L], rows of a hashed level less 1; 0 for a dense level.
        out: Output, float32 [N, 4 L].
    """
    for level in range(first, last):
        side, mask, start = sides[level], masks[level], starts[level]
        scale = np.float32(side - 1)
        for i in range(points.shape[0]):
            fx, fy, fz = points[i, 0] * scale, points[i, 1] * scale, points[i, 2] * scale
            x, y, z = min(np.int64(fx), side - 2), min(np.int64(fy), side - 2), min(np.int64(fz), side - 2)
            fx, fy, fz = fx - np.float32(x), fy - np.float32(y), fz - np.float32(z)
            a = b = c = d = _ZERO
            for corner in range(8):
                dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                weight = (fx if dx else _ONE - fx) * (fy if dy else _ONE - fy) * (fz if dz else _ONE - fz)
                row = start + _row(x + dx, y + dy, z + dz, side, mask)
                a += weight * table[row, 0]
                b += weight * table[row, 1]
                c += weight * table[row, 2]
                d += weight * table[row, 3]
            out[i, 4 * level], out[i, 4 * level + 1], out[i, 4 * level + 2], out[i, 4 * level + 3] = a, b, c, d


@compiled(fast=True)
def scatter(first, last, points, gradient, starts, sides, masks, out):  # type: ignore[no-untyped-def]
    """Add the gradient of all points into levels ``first`` to ``last`` - 1 of the table.

    Args:
        first: Start of the range of levels.
        last: End of the range.
        points: float32 [N, 3] in [0, 1].
        gradient: float32 [N, 4 L].
        starts: See ``gather``.
        sides: int64 [L].
        masks: int64 [L].
        out: Added to, float32 [rows, 4].
    """
    for level in range(first, last):
        side, mask, start = sides[level], masks[level], starts[level]
        scale = np.float32(side - 1)
        for i in range(points.shape[0]):
            a, b, c, d = gradient[i, 4 * level], gradient[i, 4 * level + 1], gradient[i, 4 * level + 2], gradient[i, 4 * level + 3]
            if a == _ZERO and b == _ZERO and c == _ZERO and d == _ZERO:
                continue
            fx, fy, fz = points[i, 0] * scale, points[i, 1] * scale, points[i, 2] * scale
            x, y, z = min(np.int64(fx), side - 2), min(np.int64(fy), side - 2), min(np.int64(fz), side - 2)
            fx, fy, fz = fx - np.float32(x), fy - np.float32(y), fz - np.float32(z)
            for corner in range(8):
                dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                weight = (fx if dx else _ONE - fx) * (fy if dy else _ONE - fy) * (fz if dz else _ONE - fz)
                row = start + _row(x + dx, y + dy, z + dz, side, mask)
                out[row, 0] += weight * a
                out[row, 1] += weight * b
                out[row, 2] += weight * c
                out[row, 3] += weight * d


class Lines(NamedTuple):
    """Rays and their chance."""

    origins: Array
    """float32 [R, 3]."""
    directions: Array
    """float32 [R, 3]."""
    shifts: Array
    """float32 [R, K + 1] in [0, 1), of the edges."""


class Ground(NamedTuple):
    """What rays go through."""

    density: Array
    """float32 [side ** 3], of the cells of the unit cube."""
    side: int
    """Cells along a side."""
    borders: Array
    """float32 [B + 1], depths of the borders between bins."""
    space: Array
    """float32 [6]: centre, 1 / radius, near, knee."""
    veil: float
    """What densities are multiplied by."""
    evenly: float
    """Share of the intervals that is spread evenly."""


class Found(NamedTuple):
    """Where rays look, see ``Samples``."""

    edges: Array
    """float32 [R, K + 1]."""
    points: Array
    """float32 [R, K + 1, 3]."""
    lengths: Array
    """float32 [R, K]."""


@compiled(fast=True)
def _place(lines, ray, depth, space, out):  # type: ignore[no-untyped-def]
    """Write the point of the unit cube at a depth along a ray, see ``Space.contract``."""
    x = (lines.origins[ray, 0] + depth * lines.directions[ray, 0] - space[0]) * space[3]
    y = (lines.origins[ray, 1] + depth * lines.directions[ray, 1] - space[1]) * space[3]
    z = (lines.origins[ray, 2] + depth * lines.directions[ray, 2] - space[2]) * space[3]
    norm = max(abs(x), abs(y), abs(z), _ONE)
    factor = _QUARTER * (_TWO - _ONE / norm) / norm
    out[0], out[1], out[2] = _HALF + x * factor, _HALF + y * factor, _HALF + z * factor


@compiled(fast=True)
def _blurred(weights, i):  # type: ignore[no-untyped-def]
    """Return a bin's weight raised towards its neighbours': a surface just behind a border belongs to both."""
    return _HALF * (max(weights[i], weights[i + 1]) + max(weights[i + 1], weights[i + 2]))


@compiled(fast=True)
def _unfold(s):  # type: ignore[no-untyped-def]
    """Return how far along from near (0) to knee (1) and on a place is, see ``Space.depth``."""
    if s < _HALF:
        return _TWO * s
    return _ONE / (_TWO - _TWO * min(s, np.float32(0.999)))


@compiled(fast=True)
def march(first, last, lines, ground, found):  # type: ignore[no-untyped-def]
    """Choose where to look along rays ``first`` to ``last`` - 1.

    Args:
        first: Start of the range.
        last: End of the range.
        lines: ``Lines``.
        ground: ``Ground``.
        found: Output, ``Found``.
    """
    borders, side = ground.borders, ground.side
    bins, slots = borders.shape[0] - 1, lines.shifts.shape[1]
    near, reach = ground.space[4], ground.space[5] - ground.space[4]
    evenly, veil = np.float32(ground.evenly), np.float32(ground.veil)
    weights = np.zeros(bins + 2, np.float32)
    place = np.empty(3, np.float32)
    for ray in range(first, last):
        x, y, z = lines.directions[ray, 0], lines.directions[ray, 1], lines.directions[ray, 2]
        speed = np.float32(math.sqrt(x * x + y * y + z * z)) * ground.space[3]
        light = _ONE
        for i in range(bins):
            _place(lines, ray, _HALF * (borders[i] + borders[i + 1]), ground.space, place)
            a, b, c = min(np.int64(place[0] * side), side - 1), min(np.int64(place[1] * side), side - 1), min(np.int64(place[2] * side), side - 1)
            passed = veil * ground.density[(c * side + b) * side + a] * (borders[i + 1] - borders[i]) * speed
            rest = light * np.float32(math.exp(-passed))
            weights[i + 1] = light - rest
            light = rest
        total = _ZERO
        for i in range(bins):
            total += _blurred(weights, i)
        scale, even = (_ONE - evenly) / max(total, np.float32(1e-6)), evenly / np.float32(bins)
        whole = total * scale + evenly
        below, i = _ZERO, 0
        share = scale * _blurred(weights, 0) + even
        for k in range(slots):
            wanted = whole * (np.float32(k) + lines.shifts[ray, k]) / np.float32(slots)
            while wanted >= below + share and i < bins - 1:
                below += share
                i += 1
                share = scale * _blurred(weights, i) + even
            found.edges[ray, k] = (np.float32(i) + max(min((wanted - below) / share, _ONE), _ZERO)) / np.float32(bins)
        before = near + reach * _unfold(found.edges[ray, 0])
        for k in range(slots - 1):
            after = near + reach * _unfold(found.edges[ray, k + 1])
            found.lengths[ray, k] = (after - before) * speed
            before = after
            middle = near + reach * _unfold(_HALF * (found.edges[ray, k] + found.edges[ray, k + 1]))
            _place(lines, ray, middle, ground.space, found.points[ray, k])
        half = _HALF / max(abs(x), abs(y), abs(z))
        end = found.points[ray, slots - 1]
        end[0], end[1], end[2] = _HALF + x * half, _HALF + y * half, _HALF + z * half
