from __future__ import annotations

import math

import numpy as np
import pytest

from diorama.geometry.matches import Matches
from diorama.geometry.turning import turning_share


def seen(points: np.ndarray, yaw: float, shift: tuple[float, float, float], focal: float) -> np.ndarray:
    c, s = math.cos(yaw), math.sin(yaw)
    turned = points @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) - shift
    return np.asarray(turned[:, :2] / turned[:, 2:] * focal + [320, 320])


def matches(yaw: float = 0.0, shift: tuple[float, float, float] = (0, 0, 0), zoom: float = 1.0, noise: float = 0.5) -> Matches:
    rng = np.random.default_rng(0)
    points = rng.uniform([-2, -2, 4], [2, 2, 9], (400, 3))
    first, second = seen(points, 0.0, (0, 0, 0), 700.0), seen(points, yaw, shift, 700.0 * zoom)
    return Matches(first=first + rng.normal(0, noise, first.shape), second=second + rng.normal(0, noise, first.shape), ratio=np.zeros(400))


@pytest.mark.parametrize(("yaw", "zoom"), [(0.0, 1.0), (0.05, 1.0), (0.3, 1.0), (0.0, 1.2), (0.1, 1.2)])
def test_a_camera_that_turns_or_zooms_explains_itself(yaw: float, zoom: float) -> None:
    assert turning_share(matches(yaw, zoom=zoom), (640, 640)) > 0.97


@pytest.mark.parametrize("shift", [(0.5, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 1.5)])
def test_a_camera_that_moves_does_not(shift: tuple[float, float, float]) -> None:
    assert turning_share(matches(shift=shift), (640, 640)) < 0.5
    assert turning_share(matches(0.1, shift), (640, 640)) < 0.5


def test_few_matches_say_nothing() -> None:
    found = matches()
    few = found.select(np.arange(400) < 2)
    assert turning_share(few, (640, 640)) == 0.0
