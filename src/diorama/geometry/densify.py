"""Adam for a cloud of Gaussians that grows and shrinks while it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from diorama.geometry.gaussians import Gaussians
from diorama.geometry.rasterise_plain import rotations

__all__ = ["Learner"]

_BETAS = (0.9, 0.999)
_EPSILON = 1e-15
_APART, _ALONG, _ACROSS = 0.5, 0.5, 0.85
"""Of a Gaussian's longest standard deviation: how far its halves lie to either side and how long they are; and the halves' share of its others."""


class Learner:
    """Gaussians and the background behind them, with Adam's moments and with what tells where more Gaussians are needed.

    Args:
        gaussians: The cloud to start from.
        background: RGB ``[3]`` to start from.
        rates: The learning rate of each parameter by name, ``background`` included; ``sh`` is that of degree 0, higher degrees learn at a
            twentieth.
    """

    def __init__(self, gaussians: Gaussians, background: Tensor, rates: dict[str, float]) -> None:
        self.rates = rates
        self.steps = 0
        self.background = background.detach().clone().requires_grad_()
        self._sky = (torch.zeros_like(background), torch.zeros_like(background))
        self._set(gaussians, *(gaussians.map(torch.zeros_like) for _ in range(2)))

    def _set(self, gaussians: Gaussians, first: Gaussians, second: Gaussians) -> None:
        self.gaussians = gaussians.map(lambda tensor: tensor.detach().clone().requires_grad_())
        self.first, self.second = first, second
        means = self.gaussians.means
        self.screen = torch.zeros(len(means), 2, device=means.device, requires_grad=True)
        """Where the rasteriser leaves the gradient of positions on the picture."""
        self.pull = torch.zeros(len(means), device=means.device)
        self.seen = torch.zeros(len(means), device=means.device)

    @torch.no_grad()
    def step(self, mean_rate: float = 1.0, rate: float = 1.0) -> None:
        """Take one step of Adam, gather what the picture's gradient says, and forget the gradients.

        Args:
            mean_rate: Share of the rate of the means.
            rate: Share of every other rate.
        """
        self.steps += 1
        for name, tensor in self.gaussians.tensors().items():
            share = mean_rate if name == "means" else rate
            self._move(name, tensor, getattr(self.first, name), getattr(self.second, name), share)
        self._move("background", self.background, *self._sky, rate)
        if self.screen.grad is not None:
            pull = self.screen.grad.norm(dim=-1)
            self.pull += pull
            self.seen += pull > 0
            self.screen.grad = None

    def _move(self, name: str, tensor: Tensor, first: Tensor, second: Tensor, share: float) -> None:
        if tensor.grad is None:
            return
        first.lerp_(tensor.grad, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(tensor.grad, tensor.grad, value=1 - _BETAS[1])
        update = first / (second / (1 - _BETAS[1] ** self.steps)).sqrt_().add_(_EPSILON)
        if name == "sh":
            update[:, 1:] /= 20
        tensor.sub_(update, alpha=self.rates[name] / (1 - _BETAS[0] ** self.steps) * share)
        tensor.grad = None

    @torch.no_grad()
    def prune(self, min_opacity: float) -> None:
        """Drop the Gaussians whose opacity is below ``min_opacity``, and those that are no longer numbers."""
        cloud = self.gaussians
        known = torch.stack([tensor.flatten(1).isfinite().all(-1) if tensor.ndim > 1 else tensor.isfinite() for tensor in cloud.tensors().values()])
        keep = (cloud.logits.sigmoid() >= min_opacity) & known.all(0)
        pull, seen = self.pull[keep], self.seen[keep]
        self._set(*(values.map(lambda tensor: tensor[keep]) for values in (cloud, self.first, self.second)))
        self.pull, self.seen = pull, seen

    @torch.no_grad()
    def split(self, count: int) -> None:
        """Split the Gaussians that the picture pulls at most into halves along their longest axis, and start to count pulls anew.

        Args:
            count: How many at most; never one that was not seen.
        """
        pull = self.pull / self.seen.clamp_min(1)
        chosen = pull.topk(min(max(count, 0), len(pull))).indices
        chosen = chosen[pull[chosen] > 0].sort().values
        parents = self.gaussians.map(lambda tensor: tensor[chosen])
        longest = parents.log_scales.argmax(-1, keepdim=True)
        length = parents.log_scales.gather(1, longest)
        axis = rotations(parents.quaternions).gather(2, longest[:, None].expand(-1, 3, 1))[..., 0]
        scales = (parents.log_scales + math.log(_ACROSS)).scatter(1, longest, length + math.log(_ALONG))
        halves = [replace(parents, means=parents.means + sign * _APART * length.exp() * axis, log_scales=scales) for sign in (1, -1)]
        for name, tensor in self.gaussians.tensors().items():
            tensor[chosen] = getattr(halves[0], name)
        for moments in (self.first, self.second):
            for tensor in moments.tensors().values():
                tensor[chosen] = 0
        nothing = halves[1].map(torch.zeros_like)
        self._set(self.gaussians.joined(halves[1]), self.first.joined(nothing), self.second.joined(nothing))
