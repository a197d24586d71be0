"""Checkpoints on disk and the lock: what is saved comes back, what is broken is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from diorama.checkpoint import load_tensors, save_folder
from diorama.errors import CheckpointError
from diorama.train import state
from diorama.train.ema import Ema
from diorama.train.optim import MuonAdamW, OptimConfig


def trained(width: int = 6, steps: int = 2) -> tuple[nn.Module, Ema, MuonAdamW]:
    torch.manual_seed(width)
    module = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 4))
    ema, optimizer = Ema(module, 0.9), MuonAdamW(module, OptimConfig())
    for step in range(steps):
        optimizer.zero_grad()
        module(torch.ones(2, 4)).square().mean().backward()
        optimizer.step(1.0)
        ema.update(module, step)
    return module, ema, optimizer


def test_what_is_saved_comes_back_bit_equal(tmp_path: Path) -> None:
    module, ema, optimizer = trained()
    state.save(tmp_path, 2, module, ema.module, optimizer)
    other, other_ema, other_optimizer = trained(steps=0)
    assert state.resume(tmp_path, other, other_ema.module, other_optimizer) == 2
    pairs = ((module, other), (ema.module, other_ema.module))
    assert all(torch.equal(value, b.state_dict()[name]) for a, b in pairs for name, value in a.state_dict().items())
    mine, theirs = optimizer.state_dict(), other_optimizer.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_nothing_to_resume_is_step_0_and_leftovers_of_a_crash_go(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".step-00000003-abc").mkdir(parents=True)
    module, ema, optimizer = trained(steps=0)
    assert state.resume(tmp_path, module, ema.module, optimizer) == 0
    assert not list((tmp_path / "checkpoints").iterdir())


def test_the_last_two_stay_and_shards_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diorama.checkpoint.SHARD_BYTES", 256)
    parts = trained()
    for step in (1, 5, 12):
        state.save(tmp_path, step, parts[0], parts[1].module, parts[2])
    assert [path.name for path in state.checkpoints(tmp_path)] == ["step-00000005", "step-00000012"]
    assert len(list(state.checkpoints(tmp_path)[-1].glob("*.safetensors"))) > 2
    assert state.resume(tmp_path, parts[0], parts[1].module, parts[2]) == 12


@pytest.mark.parametrize("config", ["", "{}", '{"step": "x"}', None])
def test_a_checkpoint_without_its_step_is_named(tmp_path: Path, config: str | None) -> None:
    module, ema, optimizer = trained()
    path = state.save(tmp_path, 2, module, ema.module, optimizer) / "config.json"
    path.unlink() if config is None else path.write_text(config)
    with pytest.raises(CheckpointError, match=r"step-00000002 is damaged .*; delete it to resume"):
        state.resume(tmp_path, module, ema.module, optimizer)


def test_another_model_is_refused(tmp_path: Path) -> None:
    module, ema, optimizer = trained()
    state.save(tmp_path, 2, module, ema.module, optimizer)
    other, other_ema, other_optimizer = trained(width=7)
    with pytest.raises(CheckpointError, match="of another model"):
        state.resume(tmp_path, other, other_ema.module, other_optimizer)


def test_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    module, ema, optimizer = trained()
    path = state.save(tmp_path, 2, module, ema.module, optimizer)
    tensors = load_tensors(path)
    save_folder(path, {**tensors, "other.weight": torch.zeros(1)}, {"step": 2})
    with pytest.raises(CheckpointError, match="of another model"):
        state.resume(tmp_path, module, ema.module, optimizer)
