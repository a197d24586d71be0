"""The loops over tiles one by one; as a whole they are held against the plain rasteriser in ``test_rasterise``."""

from __future__ import annotations

import numpy as np

from diorama.geometry import kernels
from diorama.geometry.rasterise_plain import TILE

COUNT = 300


def test_every_tile_lists_what_touches_it_nearest_first() -> None:
    columns, rows = 4, 3
    random = np.random.default_rng(5)
    depths = random.random(COUNT).astype(np.float32)
    corners = random.integers(0, (columns * TILE, rows * TILE), (COUNT, 2))
    boxes = np.concatenate([corners, np.minimum(corners + random.integers(-1, 20, (COUNT, 2)), (columns * TILE - 1, rows * TILE - 1))], 1).astype(
        np.int32
    )
    counts, starts = np.empty(columns * rows + 1, np.int64), np.empty(COUNT + 1, np.int64)
    kernels.count_tiles(boxes, columns, counts, starts)
    tiles = kernels.Tiles(columns, boxes, counts, np.empty(counts[-1], np.int32), starts, np.empty(starts[-1], np.int64))
    kernels.fill_tiles(np.argsort(depths, kind="stable"), tiles)
    for tile in range(columns * rows):
        members = tiles.members[counts[tile] : counts[tile + 1]]
        left, top = tile % columns * TILE, tile // columns * TILE
        touches = (
            (boxes[:, 0] < left + TILE)
            & (boxes[:, 2] >= left)
            & (boxes[:, 1] < top + TILE)
            & (boxes[:, 3] >= top)
            & (boxes[:, 2] >= boxes[:, 0])
            & (boxes[:, 3] >= boxes[:, 1])
        )
        assert sorted(members) == np.flatnonzero(touches).tolist()
        assert (np.diff(depths[members]) >= 0).all()
    for gaussian in range(COUNT):
        assert (tiles.members[tiles.slots[starts[gaussian] : starts[gaussian + 1]]] == gaussian).all()


def test_the_falloff_is_an_exponential() -> None:
    """A single Gaussian straight ahead: what is left of the light is 1 - alpha at every pixel."""
    wide, opacity = 30.0, 0.9
    rows = np.array([[8.0, 8.0, 1 / wide, 0, 1 / wide, opacity, 1, 1, 1]], np.float32)
    tiles = kernels.Tiles(1, np.array([[0, 0, 15, 15]], np.int32), np.array([0, 1]), np.zeros(1, np.int32), np.array([0, 1]), np.zeros(1, np.int64))
    image, light = np.empty((1, 3, TILE * TILE), np.float32), np.empty((1, TILE * TILE), np.float32)
    kernels.composite(0, 1, tiles, rows, image, light)
    steps = np.arange(TILE) - 7.5
    exact = opacity * np.exp(-(steps**2 + steps[:, None] ** 2) / (2 * wide))
    assert np.allclose(1 - light[0].reshape(TILE, TILE), exact, rtol=3e-6, atol=1e-7)
    assert np.allclose(image[0, 0], 1 - light[0], atol=1e-6)
