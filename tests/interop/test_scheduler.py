"""Times and solver against diffusers' own schedulers; configs in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diorama.errors import CheckpointError, ConfigError
from diorama.flow import sample
from diorama.interop.scheduler import SchedulerConfig, read_scheduler, scheduler_json

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra dev)")


def peer(config: SchedulerConfig, folder: Path) -> Any:
    """Return diffusers' scheduler, made from the file we write."""
    values = scheduler_json(config)
    (folder / "scheduler_config.json").write_text(json.dumps(values))
    return getattr(diffusers, values["_class_name"]).from_pretrained(folder)


@pytest.mark.parametrize("times", ["unipc", "euler"])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("shift", [3.0, 5.0, 8.0])
def test_a_run_is_diffusers_run(times: Any, steps: int, shift: float, tmp_path: Path) -> None:
    config = SchedulerConfig(shift=shift, shift_tokens=None, window=None, times=times)
    theirs = peer(config, tmp_path)
    theirs.set_timesteps(steps)
    visited = config.schedule(steps, 999)
    torch.testing.assert_close(visited, theirs.sigmas, atol=1e-6, rtol=1e-6)
    field = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)) / 3
    told: list[float] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        told.append(float(config.told(t).max()))
        return torch.tanh(x @ field) * (1 + t)

    x = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(1))
    got = sample(velocity, x, torch.ones(1), visited, solver=config.solver)
    expected = x
    for i, moment in enumerate(theirs.timesteps):
        expected = theirs.step(torch.tanh(expected @ field) * (1 + theirs.sigmas[i]), moment, expected).prev_sample
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(torch.tensor(told) * 1000, theirs.timesteps.float(), atol=1e-3, rtol=0)


def test_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    for config in (
        SchedulerConfig(),
        SchedulerConfig(shift=2.0, window=None, context_noise=0.1),
        SchedulerConfig(shift=5.0, shift_tokens=None, window=21, times="unipc"),
        SchedulerConfig(shift=3.0, shift_tokens=None, window=21, times="euler"),
    ):
        path.write_text(json.dumps(scheduler_json(config)))
        assert read_scheduler(path, window=21) == config
    assert "times" not in scheduler_json(SchedulerConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler, which is no flow scheduler"),
        ({"_class_name": "UniPCMultistepScheduler", "prediction_type": "epsilon"}, "no flow scheduler"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "use_dynamic_shifting": True}, "use_dynamic_shifting"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": -1.0}, "must be above 0"),
        ({"shift_tokens": 4, "windw": 3}, "did you mean 'window'"),
    ],
)
def test_others_are_refused(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=message):
        read_scheduler(path)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    for text in ("{", "[]"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="scheduler_config"):
            read_scheduler(path)
