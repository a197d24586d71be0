"""Rotary position embedding over three axes, from real-valued positions.

Head dimensions are split over ``(t, y, x)`` as in Wan: a third each in pairs, what is left over goes to time. Neighbouring
dimensions ``(2i, 2i + 1)`` form a pair that turns by ``position * theta ** (-2i / axis_dim)`` radians.

Source: Su et al. 2021, "RoFormer"; Wan 2.1, ``WanRotaryPosEmbed`` of diffusers.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["apply_rope", "apply_rope_plain", "rope_axes", "rope_table"]


def rope_axes(head_dim: int) -> tuple[int, int, int]:
    """Return how many of ``head_dim`` dimensions belong to ``(t, y, x)``; all three are even if ``head_dim`` is."""
    space = 2 * (head_dim // 6)
    return head_dim - 2 * space, space, space


def rope_table(positions: Tensor, head_dim: int, *, theta: float = 10000.0) -> Tensor:
    """Return the rotation of every token, once for all blocks.

    Args:
        positions: ``[L, 3]`` of ``(t, y, x)``, any real numbers.
        head_dim: K, even.
        theta: Longest wavelength over 2 pi.

    Returns:
        ``[L, K / 2, 2]`` float32 of cosine and sine.
    """
    # float64 because Wan's tables are made so; positions near 1000 lose 1e-4 radians in float32. MPS has no float64.
    dtype = torch.float32 if positions.device.type == "mps" else torch.float64
    angles = []
    for axis, dim in enumerate(rope_axes(head_dim)):
        frequency = theta ** (-torch.arange(0, dim, 2, dtype=dtype, device=positions.device) / dim)
        angles.append(positions[:, axis, None].to(dtype) * frequency)
    angle = torch.cat(angles, dim=1)
    return torch.stack([angle.cos(), angle.sin()], dim=-1).float()


def apply_rope(x: Tensor, table: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Turn queries or keys.

    Args:
        x: ``[L, N, K]``.
        table: ``[L, K / 2, 2]`` from `rope_table`.
        dtype: Number format of the result; that of ``x`` if None.

    Returns:
        ``[L, N, K]``, computed in float32.
    """
    if torch.compiler.is_compiling():
        # The compiler makes one loop of the 2 x 2 rotation, and none of complex numbers.
        return apply_rope_plain(x, table, dtype)
    turn = torch.view_as_complex(table).unsqueeze(1)
    if not torch.is_grad_enabled():
        return _turned(x, turn, dtype or x.dtype)
    result: Tensor = _Rotate.apply(x, turn, dtype or x.dtype)  # type: ignore[no-untyped-call]
    return result


class _Rotate(torch.autograd.Function):
    """A rotation; its gradient is the rotation back, so nothing but the table is kept."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, turn: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(turn)
        ctx.dtype = x.dtype  # type: ignore[attr-defined]
        return _turned(x, turn, dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        (turn,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return _turned(grads[0], turn.conj(), ctx.dtype), None, None  # type: ignore[attr-defined]


def _turned(x: Tensor, turn: Tensor, dtype: torch.dtype) -> Tensor:
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2).to(dtype)


def apply_rope_plain(x: Tensor, table: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Plain twin of `apply_rope`, written as the 2 x 2 rotation itself."""
    even, odd = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = table.unsqueeze(1).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(dtype or x.dtype)
