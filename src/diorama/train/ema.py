"""Exponential moving average of a module's weights, in fp32."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["Ema"]


class Ema:
    """A second module whose weights trail the trained ones.

    The decay ramps up as ``min(decay, (1 + step) / (10 + step))``, so early averages forget the random start.

    Args:
        module: The trained module; copied, buffers included.
        decay: Final decay per step, 0 (a plain copy) to below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).float().eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards ``module``.

        Args:
            module: The trained module.
            step: Steps done before this one, from 0.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        mine = [p.detach() for p in self.module.parameters()]
        theirs = [p.detach().float() for p in module.parameters()]
        if mine:
            torch._foreach_lerp_(mine, theirs, 1 - decay)
        for own, other in zip(self.module.buffers(), module.buffers(), strict=True):
            own.copy_(other)
