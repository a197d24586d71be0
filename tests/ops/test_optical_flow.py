"""Known motions are found, and what they lead to is brought back."""

from __future__ import annotations

import pytest
import torch
from tests.views import SIDE, view
from torch import Tensor
from torch.nn import functional

from diorama.ops.optical_flow import _median_of_nine, brought, flow_between


def pictures(*places: tuple[int, int]) -> Tensor:
    return torch.from_numpy(view(places)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("move", [(0, 0), (1, 0), (2, -3), (-3, 2)])
def test_flow_of_a_known_shift(move: tuple[int, int]) -> None:
    first, second = pictures((0, 0), move).split(1)
    flow = flow_between(first, second)
    assert flow.shape == (1, 2, SIDE, SIDE)
    error = (flow - torch.tensor(move)[:, None, None]).norm(dim=1)
    assert float(error.median()) < 0.2
    assert (move != (0, 0)) or float(error.max()) == 0
    back, inner = brought(second, flow), (..., slice(8, -8), slice(8, -8))
    assert float((back - first)[inner].abs().mean()) <= 0.3 * float((second - first)[inner].abs().mean())


def test_pairs_do_not_know_of_each_other() -> None:
    first, second = pictures((0, 0), (1, 1), (2, 0)), pictures((1, 0), (0, 0), (0, 2))
    together = flow_between(first, second)
    alone = torch.cat([flow_between(a, b) for a, b in zip(first.split(1), second.split(1), strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_tiny_and_even_pictures_have_a_flow() -> None:
    assert flow_between(torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1)).shape == (1, 2, 1, 1)
    assert not flow_between(torch.full((1, 3, 8, 8), 9.0), torch.full((1, 3, 8, 8), 80.0)).any()


def test_the_median_is_the_median() -> None:
    planes = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    padded = functional.pad(planes, (1, 1, 1, 1), mode="replicate")
    expected = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).median(-1).values
    assert torch.equal(_median_of_nine(planes), expected)
