"""Rows of a small table to tokens."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["spread", "spread_plain"]


def spread(table: Tensor, rows: Tensor) -> Tensor:
    """Give every token its row.

    The gradient of a row is the sum over its tokens, taken as a matrix product that adds up in float32; torch's own adds
    row by row in the dtype of the table.

    Args:
        table: ``[R, D]``.
        rows: Row of every token ``[L]``.

    Returns:
        ``[L, D]``.
    """
    if not torch.is_grad_enabled():
        return table.index_select(0, rows)
    result: Tensor = _Spread.apply(table, rows)  # type: ignore[no-untyped-call]
    return result


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows = table.shape[0]  # type: ignore[attr-defined]
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors  # type: ignore[attr-defined]
        (grad,) = grads
        member = torch.zeros(ctx.num_rows, len(rows), dtype=grad.dtype, device=grad.device)  # type: ignore[attr-defined]
        return member.scatter_(0, rows[None], 1.0) @ grad, None


def spread_plain(table: Tensor, rows: Tensor) -> Tensor:
    """Plain twin of `spread`."""
    return table[rows]
