"""The moving average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diorama.train.ema import Ema


def test_the_average_forgets_the_start_and_then_trails() -> None:
    module = nn.Linear(2, 2, bias=False)
    ema = Ema(module, 0.99)
    with torch.no_grad():
        module.weight.fill_(1.0)
    for step in range(20):
        ema.update(module, step)
    assert torch.allclose(ema.module.weight, module.weight, atol=1e-3)
    before = ema.module.weight.clone()
    with torch.no_grad():
        module.weight.fill_(2.0)
    ema.update(module, 100_000)
    assert torch.allclose(ema.module.weight - before, 0.01 * (2.0 - before))
    assert not ema.module.weight.requires_grad


def test_buffers_follow_and_bf16_weights_are_averaged_in_fp32() -> None:
    module = nn.BatchNorm1d(2).to(torch.bfloat16)
    ema = Ema(module, 0.9)
    module(torch.ones(4, 2, dtype=torch.bfloat16))
    ema.update(module, 0)
    assert ema.module.weight.dtype == torch.float32
    assert float(ema.module.running_mean[0]) == pytest.approx(float(module.running_mean[0]))
