"""Means over boxes are those of torch's own pooling."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from diorama.ops.box import box_mean


def test_a_mean_over_a_box_counts_only_what_is_there() -> None:
    ones = torch.ones(1, 1, 6, 9)
    assert torch.allclose(box_mean(ones, 5), ones)
    point = torch.zeros(1, 1, 7, 7)
    point[..., 3, 3] = 9
    assert torch.allclose(box_mean(point, 3)[0, 0, 2:5, 2:5], torch.ones(3, 3))
    assert float(box_mean(point, 3).sum()) == pytest.approx(9)


@pytest.mark.parametrize("side", [1, 3, 5, 7, 15, 31])
def test_it_is_what_pooling_gives(side: int) -> None:
    planes = torch.rand(2, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    padded = functional.pad(planes, (side // 2,) * 4)
    inside = functional.pad(torch.ones_like(planes), (side // 2,) * 4)
    expected = functional.avg_pool2d(padded, side, 1) / functional.avg_pool2d(inside, side, 1)
    torch.testing.assert_close(box_mean(planes, side), expected, rtol=1e-5, atol=1e-5)
