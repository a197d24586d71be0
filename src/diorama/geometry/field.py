"""The radiance field: density and colour of every place in the unit cube, and what a ray through it sees."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diorama.errors import InputError
from diorama.geometry.encoding import EncodingConfig, GridEncoding
from diorama.geometry.occupancy import Samples

__all__ = ["Field", "FieldConfig", "Seen", "composite", "harmonics", "look", "spread_of"]

_HARMONICS = 9
_LARGEST = 12.0
_THIN = 1.0


@dataclass(frozen=True, kw_only=True)
class FieldConfig:
    """Size of the field."""

    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    """The grid."""
    hidden_size: int = 32
    """Width of the networks, at least 8."""
    geometry_size: int = 15
    """Numbers that the colour network learns of a place, at least 1."""

    def __post_init__(self) -> None:
        if self.hidden_size < 8 or self.geometry_size < 1:
            raise InputError(f"a field of width {self.hidden_size} and {self.geometry_size} features cannot be; allowed are at least 8 and 1")


class Field(nn.Module):
    """Density from a grid and a small network; colour from a second one that also knows the direction.

    Args:
        config: Its size.
        generator: For the first weights, on the CPU.

    Source: Müller et al. 2022, "Instant Neural Graphics Primitives", section 5.4.
    """

    def __init__(self, config: FieldConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.encoding = GridEncoding(config.encoding, generator)
        hidden, geometry = config.hidden_size, config.geometry_size
        self.density_in = nn.Linear(self.encoding.width, hidden, bias=False)
        self.density_out = nn.Linear(hidden, 1 + geometry, bias=False)
        self.color_in = nn.Linear(geometry, hidden, bias=False)
        self.color_view = nn.Linear(_HARMONICS, hidden, bias=False)
        self.color_out = nn.Linear(hidden, 3, bias=False)
        for layer in (self.density_in, self.density_out, self.color_in, self.color_view, self.color_out):
            bound = (6 / layer.in_features) ** 0.5
            with torch.no_grad():
                layer.weight.copy_(torch.rand(layer.weight.shape, generator=generator).mul_(2 * bound).sub_(bound))

    def density(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the density and what the colour network should know.

        Args:
            points: ``[N, 3]`` in [0, 1].

        Returns:
            Densities float32 ``[N]``, per radius of the space, and features ``[N, G]``.
        """
        out = self.density_out(F.relu(self.density_in(self.encoding(points))))
        return torch.exp(out[:, 0].float().clamp_max(_LARGEST) - _THIN), out[:, 1:]

    def forward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return density and colour.

        Args:
            points: ``[R, K, 3]`` in [0, 1].
            directions: ``[R, 3]``, of any length but 0.

        Returns:
            Densities float32 ``[R, K]`` and colours float32 ``[R, K, 3]`` in [0, 1].
        """
        rays, places, _ = points.shape
        density, features = self.density(points.view(-1, 3))
        seen_from = self.color_view(harmonics(F.normalize(directions, dim=-1)))
        hidden = F.relu(self.color_in(features).view(rays, places, -1) + seen_from[:, None])
        color = torch.sigmoid(self.color_out(hidden).float())
        return density.view(rays, places), color


def harmonics(directions: Tensor) -> Tensor:
    """Return the real spherical harmonics up to degree 2, ``[..., 9]``, of unit vectors ``[..., 3]``, each with a mean square of 1."""
    x, y, z = directions.unbind(-1)
    a, b = 3.0**0.5, 15.0**0.5
    terms = (torch.ones_like(x), a * x, a * y, a * z, b * x * y, b * y * z, b * x * z, b / 2 * (x * x - y * y), 5.0**0.5 / 2 * (3 * z * z - 1))
    return torch.stack(terms, -1)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What rays saw."""

    color: Tensor
    """float32 ``[R, 3]`` in [0, 1]."""
    weights: Tensor
    """float32 ``[R, K + 1]``: the share of light from each interval, the horizon last; they sum to 1."""
    density: Tensor
    """float32 ``[R, K + 1]``, at the samples' points."""


def look(field: Field, samples: Samples, directions: Tensor) -> Seen:
    """Follow rays through a field.

    Args:
        field: What is looked at.
        samples: Where.
        directions: ``[R, 3]``, of the rays.
    """
    density, color = field(samples.points, directions)
    weights = composite(density[:, :-1], samples.lengths)
    return Seen(color=(weights[..., None] * color).sum(1), weights=weights, density=density.detach())


def composite(density: Tensor, lengths: Tensor) -> Tensor:
    """Return the share of a ray's light that comes from each interval, and last from behind them all.

    Args:
        density: ``[R, K]``, at least 0.
        lengths: ``[R, K]`` in the inverse unit.

    Returns:
        ``[R, K + 1]``, rows sum to 1.
    """
    passed = (density * lengths).cumsum(-1)
    through = torch.exp(-F.pad(passed, (1, 0)))
    return torch.cat([through[:, :-1] - through[:, 1:], through[:, -1:]], -1)


def spread_of(weights: Tensor, edges: Tensor) -> Tensor:
    """Return how far apart along each ray its light comes from, ``[R]``: small for one surface, large for fog and floaters.

    Args:
        weights: ``[R, K]``.
        edges: ``[R, K + 1]``, rising.

    Source: Barron et al. 2022, "Mip-NeRF 360", equation 15, in linear time: the middles rise along a ray.
    """
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    mass, moment = weights.cumsum(-1), (weights * middle).cumsum(-1)
    apart = 2 * (weights[:, 1:] * (middle[:, 1:] * mass[:, :-1] - moment[:, :-1])).sum(-1)
    return apart + (weights.square() * (edges[:, 1:] - edges[:, :-1])).sum(-1) / 3
