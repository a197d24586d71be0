"""Muon for hidden matrices, AdamW for the rest, behind one step and one flat state of named tensors.

Muon computes what ``torch.optim.Muon`` does, in float32 where bf16 is slow: torch's multiplies in bf16 everywhere, which takes
a CPU without instructions for it forty times as long. Convolution kernels are matrices to it that share memory with the kernel.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from diorama.errors import CheckpointError, ConfigError
from diorama.runtime import fast_dtype

__all__ = ["MuonAdamW", "OptimConfig", "orthogonalised"]

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of a Newton-Schulz step, steep at 0; see the source of `MuonAdamW`."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Learning rates and moments of both optimisers."""

    muon_lr: float = 0.02
    """Peak learning rate of hidden matrices; scaled per matrix by ``sqrt(max(1, rows / columns))``."""
    adamw_lr: float = 1e-3
    """Peak learning rate of all other parameters."""
    momentum: float = 0.95
    """Nesterov momentum of Muon."""
    newton_schulz_steps: int = 5
    """Orthogonalisation steps of Muon; each costs three matrix products per matrix."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Moments of AdamW."""
    weight_decay: float = 0.01
    """Decay per unit of learning rate, of matrices only."""
    adamw_names: tuple[str, ...] = ("embed", "table", "conv_in", "conv_out", "proj_out", "head")
    """A parameter whose name holds one of these goes to AdamW whatever its shape."""

    def __post_init__(self) -> None:
        for name in ("muon_lr", "adamw_lr"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; allowed is above 0 and at most 1, for example {0.02 if name == 'muon_lr' else 1e-3}"
                )
        if not (0 <= self.momentum < 1 and all(0 <= beta < 1 for beta in self.betas)):
            raise ConfigError(
                f"momentum {self.momentum} and betas {self.betas} must be at least 0 and below 1; the defaults are 0.95 and (0.9, 0.95)"
            )
        if not 1 <= self.newton_schulz_steps < 100 or self.weight_decay < 0:
            raise ConfigError(
                f"newton_schulz_steps {self.newton_schulz_steps} must be 1 to 99 and weight_decay {self.weight_decay} at least 0; "
                "the defaults are 5 and 0.01"
            )


class MuonAdamW:
    """Both optimisers over the trainable parameters of one module.

    Source: Muon, https://kellerjordan.github.io/posts/muon/ (momentum 0.95, 5 Newton-Schulz steps).

    Args:
        module: What to train; its parameters must already be on their device.
        config: Rates and moments.
    """

    def __init__(self, module: nn.Module, config: OptimConfig) -> None:
        self.config = config
        embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        self._matrices: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
        self._others: dict[str, nn.Parameter] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            if _is_matrix(parameter) and id(parameter) not in embeddings and not any(part in name for part in config.adamw_names):
                flat = nn.Parameter(parameter.detach().view(parameter.shape[0], -1))
                self._matrices[name] = (parameter, flat)
            else:
                self._others[name] = parameter
        self._momenta: dict[str, Tensor] = {}
        decayed = [p for p in self._others.values() if _is_matrix(p)]
        plain = [p for p in self._others.values() if not _is_matrix(p)]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        self._adamw = torch.optim.AdamW(groups, lr=config.adamw_lr, betas=config.betas, fused=True) if groups else None

    def parameters(self) -> list[nn.Parameter]:
        """Return every parameter that is trained."""
        return [parameter for parameter, _ in self._matrices.values()] + list(self._others.values())

    def num_matrices(self) -> int:
        """Return how many parameters Muon trains."""
        return len(self._matrices)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def step(self, scale: float, pool: Executor | None = None) -> None:
        """Move the parameters by their gradients.

        Args:
            scale: Share of the peak learning rates, 0 to 1, from the schedule.
            pool: Threads that share the work; the result is the same.
        """
        # One for each matrix, so that threads can share the work.
        moves: list[Callable[[], None]] = [partial(self._move, name, self.config.muon_lr * scale) for name in self._matrices]
        if self._adamw is not None:
            for group in self._adamw.param_groups:
                group["lr"] = self.config.adamw_lr * scale
            moves.append(self._adamw.step)
        for _ in map(operator.call, moves) if pool is None else pool.map(operator.call, moves):
            pass

    @torch.no_grad()
    def _move(self, name: str, lr: float) -> None:
        """Move one matrix by its gradient, if it has one."""
        parameter, flat = self._matrices[name]
        if parameter.grad is None:
            return
        gradient, config = parameter.grad.reshape(flat.shape), self.config
        if name not in self._momenta:
            self._momenta[name] = torch.zeros_like(gradient)
        momentum = self._momenta[name]
        momentum.lerp_(gradient, 1 - config.momentum)
        direction = orthogonalised(gradient.lerp(momentum, config.momentum), config.newton_schulz_steps)
        flat.mul_(1 - lr * config.weight_decay)
        flat.add_(direction, alpha=-lr * math.sqrt(max(1, flat.shape[0] / flat.shape[1])))

    def state_dict(self) -> dict[str, Tensor]:
        """Return momenta and counters as named tensors."""
        state = {f"muon.{name}": self._momenta[name] for name in self._matrices if name in self._momenta}
        for name, parameter in self._others.items():
            if self._adamw is not None and parameter in self._adamw.state:
                state.update({f"adamw.{key}.{name}": value for key, value in self._adamw.state[parameter].items()})
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave.

        Raises:
            CheckpointError: a tensor is unknown or of another shape, so the state is of another model.
        """
        for key, value in state.items():
            kind, _, rest = key.partition(".")
            if kind == "muon" and rest in self._matrices:
                flat = self._matrices[rest][1]
                if flat.shape == value.shape:
                    self._momenta[rest] = value.to(flat.device, flat.dtype, copy=True)
                    continue
            moment, _, name = rest.partition(".")
            if kind == "adamw" and name in self._others and self._adamw is not None:
                parameter = self._others[name]
                if value.ndim == 0 or value.shape == parameter.shape:
                    self._adamw.state[parameter][moment] = value.to(parameter.device, torch.float32, copy=True)
                    continue
            raise CheckpointError(
                f"optimiser state '{key}' of shape {tuple(value.shape)} does not fit this model; "
                "resume with the config of the run, or start in another folder"
            )


def orthogonalised(matrix: Tensor, steps: int) -> Tensor:
    """Return a matrix with its singular vectors and all singular values near 1, by Newton-Schulz steps.

    Args:
        matrix: ``[rows, columns]``.
        steps: How many; after five the values lie between 0.5 and 1.5, unless they were nearly 0.

    Returns:
        ``[rows, columns]``, bf16 where that is fast, else float32.
    """
    a, b, c = QUINTIC
    turned = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(fast_dtype(matrix.device), copy=True)
    x = x.T if turned else x
    x /= x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if turned else x


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Tell a matrix or kernel from a bias, a gain or a table of one row, whatever shape they are kept in."""
    return parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) > 1
