"""Muon and AdamW behind one step: who trains what, that it trains, and that its state comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from diorama.errors import CheckpointError, ConfigError
from diorama.train.optim import MuonAdamW, OptimConfig


class Net(nn.Module):
    """One parameter of every kind the house has."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 6)
        self.patch_embedding = nn.Linear(6, 8)
        self.kernel = nn.Conv3d(8, 4, (1, 3, 3))
        self.hidden = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, 4))
        self.proj_out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch_embedding(self.words(x)).reshape(-1, 8, 1, 3, 3)
        y = self.norm(self.hidden(self.kernel(y).flatten(1))) + self.scale_shift_table.mean(1)
        return self.proj_out(y)


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def steps(module: Net, optimizer: MuonAdamW, count: int, pool: ThreadPoolExecutor | None = None) -> list[float]:
    losses = []
    for i in range(count):
        optimizer.zero_grad()
        x = torch.randint(0, 5, (12, 9), generator=torch.Generator().manual_seed(i))
        target = torch.stack([x.float().mean(1) - 2, (x[:, 0] - 2).float()], 1)
        loss = (module(x) - target).square().mean()
        loss.backward()
        optimizer.step(1.0, pool)
        losses.append(loss.item())
    return losses


def test_hidden_matrices_and_kernels_go_to_muon_the_rest_to_adamw() -> None:
    module = net()
    optimizer = MuonAdamW(module, OptimConfig())
    steps(module, optimizer, 1)
    names = optimizer.state_dict()
    assert {name for name in names if name.startswith("muon.")} == {"muon.kernel.weight", "muon.hidden.weight"}
    averaged = {name.removeprefix("adamw.exp_avg.") for name in names if name.startswith("adamw.exp_avg.")}
    assert averaged == {name for name, _ in module.named_parameters()} - {"kernel.weight", "hidden.weight"}


def test_a_step_orthogonalises_matrices_of_any_shape() -> None:
    """Whatever the gradient's scale, a first step moves a matrix by lr * sqrt(max(1, rows / columns)) in every direction."""
    for shape in ((8, 8), (16, 4), (4, 16), (4, 2, 2, 2, 2)):
        module = nn.Module()
        module.weight = nn.Parameter(torch.zeros(shape))
        optimizer = MuonAdamW(module, OptimConfig(weight_decay=0.0))
        module.weight.grad = 1e-3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
        optimizer.step(0.5)
        moved = torch.linalg.svdvals(module.weight.detach().flatten(1))
        rows, columns = shape[0], module.weight[0].numel()
        unit = 0.5 * 0.02 * max(1, rows / columns) ** 0.5
        assert moved.min() > 0.3 * unit
        assert moved.max() < 1.5 * unit


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (6, 2, 3, 3)])
@pytest.mark.parametrize("fast", [True, False])
def test_matrices_move_as_torchs_own_muon_moves_them(shape: tuple[int, ...], fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diorama.train.optim.fast_dtype", lambda device: torch.bfloat16 if fast else torch.float32)
    config = OptimConfig(muon_lr=0.03, weight_decay=0.1, newton_schulz_steps=4)
    module, start = nn.Module(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    module.weight = nn.Parameter(start.clone())
    other = nn.Parameter(start.flatten(1).clone())
    ours, theirs = MuonAdamW(module, config), torch.optim.Muon([other], lr=0.015, weight_decay=0.1, momentum=0.95, ns_steps=4)
    for seed in range(3):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1 + seed))
        module.weight.grad, other.grad = gradient.clone(), gradient.flatten(1).clone()
        ours.step(0.5)
        theirs.step()
    moved, expected = module.weight.detach().flatten(1), other.detach()
    assert torch.equal(moved, expected) if fast else float((moved - expected).norm() / (expected - start.flatten(1)).norm()) < 0.02


def test_both_optimisers_learn() -> None:
    module = net()
    losses = steps(module, MuonAdamW(module, OptimConfig()), 120)
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_frozen_parameters_stay() -> None:
    module = net()
    module.hidden.requires_grad_(False)
    before = module.hidden.weight.clone()
    steps(module, MuonAdamW(module, OptimConfig()), 2)
    assert torch.equal(module.hidden.weight, before)


def test_state_comes_back_bit_equal() -> None:
    whole, parts = net(), net()
    expected = steps(whole, MuonAdamW(whole, OptimConfig()), 6)
    first = MuonAdamW(parts, OptimConfig())
    steps(parts, first, 3)
    second_net = net(1)
    second_net.load_state_dict(parts.state_dict())
    second = MuonAdamW(second_net, OptimConfig())
    second.load_state_dict(first.state_dict())
    for i in range(3, 6):
        second.zero_grad()
        x = torch.randint(0, 5, (12, 9), generator=torch.Generator().manual_seed(i))
        target = torch.stack([x.float().mean(1) - 2, (x[:, 0] - 2).float()], 1)
        loss = (second_net(x) - target).square().mean()
        loss.backward()
        second.step(1.0)
        assert loss.item() == expected[i]
    assert all(torch.equal(value, second_net.state_dict()[name]) for name, value in whole.state_dict().items())


def test_threads_that_share_a_step_change_nothing() -> None:
    alone, shared = net(), net()
    with ThreadPoolExecutor(2) as pool:
        assert steps(shared, MuonAdamW(shared, OptimConfig()), 4, pool) == steps(alone, MuonAdamW(alone, OptimConfig()), 4)
    assert all(torch.equal(value, shared.state_dict()[name]) for name, value in alone.state_dict().items())


def test_state_of_another_model_is_refused() -> None:
    optimizer = MuonAdamW(net(), OptimConfig())
    with pytest.raises(CheckpointError, match="does not fit this model"):
        optimizer.load_state_dict({"muon.hidden.weight": torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match="does not fit this model"):
        optimizer.load_state_dict({"adamw.exp_avg.nothing": torch.zeros(3)})


@pytest.mark.parametrize("values", [{"muon_lr": 0.0}, {"adamw_lr": 2.0}, {"momentum": 1.0}, {"newton_schulz_steps": 0}, {"weight_decay": -1.0}])
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        OptimConfig(**values)  # type: ignore[arg-type]
