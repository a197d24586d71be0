"""Compiled loops over the tiles of the CPU rasteriser: binning of projected Gaussians, compositing, and its hand-written gradient.

Import this module only from inside a function: numba is in the extra ``geometry``. ``projection_kernels`` makes what is drawn here and takes
its gradient further. A loop over a range of tiles releases the GIL and writes only what belongs to its range, so that sums come out the same
for any number of threads. ``rasterise_plain`` is the twin.

Source: B. Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023), with the limits of gsplat 1.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diorama.geometry.compiled import compiled
from diorama.geometry.projection_kernels import COLUMNS, Array
from diorama.geometry.rasterise_plain import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, TILE

__all__ = ["Tiles", "composite", "composite_backward", "count_tiles", "fill_tiles"]


class Tiles(NamedTuple):
    """Which Gaussians touch which tile; a pair is one of both."""

    columns: int
    """Tiles in a row."""
    boxes: Array
    """int32 [N, 4]: first x, first y, last x, last y of the pixels a Gaussian may touch; last < first for none."""
    counts: Array
    """int64 [tiles + 1]: where each tile begins in ``members``."""
    members: Array
    """int32 [pairs]: Gaussians, tile by tile, nearest first."""
    starts: Array
    """int64 [N + 1]: where each Gaussian begins in ``slots``."""
    slots: Array
    """int64 [pairs]: places in ``members``, Gaussian by Gaussian."""


AREA = TILE * TILE
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_ZERO = np.float32(0)
_MAX_ALPHA = np.float32(MAX_ALPHA)
_MIN_ALPHA = np.float32(MIN_ALPHA)
_MIN_TRANSMITTANCE = np.float32(MIN_TRANSMITTANCE)
# exp(-s) = p(s / 16) ** 16 on [0, 8], p the degree-5 Chebyshev interpolant of exp(-x) on [0, 0.5]: 2e-7 relative, no bit tricks,
# so that LLVM vectorises it.
_FAR = np.float32(8)
_SIXTEENTH = np.float32(1 / 16)
_nodes = 0.25 + 0.25 * np.cos(np.pi * (np.arange(6) + 0.5) / 6)
_fit = np.polynomial.polynomial.polyfit(_nodes, np.exp(-_nodes), 5)
_P0, _P1, _P2, _P3, _P4, _P5 = (np.float32(value) for value in _fit)


@compiled(fast=False)
def count_tiles(boxes, columns, counts, starts):  # type: ignore[no-untyped-def]
    """Count pairs: fill ``counts`` and ``starts`` of ``Tiles`` from its ``boxes`` and ``columns``."""
    counts[:] = 0
    total = 0
    for i in range(boxes.shape[0]):
        starts[i] = total
        if boxes[i, 2] < boxes[i, 0] or boxes[i, 3] < boxes[i, 1]:
            continue
        for row in range(boxes[i, 1] // TILE, boxes[i, 3] // TILE + 1):
            for column in range(boxes[i, 0] // TILE, boxes[i, 2] // TILE + 1):
                counts[row * columns + column + 1] += 1
                total += 1
    starts[boxes.shape[0]] = total
    for tile in range(1, counts.shape[0]):
        counts[tile] += counts[tile - 1]


@compiled(fast=False)
def fill_tiles(order, tiles):  # type: ignore[no-untyped-def]
    """Fill ``members`` and ``slots`` of ``Tiles``; ``order`` int64 [N] is the Gaussians by depth."""
    place = tiles.counts.copy()
    boxes = tiles.boxes
    for j in range(order.shape[0]):
        i = order[j]
        slot = tiles.starts[i]
        if tiles.starts[i + 1] == slot:
            continue
        for row in range(boxes[i, 1] // TILE, boxes[i, 3] // TILE + 1):
            for column in range(boxes[i, 0] // TILE, boxes[i, 2] // TILE + 1):
                tile = row * tiles.columns + column
                tiles.members[place[tile]] = i
                tiles.slots[slot] = place[tile]
                place[tile] += 1
                slot += 1


# The state of a tile's pixels is one array: LLVM vectorises loops over one base address and gives up on seven that might overlap. The
# indices are unsigned because numba would test signed ones for being negative at every access.
_X, _Y, _LIGHT, _RED, _GREEN, _BLUE, _LAST = (np.uint64(AREA * row) for row in range(7))


@compiled(fast=True)
def _falloff(exponent):  # type: ignore[no-untyped-def]
    """Return exp(-exponent); beyond 8 exp(-8), which no opacity lifts to an alpha of 1 / 255."""
    s = min(exponent, _FAR) * _SIXTEENTH
    e = _P0 + s * (_P1 + s * (_P2 + s * (_P3 + s * (_P4 + s * _P5))))
    e *= e
    e *= e
    e *= e
    return e * e


@compiled(fast=True)
def _corners(state):  # type: ignore[no-untyped-def]
    for p in range(np.uint64(AREA)):
        state[p + _X], state[p + _Y] = np.float32(p % np.uint64(TILE)) + _HALF, np.float32(p // np.uint64(TILE)) + _HALF


@compiled(fast=True)
def _dark(state):  # type: ignore[no-untyped-def]
    """Say whether no pixel takes more light."""
    most = _ZERO
    for p in range(_LIGHT, _LIGHT + np.uint64(AREA)):
        most = max(most, state[p])
    return most == _ZERO


@compiled(fast=True)
def composite(first, last, tiles, projected, image, transmittance):  # type: ignore[no-untyped-def]
    """Composite the Gaussians of tiles ``first`` to ``last`` - 1, front to back.

    Args:
        first: Start of the range.
        last: End of the range.
        tiles: ``Tiles``.
        projected: float32 [N, 9], from ``projection_kernels.project``.
        image: Output, float32 [tiles, 3, 256].
        transmittance: Output, float32 [tiles, 256]: the share of light from behind all Gaussians.
    """
    state = np.empty(7 * AREA, np.float32)
    _corners(state)
    for tile in range(first, last):
        state[_LIGHT : _LIGHT + np.uint64(AREA)] = _ONE
        state[_RED : _BLUE + np.uint64(AREA)] = _ZERO
        state[_LAST : _LAST + np.uint64(AREA)] = _ONE
        top, left = tile // tiles.columns * TILE, tile % tiles.columns * TILE
        for k in range(tiles.counts[tile], tiles.counts[tile + 1]):
            i = tiles.members[k]
            begin = np.uint64(max(tiles.boxes[i, 1] - top, 0) * TILE)
            end = np.uint64(min(tiles.boxes[i, 3] - top + 1, TILE) * TILE)
            x, y = projected[i, 0] - np.float32(left), projected[i, 1] - np.float32(top)
            a, b, c = _HALF * projected[i, 2], projected[i, 3], _HALF * projected[i, 4]
            opacity, red, green, blue = projected[i, 5], projected[i, 6], projected[i, 7], projected[i, 8]
            for p in range(begin, end):
                dx, dy = state[p + _X] - x, state[p + _Y] - y
                alpha = min(opacity * _falloff(a * dx * dx + c * dy * dy + b * dx * dy), _MAX_ALPHA)
                alpha = alpha if alpha >= _MIN_ALPHA else _ZERO
                light = state[p + _LIGHT]
                after = light * (_ONE - alpha)
                live = after > _MIN_TRANSMITTANCE
                w = alpha * light if live else _ZERO
                state[p + _RED] += w * red
                state[p + _GREEN] += w * green
                state[p + _BLUE] += w * blue
                state[p + _LAST] = after if live else state[p + _LAST]
                state[p + _LIGHT] = after if live else _ZERO
            if k & 15 == 15 and _dark(state):
                break
        for p in range(AREA):
            image[tile, 0, p], image[tile, 1, p], image[tile, 2, p] = state[p + _RED], state[p + _GREEN], state[p + _BLUE]
            transmittance[tile, p] = state[p + _LAST]


@compiled(fast=True)
def composite_backward(first, last, tiles, projected, image_gradient, rest, gradients):  # type: ignore[no-untyped-def]
    """Take the gradient of an image back to the projections, one row of ``gradients`` for each pair of tile and Gaussian.

    It walks front to back like ``composite``: what lies behind a Gaussian is the whole (``rest``) less what was passed.

    Args:
        first: Start of the range of tiles.
        last: End of the range.
        tiles: ``Tiles``.
        projected: float32 [N, 9], from ``projection_kernels.project``.
        image_gradient: float32 [tiles, 3, 256].
        rest: float32 [tiles, 256], colour times its gradient plus transmittance times its gradient.
        gradients: Output, float32 [pairs, 9], see ``projection_kernels.COLUMNS``.
    """
    state = np.empty(7 * AREA, np.float32)
    _corners(state)
    for tile in range(first, last):
        state[_LIGHT : _LIGHT + np.uint64(AREA)] = _ONE
        for p in range(AREA):
            state[p + _RED], state[p + _GREEN], state[p + _BLUE] = image_gradient[tile, 0, p], image_gradient[tile, 1, p], image_gradient[tile, 2, p]
            state[p + _LAST] = rest[tile, p]
        top, left = tile // tiles.columns * TILE, tile % tiles.columns * TILE
        stop = tiles.counts[tile + 1]
        for k in range(tiles.counts[tile], tiles.counts[tile + 1]):
            i = tiles.members[k]
            begin = np.uint64(max(tiles.boxes[i, 1] - top, 0) * TILE)
            end = np.uint64(min(tiles.boxes[i, 3] - top + 1, TILE) * TILE)
            x, y = projected[i, 0] - np.float32(left), projected[i, 1] - np.float32(top)
            a, b, c = _HALF * projected[i, 2], projected[i, 3], _HALF * projected[i, 4]
            opacity, red, green, blue = projected[i, 5], projected[i, 6], projected[i, 7], projected[i, 8]
            h0 = hx = hy = hxx = hxy = hyy = g_red = g_green = g_blue = _ZERO
            for p in range(begin, end):
                dx, dy = state[p + _X] - x, state[p + _Y] - y
                raw = opacity * _falloff(a * dx * dx + c * dy * dy + b * dx * dy)
                alpha = min(raw, _MAX_ALPHA)
                alpha = alpha if alpha >= _MIN_ALPHA else _ZERO
                light = state[p + _LIGHT]
                after = light * (_ONE - alpha)
                live = after > _MIN_TRANSMITTANCE
                alpha = alpha if live else _ZERO
                w = alpha * light
                shade = red * state[p + _RED] + green * state[p + _GREEN] + blue * state[p + _BLUE]
                behind = state[p + _LAST] - w * shade
                state[p + _LAST] = behind
                state[p + _LIGHT] = after if live else _ZERO
                # the gradient of the exponent; where alpha is cut off at its maximum it has none
                h = alpha * (behind / (_ONE - alpha) - light * shade)
                h = h if raw <= _MAX_ALPHA else _ZERO
                g_red += w * state[p + _RED]
                g_green += w * state[p + _GREEN]
                g_blue += w * state[p + _BLUE]
                h0 += h
                hx += h * dx
                hy += h * dy
                hxx += h * dx * dx
                hxy += h * dx * dy
                hyy += h * dy * dy
            gradients[k, 0] = -(a + a) * hx - b * hy
            gradients[k, 1] = -(c + c) * hy - b * hx
            gradients[k, 2], gradients[k, 3], gradients[k, 4] = _HALF * hxx, hxy, _HALF * hyy
            gradients[k, 5] = -h0 / opacity
            gradients[k, 6], gradients[k, 7], gradients[k, 8] = g_red, g_green, g_blue
            if k & 15 == 15 and _dark(state):
                stop = k + 1
                break
        for k in range(stop, tiles.counts[tile + 1]):
            for j in range(COLUMNS):
                gradients[k, j] = _ZERO
