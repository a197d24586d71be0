"""Guidance 1 is the conditional model, and outside the interval the other pass is not made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diorama import flow
from diorama.errors import InputError

CONDITIONAL = torch.tensor([[2.0, -1.0, 0.5]])
UNCONDITIONAL = torch.tensor([[1.0, 1.0, 0.0]])


class Pair:
    """Counts how often the unconditional velocity was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, x: Tensor, times: Tensor, both: bool) -> tuple[Tensor, Tensor | None]:
        self.asked += both
        return CONDITIONAL, UNCONDITIONAL if both else None


def test_scale_one_is_the_conditional_velocity_in_one_pass() -> None:
    pair = Pair()
    velocity = flow.guided(pair, flow.Guidance(scale=1.0))
    assert torch.equal(velocity(CONDITIONAL, torch.tensor(0.5)), CONDITIONAL)
    assert pair.asked == 0


def test_scale_extrapolates() -> None:
    velocity = flow.guided(Pair(), flow.Guidance(scale=3.0))
    torch.testing.assert_close(velocity(CONDITIONAL, torch.tensor(0.5)), UNCONDITIONAL + 3 * (CONDITIONAL - UNCONDITIONAL))
    zero = flow.guided(Pair(), flow.Guidance(scale=0.0))
    torch.testing.assert_close(zero(CONDITIONAL, torch.tensor(0.5)), UNCONDITIONAL)


def test_interval_saves_the_second_pass() -> None:
    pair = Pair()
    velocity = flow.guided(pair, flow.Guidance(scale=3.0, interval=(0.2, 0.8)))
    for t in (0.0, 0.1, 0.9, 1.0):
        assert torch.equal(velocity(CONDITIONAL, torch.tensor([0.0, t])), CONDITIONAL)
    assert pair.asked == 0
    assert not torch.equal(velocity(CONDITIONAL, torch.tensor([0.0, 0.5])), CONDITIONAL)
    assert pair.asked == 1


def test_full_rescale_has_the_conditional_spread() -> None:
    guidance = flow.Guidance(scale=5.0, rescale=1.0)
    assert float(flow.combine(CONDITIONAL, UNCONDITIONAL, guidance).std()) == pytest.approx(float(CONDITIONAL.std()))


@pytest.mark.parametrize("values", [{"scale": -1.0}, {"interval": (0.8, 0.2)}, {"interval": (0.0, 1.5)}, {"rescale": 2.0}, {"scale": float("nan")}])
def test_out_of_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="out of range"):
        flow.Guidance(**values)  # type: ignore[arg-type]
