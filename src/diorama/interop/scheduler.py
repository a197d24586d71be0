"""What sampling must know about training: our own scheduler config and those of diffusers that flow models are published with.

Wan's checkpoints are trained on whole thousandths of flow time and are sampled at times that follow from a fixed shift; ours shift
with the number of tokens. Both are values of one config, which gives the times a sampler visits and what the model is told of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diorama.checkpoint import read_json
from diorama.config import from_dict, to_dict
from diorama.errors import ConfigError
from diorama.flow import SolverName, schedule, shift, shift_for

__all__ = ["SchedulerConfig", "read_scheduler", "scheduler_json"]

_STEPS = 1000
"""Flow times are counted in thousandths by diffusers."""
_EULER, _UNIPC = "FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler"
_FLOW_SIGMAS = (_UNIPC, "DPMSolverMultistepScheduler", "DEISMultistepScheduler")
"""Schedulers of diffusers that visit one and the same times where ``use_flow_sigmas`` is set."""


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """What sampling must know about training."""

    shift: float = 1.75
    """Time shift at ``shift_tokens`` tokens."""
    shift_tokens: int | None = 576
    """Tokens at which ``shift`` holds; it grows with their square root. None: it holds for all."""
    window: int | None = 9
    """Latent frames of the longest clips trained on; longer ones are made by a window that rolls on. None: any length at once."""
    anchor: int = 0
    """Latent frames that a rolling window began with and goes on to show, unless a request says otherwise, so that long videos do not drift."""
    context_noise: float = 0.0
    """Flow time, 0 to 1, at which a rolling window shows finished frames; a little steadies long videos."""
    still_first: bool = False
    """Whether the first frame of a clip of which nothing is given is made alone, and then animated, unless a request says otherwise."""
    candidates: int = 1
    """How many first frames are drawn where nothing is given, for the model's captioner to choose from, unless a request says otherwise."""
    takes: int = 1
    """How many sketches are made of how such a first frame goes on, for the captioner to choose from, unless a request says otherwise."""
    times: Literal["even", "unipc", "euler"] = "even"
    """How the times between noise and data are spaced before the shift: evenly to 0, or as diffusers' schedulers of these names do."""

    def __post_init__(self) -> None:
        if not self.shift > 0 or (self.shift_tokens is not None and self.shift_tokens < 1):
            raise ConfigError(f"scheduler shift {self.shift} at {self.shift_tokens} tokens cannot be used; both must be above 0")
        if self.candidates < 1 or self.takes < 1:
            raise ConfigError(f"scheduler candidates {self.candidates} and takes {self.takes} cannot be drawn; both must be at least 1")
        if (self.window is not None and self.window < 2) or self.anchor < 0 or not 0 <= self.context_noise <= 1:
            raise ConfigError(
                f"scheduler window {self.window}, anchor {self.anchor} and context_noise {self.context_noise} cannot be used; allowed are "
                "2 or more, 0 or more, and 0 to 1"
            )

    @property
    def solver(self) -> SolverName:
        """The solver that is used unless another is asked for."""
        solvers: dict[str, SolverName] = {"even": "multistep", "unipc": "unipc", "euler": "euler"}
        return solvers[self.times]

    def shift_for(self, num_tokens: int) -> float:
        """Return the time shift for a clip of ``num_tokens``."""
        return self.shift if self.shift_tokens is None else shift_for(num_tokens, base=self.shift, base_tokens=self.shift_tokens)

    def schedule(self, num_steps: int, num_tokens: int) -> Tensor:
        """Return the flow times that a sampler visits from noise to data, ``[num_steps + 1]`` float32.

        Args:
            num_steps: Steps.
            num_tokens: Tokens that the model sees at once.
        """
        factor = self.shift_for(num_tokens)
        if self.times == "even":
            return schedule(num_steps, factor)
        if self.times == "unipc":
            visited = shift(torch.linspace(1, 1 / _STEPS, num_steps + 1, dtype=torch.float64)[:-1], factor)
            visited[0] -= 1e-6  # its formulas need some data at every time
        else:
            # diffusers shifts its smallest time when it is made and all of them when they are spaced.
            smallest = float(shift(torch.tensor(1 / _STEPS, dtype=torch.float64), factor))
            visited = shift(torch.linspace(1, smallest, num_steps, dtype=torch.float64), factor)
        return torch.cat([visited, torch.zeros(1, dtype=torch.float64)]).float()

    def told(self, times: Tensor) -> Tensor:
        """Return what the model is told of flow times: whole thousandths, rounded down, where it was sampled so."""
        # Times are float32, in which 0.9 is a little less than 900 thousandths.
        return torch.floor(times * _STEPS + 1e-4) / _STEPS if self.times == "unipc" else times


def read_scheduler(path: Path, *, window: int | None = None) -> SchedulerConfig:
    """Read ``scheduler_config.json`` as written here or by diffusers.

    Args:
        path: The file.
        window: Latent frames of the clips that the model was trained on, which diffusers' file does not say.

    Raises:
        CheckpointError: the file cannot be read.
        ConfigError: the scheduler is none for flow models, or a value is wrong.
    """
    values = read_json(path)
    kind, own = values.get("_class_name"), {key: value for key, value in values.items() if not key.startswith("_")}
    if "num_train_timesteps" not in values and kind in (None, _EULER):  # diffusers always says how many
        return from_dict(SchedulerConfig, own)
    if values.get("use_dynamic_shifting"):
        raise ConfigError(f"{path} asks for use_dynamic_shifting, which is not supported; set it to false and give a shift")
    if kind == _EULER:
        return SchedulerConfig(shift=float(values.get("shift", 1.0)), shift_tokens=None, window=window, times="euler")
    if kind in _FLOW_SIGMAS and values.get("use_flow_sigmas") and values.get("prediction_type") == "flow_prediction":
        return SchedulerConfig(shift=float(values.get("flow_shift", 1.0)), shift_tokens=None, window=window, times="unipc")
    raise ConfigError(
        f"{path} is of kind {kind}, which is no flow scheduler; allowed: {_EULER}, or {', '.join(_FLOW_SIGMAS)} with use_flow_sigmas and "
        "flow_prediction"
    )


def scheduler_json(config: SchedulerConfig) -> dict[str, Any]:
    """Return what goes into ``scheduler_config.json``: diffusers' own keys where its schedulers do the same, all of ours otherwise."""
    if config.times == "even" or config.shift_tokens is not None:
        ours = {key: value for key, value in to_dict(config).items() if key != "times" or value != "even"}
        return {"_class_name": _EULER, **ours}
    if config.times == "euler":
        return {"_class_name": _EULER, "num_train_timesteps": _STEPS, "shift": config.shift, "use_dynamic_shifting": False}
    return {
        "_class_name": _UNIPC,
        "num_train_timesteps": _STEPS,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": config.shift,
        "solver_order": 2,
        "solver_type": "bh2",
        "lower_order_final": True,
        "final_sigmas_type": "zero",
    }
