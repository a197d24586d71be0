from __future__ import annotations

import torch

from diorama.geometry.densify import Learner
from diorama.geometry.gaussians import Gaussians
from diorama.geometry.rasterise_plain import rotations

RATES = {"means": 1e-2, "log_scales": 5e-3, "quaternions": 1e-3, "logits": 5e-2, "sh": 2e-3, "background": 1e-3}


def cloud(count: int) -> Gaussians:
    generator = torch.Generator().manual_seed(count)
    parts = [torch.randn(count, *shape, generator=generator) for shape in ((3,), (3,), (4,), (), (4, 3))]
    return Gaussians(means=parts[0], log_scales=parts[1], quaternions=parts[2], logits=parts[3], sh=parts[4])


def make(count: int, gaussians: Gaussians | None = None) -> Learner:
    return Learner(gaussians or cloud(count), torch.tensor([0.2, 0.4, 0.6]), RATES)


def pull(learner: Learner, weights: torch.Tensor) -> None:
    """Leave a gradient in every parameter and on the picture."""
    total = sum((tensor**2).sum() for tensor in [*learner.gaussians.tensors().values(), learner.background])
    (total + (learner.screen * weights[:, None]).sum()).backward()  # type: ignore[union-attr]


def test_a_step_is_adam() -> None:
    """The gradient of the sum of squares is twice the value: the formulas of D. Kingma and J. Ba, 2015, by hand."""
    learner = make(6)
    wanted = {name: tensor.detach().double() for name, tensor in [*learner.gaussians.tensors().items(), ("background", learner.background)]}
    moments = {name: (0 * tensor, 0 * tensor) for name, tensor in wanted.items()}
    for step in range(1, 5):
        pull(learner, torch.ones(6))
        learner.step()
        for name, tensor in wanted.items():
            gradient = 2 * tensor
            first, second = (beta * m + (1 - beta) * g for beta, m, g in zip((0.9, 0.999), moments[name], (gradient, gradient**2), strict=True))
            moments[name] = (first, second)
            update = RATES[name] * first / (1 - 0.9**step) / (second / (1 - 0.999**step)).sqrt()
            if name == "sh":
                update[:, 1:] /= 20
            wanted[name] = tensor - update
    for name, tensor in wanted.items():
        got = learner.background if name == "background" else learner.gaussians.tensors()[name]
        assert torch.allclose(got.double(), tensor, atol=1e-5), name


def test_means_slow_down_alone() -> None:
    full, slow = make(4), make(4)
    for learner, share in ((full, 1.0), (slow, 0.1)):
        pull(learner, torch.ones(4))
        learner.step(share)
    start = cloud(4)
    assert torch.allclose(10 * (slow.gaussians.means - start.means), full.gaussians.means - start.means, atol=1e-5)
    assert torch.equal(slow.gaussians.logits, full.gaussians.logits)


def test_faint_and_broken_gaussians_go_and_the_moments_of_the_rest_stay() -> None:
    start = cloud(5)
    start.logits[:] = torch.tensor([3.0, -9.0, 3.0, 3.0, 3.0])
    learner = make(len(start), start)
    pull(learner, torch.arange(1.0, 6.0))
    learner.step()
    with torch.no_grad():
        learner.gaussians.means[3, 1] = torch.nan
    first = learner.first.means.clone()
    learner.prune(0.01)
    assert len(learner.gaussians) == 3
    assert torch.equal(learner.first.means, first[[0, 2, 4]])
    assert learner.pull.tolist() == (torch.tensor([1.0, 3.0, 5.0]) * 2**0.5).tolist()


def test_the_most_pulled_are_split_along_their_longest_axis() -> None:
    start = cloud(6)
    learner = make(len(start), start)
    pull(learner, torch.tensor([1.0, 5.0, 0.0, 7.0, 0.0, 2.0]))
    learner.step()
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
    learner = make(5)
    pull(learner, torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))
    learner.step()
    learner.split(4)
    assert len(learner.gaussians) == 6
    learner.split(-3)
    assert len(learner.gaussians) == 6


def test_a_grown_cloud_goes_on_learning() -> None:
    learner = make(4)
    for _ in range(2):
        pull(learner, torch.ones(len(learner.gaussians)))
        learner.step()
        learner.split(3)
    assert len(learner.gaussians) == 10
    before = learner.gaussians.means.detach().clone()
    pull(learner, torch.ones(10))
    learner.step()
    assert bool((learner.gaussians.means != before).any(1).all())
