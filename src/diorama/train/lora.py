"""Training of a LoRA: the transformer stays as it is, pairs of thin matrices beside its layers learn.

Only the adapter is a module of the loop, so checkpoints, moving average and export hold nothing else, and a run resumes as any
other. The result is a file that diffusers, peft and ``diorama generate --lora`` read.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from diorama.errors import ConfigError, nearest
from diorama.interop.lora import Change, Lora, save_lora
from diorama.train.log import Work
from diorama.train.loop import Task

__all__ = ["Adapter", "LoraConfig", "LoraTask"]


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Size of a LoRA and the layers it goes beside."""

    rank: int = 16
    """Rows of the first matrix of a pair, columns of the second."""
    alpha: float | None = None
    """Strength: a pair counts ``alpha / rank`` times; ``rank`` if None."""
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
    """Ends of the names of the layers."""

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets:
            raise ConfigError(f"lora.rank is {self.rank} with {len(self.targets)} targets; both must be at least 1, usual is a rank of 4 to 64")
        if self.alpha is not None and not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ConfigError(f"lora.alpha is {self.alpha}; it must be above 0, or left out for the rank")

    @property
    def scale(self) -> float:
        """How often a pair counts."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


class Adapter(nn.Module):
    """The pairs beside the layers of one transformer; at the start they add nothing.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.

    Args:
        model: Whose linear layers are adapted.
        config: Rank, strength and layers.

    Raises:
        ConfigError: a target names no layer.
    """

    def __init__(self, model: nn.Module, config: LoraConfig) -> None:
        super().__init__()
        self.config = config
        layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        for target in config.targets:
            if not any(f".{name}".endswith(f".{target}") for name in layers):
                ends = {name.rpartition(".")[2] for name in layers}
                raise ConfigError(f"lora.targets names '{target}' and no layer's name ends so{nearest(target, ends)}")
        chosen = {name: layer for name, layer in layers.items() if any(f".{name}".endswith(f".{target}") for target in config.targets)}
        generator = torch.Generator().manual_seed(0)
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        for name, layer in chosen.items():
            down = torch.empty(config.rank, layer.in_features)
            nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
            # A parameter's name may hold no dots.
            key = name.replace(".", "/")
            self.lora_A[key], self.lora_B[key] = nn.Parameter(down), nn.Parameter(torch.zeros(layer.out_features, config.rank))

    def attach(self, model: nn.Module) -> list[RemovableHandle]:
        """Let the layers of ``model`` add their pairs from now on.

        Returns:
            What takes them off again.
        """
        return [model.get_submodule(key.replace("/", ".")).register_forward_hook(functools.partial(self._add, key)) for key in self.lora_A]

    def _add(self, key: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        del layer
        down, up = self.lora_A[key], self.lora_B[key]
        added = F.linear(F.linear(inputs[0].to(down.dtype), down), up)
        return output + self.config.scale * added.to(output.dtype)

    def lora(self) -> Lora:
        """Return what has been learnt."""
        return Lora(
            changes={
                key.replace("/", "."): Change(down=self.lora_A[key].detach(), up=self.lora_B[key].detach(), scale=self.config.scale)
                for key in self.lora_A
            }
        )


class LoraTask:
    """A task whose transformer is frozen and whose adapter is trained.

    Args:
        inner: The task that trains the whole transformer; it brings batches, loss and samples.
        transformer: Of that task, on its device; frozen here.
        config: The adapter.

    Raises:
        ConfigError: a target names no layer.
    """

    def __init__(self, inner: Task, transformer: nn.Module, config: LoraConfig) -> None:
        self.inner, self.transformer = inner, transformer.requires_grad_(False)
        self.adapter = Adapter(transformer, config)
        # Batches of a step run in threads of their own, so the adapter stays attached and is not put on for every loss.
        self._handles = self.adapter.attach(transformer)

    def module(self) -> nn.Module:
        """Return the adapter."""
        return self.adapter

    def describe(self) -> str:
        """Return counts of the training set."""
        config = self.adapter.config
        return f"{self.inner.describe()}; a LoRA of rank {config.rank} beside {len(self.adapter.lora_A)} layers"

    def work(self, batch: Any) -> Work:
        """Return the size of a batch; the frozen weights need no gradient, a third of the operations."""
        whole = self.inner.work(batch)
        return Work(samples=whole.samples, tokens=whole.tokens, flops=whole.flops * 2 / 3)

    def batch(self, index: int) -> Any:
        """Return batch ``index`` of the inner task."""
        return self.inner.batch(index)

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the transformer with the adapter beside it."""
        return self.inner.loss(batch, generator)

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write what the transformer makes with the averaged adapter."""
        assert isinstance(module, Adapter)
        self._swap(module)
        try:
            self.inner.sample(self.transformer, folder, step)
        finally:
            self._swap(self.adapter)

    def _swap(self, adapter: Adapter) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = adapter.attach(self.transformer)

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write the averaged adapter where diffusers looks for it."""
        assert isinstance(module, Adapter)
        save_lora(module.lora(), folder)
