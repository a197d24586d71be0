"""The path and its inverses agree."""

from __future__ import annotations

import torch

from diorama import flow


def test_velocity_gives_back_both_ends() -> None:
    rng = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(2, 3, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    x = flow.interpolate(data, noise, t)
    velocity = flow.velocity_target(data, noise)
    torch.testing.assert_close(flow.data_from_velocity(x, velocity, t), data)
    torch.testing.assert_close(flow.noise_from_velocity(x, velocity, t), noise)
    assert torch.equal(x[..., 0], data[..., 0])
    assert torch.equal(x[..., 3], noise[..., 3])


def test_velocity_is_the_slope_of_the_path() -> None:
    data, noise = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([0.5, 4.0], dtype=torch.float64)
    slope = (flow.interpolate(data, noise, 0.51) - flow.interpolate(data, noise, 0.5)) / 0.01
    torch.testing.assert_close(slope, flow.velocity_target(data, noise))
