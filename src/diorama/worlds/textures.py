"""Floor patterns, filtered analytically by the width of a pixel, so that neither edges nor far ground shimmer.

A pattern gives the share of the floor's second colour, and a factor on brightness. Its contrast fades to its mean as
the pixel grows past the pattern's period. Source: I. Quilez, "Filtering procedural textures" (box filter of a square wave).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.worlds.scene import Floor

__all__ = ["Ground", "pattern"]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Points of the floor, [R] each."""

    x: Tensor
    """Metres."""
    y: Tensor
    """Metres."""
    width_x: Tensor
    """Extent of the pixel's footprint along x, metres."""
    width_y: Tensor
    """Extent of the pixel's footprint along y, metres."""


def pattern(floor: Floor, ground: Ground) -> tuple[Tensor, Tensor]:
    """Return the share of the second colour in [0, 1] and the brightness factor, [R] each."""
    return _PATTERNS[floor](ground)


def _wave(x: Tensor, width: Tensor, period: float) -> Tensor:
    """Return a square wave in [-1, 1] with edges one footprint wide, fading to 0 when the footprint nears the period."""
    phase = x * (1 / period)
    triangle = ((phase - phase.floor() - 0.5).abs_() - 0.25) * (4 * 0.5 * period)
    edge = (triangle / width.clamp(min=1e-4)).clamp_(-1, 1)
    return edge * _fade(width, period)


def _fade(width: Tensor, period: float) -> Tensor:
    return (1.6 - width * (2.2 / period)).clamp_(0, 1)


def _line(x: Tensor, width: Tensor, period: float, thickness: float) -> Tensor:
    """Return the coverage in [0, 1] of lines at multiples of the period, filtered."""
    phase = x * (1 / period)
    near = (phase - phase.round()).abs_() * period
    span = width + thickness
    # a footprint wider than the line sees only a share of it
    inside = ((0.5 * span - near) / width.clamp(min=1e-4)).clamp_(0, 1) * (thickness / torch.maximum(width, torch.full_like(width, thickness)))
    fade = _fade(width, period)
    return inside * fade + (1 - fade) * (thickness / period)


def _ripple(ground: Ground, fx: float, fy: float, shift: float = 0.0) -> Tensor:
    """Return a sine across the floor in [-1, 1] of ``fx, fy`` radians a metre, filtered."""
    wave = torch.add(ground.x * fx, ground.y, alpha=fy).add_(shift).sin_()
    # a box of width w dims a sine of frequency f by about 1 - (w f)^2 / 24
    loss = torch.add((ground.width_x * fx).square_(), (ground.width_y * fy).square_())
    return wave * (1 - loss * (1 / 24)).clamp_(0, 1)


def _checker(ground: Ground) -> tuple[Tensor, Tensor]:
    share = _wave(ground.x, ground.width_x, 1.8) * _wave(ground.y, ground.width_y, 1.8)
    return 0.5 + 0.5 * share, torch.ones_like(share)


def _stripe(ground: Ground) -> tuple[Tensor, Tensor]:
    share = _wave(ground.x, ground.width_x, 1.4)
    return 0.5 + 0.5 * share, torch.ones_like(share)


def _cell(row: Tensor, column: Tensor) -> Tensor:
    """Return a repeatable number in [-1, 1] per cell of a lattice."""
    return torch.sin(row * 12.9 + column * 4.7 + torch.sin(row * 3.1 - column * 7.3) * 2.0)


def _brick(ground: Ground) -> tuple[Tensor, Tensor]:
    row = (ground.y * (1 / 0.5)).floor()
    x = ground.x + row * 0.5
    joints = torch.maximum(_line(ground.y, ground.width_y, 0.5, 0.07), _line(x, ground.width_x, 1.0, 0.07))
    tint = _cell(row, (x + 0.0).floor()) * _fade(torch.maximum(ground.width_x * 0.5, ground.width_y), 0.5)
    return joints, 1 + 0.14 * tint * (1 - joints)


def _wood(ground: Ground) -> tuple[Tensor, Tensor]:
    plank = (ground.x * (1 / 0.6)).floor()
    gap = _line(ground.x, ground.width_x, 0.6, 0.035)
    fade = _fade(ground.width_x, 0.6)
    tint = _cell(plank, plank * 0.5) * fade
    grain = _ripple(ground, 31.0, 1.1) + 0.7 * _ripple(ground, 17.0, -0.8, 2.0)
    return gap, (1 + 0.15 * tint) + 0.05 * grain


def _grass(ground: Ground) -> tuple[Tensor, Tensor]:
    slow = _ripple(ground, 1.7, 0.9) + _ripple(ground, -1.1, 2.1, 1.0)
    fine = _ripple(ground, 7.1, 4.3) + _ripple(ground, -5.2, 8.3, 2.0) + _ripple(ground, 11.3, -6.1, 4.0)
    return (0.5 + 0.22 * slow).clamp_(0, 1), 1 + 0.06 * fine


def _concrete(ground: Ground) -> tuple[Tensor, Tensor]:
    joints = torch.maximum(_line(ground.x, ground.width_x, 2.0, 0.05), _line(ground.y, ground.width_y, 2.0, 0.05))
    stain = _ripple(ground, 1.3, 1.9) + _ripple(ground, -2.3, 1.2, 3.0) + 0.6 * _ripple(ground, 4.9, 3.7, 1.0)
    return joints, 1 + 0.035 * stain - 0.45 * joints


_PATTERNS = {"checker": _checker, "stripe": _stripe, "brick": _brick, "wood": _wood, "grass": _grass, "concrete": _concrete}
