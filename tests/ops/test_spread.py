"""Rows to tokens against plain indexing."""

from __future__ import annotations

import torch

from diorama.ops.spread import spread, spread_plain


def test_equals_indexing_with_gradients():
    g = torch.Generator().manual_seed(0)
    table, weight = torch.randn(4, 6, generator=g), torch.randn(9, 6, generator=g)
    rows = torch.tensor([0, 0, 2, 1, 1, 3, 3, 0, 2])
    a, b = table.clone().requires_grad_(), table.clone().requires_grad_()
    fast, plain = spread(a, rows), spread_plain(b, rows)
    (fast * weight).sum().backward()
    (plain * weight).sum().backward()
    assert torch.equal(fast, plain)
    torch.testing.assert_close(a.grad, b.grad)
