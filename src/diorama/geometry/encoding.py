"""A multi-resolution grid of features over the unit cube: dense where a level is small, hashed where it is not.

On a CPU with numba the lookups and their gradient are compiled loops (``field_kernels``); anywhere else, and as their
twin, they are plain torch.

Source: Müller et al. 2022, "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding", section 3.
"""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from diorama.errors import InputError
from diorama.geometry.compiled import spread

__all__ = ["FEATURES", "PRIMES", "EncodingConfig", "GridEncoding", "gather", "gather_plain", "has_numba"]

FEATURES = 4
"""Features of a level: a row of the table is one vector register."""
PRIMES = (1, 2654435761, 805459861)
"""Factors of the spatial hash, equation 4 of the source."""


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """Size of the grid."""

    levels: int = 6
    """Resolutions, at least 1."""
    coarsest: int = 16
    """Vertices along a side of the first level, at least 2."""
    finest: int = 768
    """Vertices along a side of the last level, at least ``coarsest``."""
    log2_rows: int = 17
    """Rows of a level's table at most, as a power of two, 4 to 24."""

    def __post_init__(self) -> None:
        if self.levels < 1 or not 2 <= self.coarsest <= self.finest or not 4 <= self.log2_rows <= 24:
            raise InputError(
                f"a grid of {self.levels} levels from {self.coarsest} to {self.finest} with 2^{self.log2_rows} rows cannot be; "
                "allowed are at least 1 level, 2 <= coarsest <= finest, and 2^4 to 2^24 rows"
            )


@dataclass(frozen=True)
class Layout:
    """Where the levels lie in one table."""

    starts: Tensor
    """int64 [L], the first row of each level."""
    sides: Tensor
    """int64 [L], vertices along a side."""
    masks: Tensor
    """int64 [L], rows less 1 where a level is hashed, 0 where it is dense."""
    rows: int
    """Of all levels."""

    @staticmethod
    def of(config: EncodingConfig) -> Layout:
        """Lay the levels out in a table."""
        growth = (config.finest / config.coarsest) ** (1 / max(config.levels - 1, 1))
        sides = [round(config.coarsest * growth**level) for level in range(config.levels)]
        most = 2**config.log2_rows
        counts = [min(side**3, most) for side in sides]
        masks = [0 if side**3 <= most else most - 1 for side in sides]
        starts = [0, *itertools.accumulate(counts)]
        return Layout(torch.tensor(starts[:-1]), torch.tensor(sides), torch.tensor(masks), starts[-1])


class GridEncoding(nn.Module):
    """Features of points, interpolated between the vertices around them on every level.

    Args:
        config: Size of the grid.
        generator: For the first values, on the CPU.
    """

    starts: Tensor
    sides: Tensor
    masks: Tensor

    def __init__(self, config: EncodingConfig, generator: torch.Generator) -> None:
        super().__init__()
        layout = Layout.of(config)
        self.table = nn.Parameter(torch.rand(layout.rows, FEATURES, generator=generator).mul_(2e-4).sub_(1e-4))
        self.register_buffer("starts", layout.starts)
        self.register_buffer("sides", layout.sides)
        self.register_buffer("masks", layout.masks)
        self.width = FEATURES * config.levels

    def forward(self, points: Tensor) -> Tensor:
        """Return features ``[N, 4 L]`` of points ``[N, 3]`` in [0, 1]; there is no gradient to the points."""
        return gather(points, self.table, Layout(self.starts, self.sides, self.masks, len(self.table)))


def gather(points: Tensor, table: Tensor, layout: Layout) -> Tensor:
    """Interpolate a table at points, by compiled loops on a CPU that has numba, else as ``gather_plain``."""
    if points.device.type == "cpu" and table.dtype == points.dtype == torch.float32 and has_numba():
        features: Tensor = _Gather.apply(points, table, layout)  # type: ignore[no-untyped-call]
        return features
    return gather_plain(points, table, layout)


def gather_plain(points: Tensor, table: Tensor, layout: Layout) -> Tensor:
    """Plain twin of ``gather``.

    Args:
        points: ``[N, 3]`` in [0, 1].
        table: ``[rows, F]``.
        layout: Where the levels lie.

    Returns:
        ``[N, F L]``.
    """
    features = []
    for start, side, mask in zip(layout.starts.tolist(), layout.sides.tolist(), layout.masks.tolist(), strict=True):
        scaled = points.detach() * (side - 1)
        low = scaled.long().clamp_max(side - 2)
        fraction = scaled - low
        total = torch.zeros((), dtype=table.dtype, device=table.device)
        for corner in itertools.product((0, 1), repeat=3):
            offset = torch.tensor(corner, device=points.device)
            weight = torch.where(offset == 1, fraction, 1 - fraction).prod(-1, keepdim=True)
            x, y, z = (low + offset).unbind(-1)
            row = (z * side + y) * side + x if mask == 0 else (x ^ (y * PRIMES[1]) ^ (z * PRIMES[2])) & mask
            total = total + weight * table[start + row]
        features.append(total)
    return torch.cat(features, -1)


@cache
def has_numba() -> bool:
    """Return whether compiled loops can be had."""
    return importlib.util.find_spec("numba") is not None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, points: Tensor, table: Tensor, layout: Layout) -> Tensor:
        from diorama.geometry import field_kernels

        points = points.detach().contiguous()
        out = points.new_empty(len(points), FEATURES * len(layout.sides))
        arrays = (points.numpy(), table.detach().numpy(), *_arrays(layout), out.numpy())
        spread(field_kernels.gather, len(layout.sides), *arrays)
        ctx.save_for_backward(points)
        ctx.layout = layout  # type: ignore[attr-defined]
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[None, Tensor, None]:
        from diorama.geometry import field_kernels

        (points,) = ctx.saved_tensors  # type: ignore[attr-defined]
        layout: Layout = ctx.layout  # type: ignore[attr-defined]
        out = points.new_zeros(layout.rows, FEATURES)
        arrays = (points.numpy(), grads[0].contiguous().numpy(), *_arrays(layout), out.numpy())
        spread(field_kernels.scatter, len(layout.sides), *arrays)
        return None, out, None


def _arrays(layout: Layout) -> tuple[object, object, object]:
    return layout.starts.numpy(), layout.sides.numpy(), layout.masks.numpy()
