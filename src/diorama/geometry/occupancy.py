"""Where along a ray to look: a coarse memory of the densities met so far, so that empty and hidden places are skipped.

On a CPU with numba the search along rays is a compiled loop (``field_kernels.march``); anywhere else, and as its twin, it is plain torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diorama.geometry.compiled import spread
from diorama.geometry.encoding import has_numba
from diorama.geometry.rays import Rays, Space

__all__ = ["Occupancy", "Samples", "march", "march_plain"]

_BINS = 128
_SIDE = 128
_EVENLY = 0.2
_VEIL = 0.5  # light passes a cell more easily than remembered: its surface may fill only a part of it
_FADED = 0.97
_FIRST = 0.1


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Where R rays look: K intervals each, and the horizon."""

    edges: Tensor
    """float32 ``[R, K + 1]`` in [0, 1], rising; see ``Space.depth``."""
    points: Tensor
    """float32 ``[R, K + 1, 3]`` in the unit cube: the middles of the intervals, then the horizon."""
    lengths: Tensor
    """float32 ``[R, K]``: the intervals' lengths in radii of the space."""


class Occupancy:
    """The mean of the recent densities in every cell of the unit cube, which says where the next samples go.

    Args:
        space: What the cube covers.
        device: Where rays are.
    """

    def __init__(self, space: Space, device: torch.device) -> None:
        self.space = space
        self.density = torch.full((_SIDE**3,), _FIRST, device=device)

    def samples(self, rays: Rays, count: int, generator: torch.Generator | None) -> Samples:
        """Choose where to look: close together where light is stopped, spread out elsewhere.

        Args:
            rays: R of them.
            count: Intervals on each ray, K.
            generator: On the CPU; shifts the edges at random. None: always the same edges.
        """
        shifts = torch.full((len(rays), count + 1), 0.5) if generator is None else torch.rand(len(rays), count + 1, generator=generator)
        return march(rays, shifts.to(self.density.device), self.space, self.density)

    def note(self, points: Tensor, density: Tensor) -> None:
        """Mix densities ``[N]`` met at points ``[N, 3]`` of the unit cube into what is remembered there."""
        self.density.scatter_reduce_(0, _cells(points), density, "mean", include_self=True)

    def fade(self) -> None:
        """Forget a little, so that what is no longer found disappears."""
        self.density *= _FADED

    def probes(self, count: int, generator: torch.Generator) -> Tensor:
        """Return random points ``[count, 3]`` of the unit cube, for a look where no ray goes now."""
        return torch.rand(count, 3, generator=generator).to(self.density.device)


def march(rays: Rays, shifts: Tensor, space: Space, density: Tensor) -> Samples:
    """Choose where to look, by a compiled loop on a CPU that has numba, else as ``march_plain``."""
    if density.device.type != "cpu" or not has_numba():
        return march_plain(rays, shifts, space, density)
    from diorama.geometry import field_kernels

    edges, points = torch.empty_like(shifts), shifts.new_empty(*shifts.shape, 3)
    lengths = shifts.new_empty(len(rays), shifts.shape[1] - 1)
    borders = space.depth(torch.linspace(0, 1, _BINS + 1)).numpy()
    numbers = torch.tensor([*space.center, 1 / space.radius, space.near, space.knee]).numpy()
    lines = field_kernels.Lines(rays.origins.contiguous().numpy(), rays.directions.contiguous().numpy(), shifts.contiguous().numpy())
    ground = field_kernels.Ground(density.numpy(), _SIDE, borders, numbers, _VEIL, _EVENLY)
    found = field_kernels.Found(edges.numpy(), points.numpy(), lengths.numpy())
    spread(field_kernels.march, len(rays), lines, ground, found)
    return Samples(edges=edges, points=points, lengths=lengths)


def march_plain(rays: Rays, shifts: Tensor, space: Space, density: Tensor) -> Samples:
    """Plain twin of ``march``.

    Args:
        rays: R of them.
        shifts: ``[R, K + 1]`` in [0, 1), of the edges.
        space: What the unit cube covers.
        density: ``[128 ** 3]``, of its cells.
    """
    borders = space.depth(torch.linspace(0, 1, _BINS + 1, device=density.device))
    speed = rays.directions.norm(dim=-1, keepdim=True) / space.radius
    passed = _VEIL * density[_cells(_places(rays, space, 0.5 * (borders[1:] + borders[:-1])))] * (borders[1:] - borders[:-1]) * speed
    light = torch.exp(-F.pad(passed.cumsum(-1), (1, 0)))
    weights = F.pad(light[:, :-1] - light[:, 1:], (1, 1))
    # a surface just behind a bin's border belongs to its neighbour too
    weights = 0.5 * (torch.maximum(weights[:, :-2], weights[:, 1:-1]) + torch.maximum(weights[:, 1:-1], weights[:, 2:]))
    weights = (1 - _EVENLY) * weights / weights.sum(-1, keepdim=True).clamp_min(1e-6) + _EVENLY / _BINS
    total = F.pad(weights.cumsum(-1), (1, 0))
    slots = shifts.shape[1]
    wanted = total[:, -1:] * (torch.arange(slots, device=shifts.device) + shifts) / slots
    above = torch.searchsorted(total, wanted, right=True).clamp(1, _BINS)
    low, share = total.gather(1, above - 1), weights.gather(1, above - 1)
    edges = (above - 1 + ((wanted - low) / share).clamp(0, 1)) / _BINS
    depth = space.depth(edges)
    points = _places(rays, space, space.depth(0.5 * (edges[:, 1:] + edges[:, :-1])))
    points = torch.cat([points, space.horizon(rays.directions)[:, None]], 1)
    return Samples(edges=edges, points=points, lengths=(depth[:, 1:] - depth[:, :-1]) * speed)


def _places(rays: Rays, space: Space, depth: Tensor) -> Tensor:
    return space.contract(rays.origins[:, None] + depth[..., None] * rays.directions[:, None])


def _cells(points: Tensor) -> Tensor:
    x, y, z = (points * _SIDE).int().clamp_(0, _SIDE - 1).unbind(-1)
    return ((z * _SIDE + y) * _SIDE + x).long()
