"""Order of the solvers on the exact velocity of Gaussian data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diorama import flow

MEAN, STD = 1.5, 0.4


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """Return E[noise - data | x] for data that is normal with MEAN and STD."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    return (t - (1 - t) * STD**2) / variance * (x - (1 - t) * MEAN) - MEAN


def error(solver: flow.SolverName, num_steps: int, start: float = 1.0, factor: float = 1.0) -> float:
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x = (1 - start) * MEAN + math.sqrt((1 - start) ** 2 * STD**2 + start**2) * z
    visited = flow.shift(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), factor)
    begin = torch.full_like(z, start)
    return float((flow.sample(gaussian_velocity, x, begin, visited, solver=solver) - (MEAN + STD * z)).abs().max())


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("multistep", 2), ("unipc", 2)])
@pytest.mark.parametrize(("start", "factor"), [(1.0, 1.0), (0.6, 1.0), (1.0, 2.0)])
def test_order_on_the_exact_field(solver: flow.SolverName, order: int, start: float, factor: float) -> None:
    measured = math.log2(error(solver, 128, start, factor) / error(solver, 256, start, factor))
    assert measured == pytest.approx(order, abs=0.25)


def test_one_euler_step_follows_a_straight_field_exactly() -> None:
    data, noise = torch.tensor([1.0, 2.0]), torch.tensor([-0.5, 0.25])
    for solver in flow.SOLVERS:
        out = flow.sample(lambda x, t: noise - data, noise, torch.ones(2), flow.schedule(1), solver=solver)
        torch.testing.assert_close(out, data)


@pytest.mark.parametrize("solver", flow.SOLVERS)
def test_kept_values_are_shown_as_they_are(solver: flow.SolverName) -> None:
    """The model sees given values at every step, never what a step of length 0 makes of them."""
    begin = torch.tensor([0.0, 0.5, 1.0])
    seen = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x[0].item())
        return gaussian_velocity(x, t)

    out = flow.sample(velocity, torch.tensor([0.7, 0.1, -1.0]), begin, flow.schedule(5), solver=solver)
    assert set(seen) == {torch.tensor(0.7).item()}
    assert bool(out.isfinite().all())
