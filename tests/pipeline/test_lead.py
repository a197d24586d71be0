"""What moves goes on as it moved, what stands stays."""

from __future__ import annotations

import numpy as np
import pytest
from tests.views import waves

from diorama.pipeline.lead import lead


@pytest.mark.parametrize("speed", [(1.0, 0.0), (0.0, -0.7), (-1.3, 0.9)])
def test_a_moving_picture_moves_on(speed: tuple[float, float]) -> None:
    shown = np.stack([waves(speed[0] * k, speed[1] * k) for k in range(6)])
    led = lead(shown[:2], 4)
    inner = np.s_[:, 10:-10, 10:-10]  # what comes in at the border is not known
    stays = np.abs(shown[2:][inner].astype(int) - shown[1][10:-10, 10:-10]).mean()
    assert np.abs(led[inner].astype(int) - shown[2:][inner]).mean() < 0.2 * stays


def test_a_still_picture_stays_bit_equal() -> None:
    still = waves(0, 0)
    assert np.array_equal(lead(np.stack([still] * 2), 3), np.stack([still] * 3))
