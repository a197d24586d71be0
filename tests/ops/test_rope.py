"""Rotary positions: relative, as Wan's on whole numbers, and equal to the plain rotation."""

from __future__ import annotations

import torch

from diorama.ops.rope import apply_rope, apply_rope_plain, rope_axes, rope_table


def test_axes_are_wans():
    assert rope_axes(128) == (44, 42, 42)
    assert rope_axes(64) == (24, 20, 20)


def test_fast_equals_plain_with_gradients():
    g = torch.Generator().manual_seed(0)
    table = rope_table(torch.randn(7, 3, generator=g) * 5, 16)
    x = torch.randn(7, 2, 16, generator=g)
    weight = torch.randn(7, 2, 16, generator=g)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    fast, plain = apply_rope(a, table), apply_rope_plain(b, table)
    (fast * weight).sum().backward()
    (plain * weight).sum().backward()
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(a.grad, b.grad)
    assert not torch.allclose(fast, x)


def test_scores_depend_on_differences_of_positions_only():
    g = torch.Generator().manual_seed(1)
    positions = torch.randn(9, 3, generator=g) * 4
    q, k = torch.randn(2, 9, 1, 32, generator=g)

    def scores(at: torch.Tensor) -> torch.Tensor:
        table = rope_table(at, 32)
        return (apply_rope(q, table)[:, 0] @ apply_rope(k, table)[:, 0].T).detach()

    moved = positions + torch.tensor([3.25, -1.5, 0.75])
    torch.testing.assert_close(scores(positions), scores(moved), atol=2e-5, rtol=1e-5)
    assert not torch.allclose(scores(positions), scores(positions * 1.5), atol=1e-2)


def test_bf16_is_rotated_in_float32():
    g = torch.Generator().manual_seed(2)
    table = rope_table(torch.rand(5, 3, generator=g) * 30, 12)
    x = torch.randn(5, 3, 12, generator=g).bfloat16()
    assert torch.equal(apply_rope(x, table), apply_rope_plain(x, table))
    assert apply_rope(x, table).dtype == torch.bfloat16
