"""The loop: kept values, own starts, progress."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diorama import flow


@pytest.mark.parametrize("solver", ["euler", "heun", "multistep"])
def test_kept_values_come_out_bit_equal(solver: flow.SolverName) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 2, 2, generator=rng)
    x[0, 0, 0, 0] = -0.0
    start = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    broken = torch.full_like(x, float("nan"))

    def velocity(point: Tensor, times: Tensor) -> Tensor:
        return torch.where(times > 0, point.sin(), broken)

    out = flow.sample(velocity, x, start, flow.schedule(5), solver=solver)
    assert torch.equal(out[:, 0].view(torch.int32), x[:, 0].view(torch.int32))
    assert (out[:, 1:] != x[:, 1:]).all()
    assert out.isfinite().all()


def test_times_run_from_their_own_start_to_zero() -> None:
    seen: list[Tensor] = []

    def velocity(point: Tensor, times: Tensor) -> Tensor:
        seen.append(times)
        return torch.zeros_like(point)

    flow.sample(velocity, torch.zeros(3), torch.tensor([0.0, 0.4, 1.0]), flow.schedule(4), solver="euler")
    torch.testing.assert_close(torch.stack(seen), torch.tensor([1.0, 0.75, 0.5, 0.25])[:, None] * torch.tensor([0.0, 0.4, 1.0]))


def test_progress_counts_every_step() -> None:
    calls: list[tuple[int, int]] = []
    flow.sample(lambda x, t: x, torch.ones(2), torch.ones(2), flow.schedule(3), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
