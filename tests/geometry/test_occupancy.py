from __future__ import annotations

import pytest
import torch

from diorama.geometry.occupancy import Occupancy, Samples, march, march_plain
from diorama.geometry.rays import Rays, Space
from diorama.runtime import generator

SPACE = Space(center=(0.1, -0.2, 0.3), radius=2.0, near=0.5, knee=6.0)


def rays(count: int) -> Rays:
    chance = generator(0)
    return Rays(origins=2 * torch.randn(count, 3, generator=chance), directions=torch.randn(count, 3, generator=chance))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("peak", [0.0, 0.1, 300.0])
def test_compiled_march_equals_the_plain_twin(peak: float, threads: int) -> None:
    chance = generator(1)
    density = peak * torch.rand(128**3, generator=chance).pow(20)
    shifts = torch.rand(64, 13, generator=chance)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fast = march(rays(64), shifts, SPACE, density)
    finally:
        torch.set_num_threads(before)
    plain = march_plain(rays(64), shifts, SPACE, density)
    torch.testing.assert_close(fast.edges, plain.edges, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.points, plain.points, atol=1e-4, rtol=0)
    near = plain.edges[:, 1:] < 0.9  # beyond, lengths grow with the square of the inverse distance to 1
    torch.testing.assert_close(fast.lengths[near], plain.lengths[near], atol=2e-3, rtol=1e-2)


def in_order(samples: Samples) -> bool:
    return bool((samples.edges[:, 1:] >= samples.edges[:, :-1]).all() and (samples.lengths >= 0).all())


def test_edges_rise_and_points_stay_in_the_cube() -> None:
    occupancy = Occupancy(SPACE, torch.device("cpu"))
    samples = occupancy.samples(rays(200), 20, generator(2))
    assert in_order(samples)
    assert float(samples.edges.min()) >= 0
    assert float(samples.edges.max()) <= 1
    assert float(samples.points.min()) >= -1e-6
    assert float(samples.points.max()) <= 1 + 1e-6
    torch.testing.assert_close(samples.points[:, -1], SPACE.horizon(rays(200).directions))


def test_most_intervals_are_where_density_was_met() -> None:
    occupancy = Occupancy(SPACE, torch.device("cpu"))
    ray = Rays(origins=torch.tensor([[0.1, -0.2, -5.0]]), directions=torch.tensor([[0.0, 0.0, 1.0]]))
    even = occupancy.samples(ray, 32, None)
    occupancy.density.zero_()
    # a wall half a unit thick, 4 units ahead
    x, y = torch.meshgrid(torch.linspace(-1, 1, 60), torch.linspace(-1, 1, 60), indexing="ij")
    for z in torch.linspace(-1.0, -0.5, 30):
        wall = torch.stack([x, y, z.expand_as(x)], -1).reshape(-1, 3)
        occupancy.note(SPACE.contract(wall), torch.full((len(wall),), 10.0))
    sought = occupancy.samples(ray, 32, None)

    def inside(samples: Samples) -> int:
        depth = SPACE.depth(0.5 * (samples.edges[:, 1:] + samples.edges[:, :-1]))
        return int(((depth > 3.9) & (depth < 4.6)).sum())

    assert in_order(sought)
    assert inside(sought) > 20 > 6 > inside(even)


def test_a_cell_remembers_the_mean_and_forgets() -> None:
    occupancy = Occupancy(SPACE, torch.device("cpu"))
    occupancy.density.zero_()
    point, elsewhere = torch.tensor([[0.3, 0.4, 0.5]]), torch.tensor([[0.8, 0.4, 0.5]])
    occupancy.note(torch.cat([point, point, elsewhere]), torch.tensor([20.0, 40.0, 8.0]))
    assert sorted(occupancy.density[occupancy.density > 0].tolist()) == [4.0, 20.0]
    for _ in range(20):
        occupancy.note(point, torch.tensor([2.0]))
    assert sorted(occupancy.density[occupancy.density > 0].tolist()) == pytest.approx([2.0, 4.0], rel=1e-3)
    for _ in range(300):
        occupancy.fade()
    assert float(occupancy.density.max()) < 0.01


def test_the_same_seed_looks_at_the_same_places() -> None:
    occupancy = Occupancy(SPACE, torch.device("cpu"))
    one, two = (occupancy.samples(rays(20), 8, generator(5)) for _ in range(2))
    assert torch.equal(one.points, two.points)
    assert not torch.equal(one.points, occupancy.samples(rays(20), 8, generator(6)).points)
    assert torch.equal(occupancy.probes(9, generator(5)), occupancy.probes(9, generator(5)))
