from __future__ import annotations

import numpy as np
import pytest

from diorama.geometry import field_kernels
from diorama.geometry.encoding import EncodingConfig, Layout

LAYOUT = Layout.of(EncodingConfig(levels=3, coarsest=4, finest=40, log2_rows=9))
STARTS, SIDES, MASKS = LAYOUT.starts.numpy(), LAYOUT.sides.numpy(), LAYOUT.masks.numpy()
CHANCE = np.random.default_rng(0)
POINTS = CHANCE.random((100, 3), dtype=np.float32)
TABLE = CHANCE.standard_normal((LAYOUT.rows, 4), dtype=np.float32)


def test_gather_writes_its_own_levels_only() -> None:
    whole = np.zeros((100, 12), np.float32)
    field_kernels.gather(0, 3, POINTS, TABLE, STARTS, SIDES, MASKS, whole)
    part = np.full((100, 12), 7, np.float32)
    field_kernels.gather(1, 2, POINTS, TABLE, STARTS, SIDES, MASKS, part)
    assert (part[:, [0, 1, 2, 3, 8, 9, 10, 11]] == 7).all()
    np.testing.assert_array_equal(part[:, 4:8], whole[:, 4:8])


def test_scatter_is_the_transpose_of_gather_and_adds_to_its_own_levels_only() -> None:
    gradient = CHANCE.standard_normal((100, 12), dtype=np.float32)
    out = np.zeros((100, 12), np.float32)
    field_kernels.gather(0, 3, POINTS, TABLE, STARTS, SIDES, MASKS, out)
    back = np.zeros_like(TABLE)
    for level in range(3):
        field_kernels.scatter(level, level + 1, POINTS, gradient, STARTS, SIDES, MASKS, back)
        assert not back[int(STARTS[level]) + int(min(SIDES[level] ** 3, 512)) :].any()
    assert float((back * TABLE).sum()) == pytest.approx(float((out * gradient).sum()), rel=1e-4)
    twice = back.copy()
    field_kernels.scatter(0, 3, POINTS, gradient, STARTS, SIDES, MASKS, twice)
    np.testing.assert_allclose(twice, 2 * back, rtol=1e-5)


def test_march_fills_its_own_rays_only() -> None:
    origins, directions = CHANCE.standard_normal((2, 10, 3), dtype=np.float32)
    shifts = CHANCE.random((10, 6), dtype=np.float32)
    borders = np.linspace(0.5, 9, 33, dtype=np.float32)
    space = np.array([0, 0, 0, 0.5, 0.5, 4.0], np.float32)
    density = CHANCE.random(8**3, dtype=np.float32)
    edges, points, lengths = np.full((10, 6), 7, np.float32), np.full((10, 6, 3), 7, np.float32), np.full((10, 5), 7, np.float32)
    lines = field_kernels.Lines(origins, directions, shifts)
    ground = field_kernels.Ground(density, 8, borders, space, 0.5, 0.1)
    field_kernels.march(2, 5, lines, ground, field_kernels.Found(edges, points, lengths))
    others = [0, 1, 5, 6, 7, 8, 9]
    for array in (edges, points, lengths):
        assert (array[others] == 7).all()
        assert not (array[2:5] == 7).any()
