from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diorama.geometry.masks import find_movers
from diorama.media import resize

SIDE = 128


def noise(size: int, seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (1, size // 5, size // 5, 3), dtype=np.uint8)
    return np.asarray(resize(coarse, (size, size))[0])


def layers(place: Callable[[int], tuple[float, float]] | None, side: int = 36, count: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Return a camera travelling right past a near and a far wall, and a square moving by itself, with where the square is."""
    far, near, square = noise(SIDE + 100, 0), noise(SIDE + 100, 1), noise(side, 2)
    frames, truth = np.zeros((count, SIDE, SIDE, 3), np.uint8), np.zeros((count, SIDE, SIDE), np.bool_)
    for t in range(count):
        frames[t, : SIDE // 2] = far[: SIDE // 2, 2 * t : 2 * t + SIDE]
        frames[t, SIDE // 2 :] = near[: SIDE // 2, 5 * t : 5 * t + SIDE]
        if place is not None:
            x, y = (int(v) for v in place(t))
            frames[t, y : y + side, x : x + side] = square
            truth[t, y : y + side, x : x + side] = True
    return frames, truth


def test_a_rigid_scene_is_not_masked() -> None:
    frames, _ = layers(None)
    movers = find_movers(frames)
    assert movers.masks is None
    assert movers.moving < 0.005


def test_what_crosses_the_epipolar_lines_is_masked() -> None:
    seen: list[int] = []
    frames, truth = layers(lambda t: (60 - 2 * t, 15 + 4 * t))
    movers = find_movers(frames, lambda done, total: seen.append(done))
    assert seen == list(range(1, 8))
    assert movers.masks is not None
    assert movers.masks.shape == truth.shape
    moving = ~movers.masks
    assert (moving & truth).sum() / truth.sum() > 0.8
    assert (moving & truth).sum() / moving.sum() > 0.6
    assert movers.moving == pytest.approx(truth.mean(), abs=0.06)


def test_what_moves_along_the_epipolar_lines_looks_like_depth() -> None:
    frames, _ = layers(lambda t: (60 - 4 * t, 40))
    assert find_movers(frames).moving < 0.01


def test_the_greater_part_of_the_picture_is_the_world() -> None:
    frames, truth = layers(lambda t: (20 - 2 * t, 20 - 3 * t), side=96)
    assert truth.mean() > 0.5
    movers = find_movers(frames)
    assert movers.masks is not None
    assert (movers.masks & truth).sum() / truth.sum() > 0.9
