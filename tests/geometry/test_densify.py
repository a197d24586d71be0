from __future__ import annotations

import torch

from diorama.geometry.densify import Learner
from diorama.geometry.gaussians import Gaussians
from diorama.geometry.rasterise_plain import rotations

RATES = {"means": 1e-2, "log_scales": 5e-3, "quaternions": 1e-3, "logits": 5e-2, "sh": 2e-3}


def cloud(count: int) -> Gaussians:
    generator = torch.Generator().manual_seed(count)
    parts = [torch.randn(count, *shape, generator=generator) for shape in ((3,), (3,), (4,), (), (4, 3))]
    return Gaussians(means=parts[0], log_scales=parts[1], quaternions=parts[2], logits=parts[3], sh=parts[4])


def pull(learner: Learner, weights: torch.Tensor) -> None:
    """Leave a gradient in every parameter and on the picture."""
    total = sum((tensor**2).sum() for tensor in learner.gaussians.tensors().values())
    (total + (learner.screen * weights[:, None]).sum()).backward()  # type: ignore[union-attr]


def test_a_step_is_adam() -> None:
    learner = Learner(cloud(6), RATES)
    twin = {name: tensor.detach().clone().requires_grad_() for name, tensor in learner.gaussians.tensors().items()}
    optimiser = torch.optim.Adam([{"params": [twin[name]], "lr": rate} for name, rate in RATES.items()], eps=1e-15)
    before = learner.gaussians.sh.detach().clone()
    for _ in range(4):
        pull(learner, torch.ones(6))
        learner.step(1.0)
        optimiser.zero_grad()
        sum((tensor**2).sum() for tensor in twin.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
    for name, tensor in learner.gaussians.tensors().items():
        if name != "sh":
            assert torch.allclose(tensor, twin[name], atol=1e-6), name
    moved = (learner.gaussians.sh.detach() - before).abs()
    assert torch.allclose(learner.gaussians.sh[:, 0], twin["sh"][:, 0], atol=1e-6)
    assert float(moved[:, 1:].max()) < float(moved[:, 0].max()) / 10


def test_means_slow_down_alone() -> None:
    full, slow = Learner(cloud(4), RATES), Learner(cloud(4), RATES)
    for learner, share in ((full, 1.0), (slow, 0.1)):
        pull(learner, torch.ones(4))
        learner.step(share)
    start = cloud(4)
    assert torch.allclose(10 * (slow.gaussians.means - start.means), full.gaussians.means - start.means, atol=1e-5)
    assert torch.equal(slow.gaussians.logits, full.gaussians.logits)


def test_faint_and_broken_gaussians_go_and_the_moments_of_the_rest_stay() -> None:
    start = cloud(5)
    start.logits[:] = torch.tensor([3.0, -9.0, 3.0, 3.0, 3.0])
    learner = Learner(start, RATES)
    pull(learner, torch.arange(1.0, 6.0))
    learner.step(1.0)
    with torch.no_grad():
        learner.gaussians.means[3, 1] = torch.nan
    first = learner.first.means.clone()
    learner.prune(0.01)
    assert len(learner.gaussians) == 3
    assert torch.equal(learner.first.means, first[[0, 2, 4]])
    assert learner.pull.tolist() == (torch.tensor([1.0, 3.0, 5.0]) * 2**0.5).tolist()


def test_the_most_pulled_are_split_along_their_longest_axis() -> None:
    start = cloud(6)
    learner = Learner(start, RATES)
    pull(learner, torch.tensor([1.0, 5.0, 0.0, 7.0, 0.0, 2.0]))
    learner.step(1.0)
    parents = learner.gaussians.map(lambda tensor: tensor.detach().clone())
    learner.split(2)
    assert len(learner.gaussians) == 8
    grown = learner.gaussians.map(lambda tensor: tensor.detach())
    for parent, child in ((1, 6), (3, 7)):
        pair = grown.means[[parent, child]]
        assert torch.allclose(pair.mean(0), parents.means[parent], atol=1e-5)
        longest = int(parents.log_scales[parent].argmax())
        axis = rotations(parents.quaternions[parent : parent + 1])[0, :, longest]
        along = (pair[0] - pair[1]) / (pair[0] - pair[1]).norm()
        assert abs(float(along @ axis)) > 0.9999
        assert bool((grown.log_scales[parent] < parents.log_scales[parent]).all())
    for untouched in (0, 2, 4, 5):
        assert torch.equal(grown.means[untouched], parents.means[untouched])
    assert float(learner.first.means[[1, 3, 6, 7]].abs().max()) == 0
    assert float(learner.first.means[[0, 2]].abs().min()) > 0
    assert float(learner.pull.abs().max()) == 0


def test_what_was_never_seen_is_not_split() -> None:
    learner = Learner(cloud(5), RATES)
    pull(learner, torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))
    learner.step(1.0)
    learner.split(4)
    assert len(learner.gaussians) == 6
    learner.split(-3)
    assert len(learner.gaussians) == 6


def test_a_grown_cloud_goes_on_learning() -> None:
    learner = Learner(cloud(4), RATES)
    for _ in range(2):
        pull(learner, torch.ones(len(learner.gaussians)))
        learner.step(1.0)
        learner.split(3)
    assert len(learner.gaussians) == 10
    before = learner.gaussians.means.detach().clone()
    pull(learner, torch.ones(10))
    learner.step(1.0)
    assert bool((learner.gaussians.means != before).any(1).all())
