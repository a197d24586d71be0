"""The compiled loops one by one; as a whole they are held against the plain rasteriser in ``test_rasterise``."""

from __future__ import annotations

import numpy as np
import torch

from diorama.geometry import kernels, rasterise_plain
from diorama.geometry.gaussians import Gaussians, View
from diorama.geometry.rasterise_plain import TILE

COUNT = 300


def scene() -> tuple[Gaussians, View, kernels.Cloud, kernels.Camera]:
    generator = torch.Generator().manual_seed(5)
    shapes = ((3,), (3,), (4,), (), (4, 3))
    means, scales, quaternions, logits, sh = (torch.randn(COUNT, *shape, generator=generator) for shape in shapes)
    gaussians = Gaussians(means=means, log_scales=scales - 2.5, quaternions=quaternions, logits=logits, sh=sh)
    matrix = np.eye(4)
    matrix[2, 3] = 1.5
    view = View(world_to_camera=matrix, focal=(50.0, 55.0), center=(25.0, 18.0), width=50, height=37, near=0.1)
    cloud = kernels.Cloud(*(tensor.numpy() for tensor in (means, gaussians.log_scales, quaternions, logits, sh)))
    lens = np.array([50.0, 55.0, 25.0, 18.0, 50, 37, 0.1])
    return gaussians, view, cloud, kernels.Camera(matrix, view.position, lens)


def projected(cloud: kernels.Cloud, camera: kernels.Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, depths, boxes = np.zeros((COUNT, kernels.COLUMNS), np.float32), np.empty(COUNT, np.float32), np.empty((COUNT, 4), np.int32)
    kernels.project(0, COUNT, cloud, camera, rows, depths, boxes)
    return rows, depths, boxes


def test_projection_equals_plain() -> None:
    gaussians, view, cloud, camera = scene()
    rows, depths, boxes = projected(cloud, camera)
    plain = rasterise_plain.project(gaussians.map(lambda tensor: tensor.double()), view)
    assert np.array_equal(boxes, plain.boxes.numpy())
    seen = boxes[:, 2] >= boxes[:, 0]
    assert 20 < seen.sum() < COUNT
    wanted = torch.cat([plain.positions, plain.conics, plain.opacities[:, None], plain.colors], 1).numpy()
    assert np.allclose(rows[seen], wanted[seen], rtol=1e-5, atol=1e-6)
    assert np.allclose(depths[seen], plain.depths.numpy()[seen], rtol=1e-6)


def test_every_tile_lists_what_touches_it_nearest_first() -> None:
    _, _, cloud, camera = scene()
    _, depths, boxes = projected(cloud, camera)
    columns, rows = 4, 3
    counts, starts = np.empty(columns * rows + 1, np.int64), np.empty(COUNT + 1, np.int64)
    kernels.count_tiles(boxes, columns, counts, starts)
    tiles = kernels.Tiles(columns, boxes, counts, np.empty(counts[-1], np.int32), starts, np.empty(starts[-1], np.int64))
    kernels.fill_tiles(np.argsort(depths, kind="stable"), tiles)
    for tile in range(columns * rows):
        members = tiles.members[counts[tile] : counts[tile + 1]]
        left, top = tile % columns * TILE, tile // columns * TILE
        touches = (
            (boxes[:, 0] < left + TILE) & (boxes[:, 2] >= left) & (boxes[:, 1] < top + TILE) & (boxes[:, 3] >= top) & (boxes[:, 2] >= boxes[:, 0])
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
