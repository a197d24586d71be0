"""Floor patterns: filtered values are the mean over the pixel, and far ground is even."""

from __future__ import annotations

import pytest
import torch

from diorama.worlds.scene import FLOORS, Floor
from diorama.worlds.textures import Ground, pattern

FINE = 1e-3


def shade(floor: Floor, x: torch.Tensor, y: torch.Tensor, width: float) -> torch.Tensor:
    share, factor = pattern(floor, Ground(x=x, y=y, width_x=torch.full_like(x, width), width_y=torch.full_like(x, width)))
    assert float(share.min()) >= 0
    assert float(share.max()) <= 1
    return (1 - 0.5 * share) * factor


@pytest.mark.parametrize("floor", FLOORS)
def test_a_pixel_shows_about_the_mean_of_what_it_covers(floor: Floor) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(300, generator=generator) * 8 - 4, torch.rand(300, generator=generator) * 8 - 4
    width = 0.05
    steps = (torch.arange(12) + 0.5) / 12 * width - width / 2
    dx, dy = (s.flatten() for s in torch.meshgrid(steps, steps, indexing="ij"))
    truth = shade(floor, x[:, None] + dx, y[:, None] + dy, FINE).mean(-1)
    error = (shade(floor, x, y, width) - truth).abs()
    assert float(error.mean()) < 0.012
    # the same number without a filter is much worse wherever a pixel holds an edge
    assert float(error.mean()) <= float((shade(floor, x, y, FINE) - truth).abs().mean())


@pytest.mark.parametrize("floor", FLOORS)
def test_far_ground_is_even(floor: Floor) -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.rand(500, generator=generator) * 200, torch.rand(500, generator=generator) * 200
    far = shade(floor, x, y, 12.0)
    assert float(far.std()) < 1e-3
    near_mean = float(shade(floor, x, y, FINE).mean())
    assert float(far.mean()) == pytest.approx(near_mean, abs=0.05)


@pytest.mark.parametrize("floor", FLOORS)
def test_near_ground_has_a_pattern(floor: Floor) -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.rand(500, generator=generator) * 8, torch.rand(500, generator=generator) * 8
    assert float(shade(floor, x, y, 0.01).std()) > 0.02
