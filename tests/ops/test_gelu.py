"""GELU: the tanh form, to rounding also where the exact form stands in for it."""

from __future__ import annotations

import torch

from diorama.ops.gelu import gelu, gelu_plain


def test_float32_is_the_tanh_form():
    x = torch.linspace(-30, 30, 9999)
    assert torch.equal(gelu(x), gelu_plain(x))
    with torch.no_grad():
        torch.testing.assert_close(gelu(x), gelu_plain(x), atol=1e-6, rtol=1e-6)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for f, leaf in ((gelu, a), (gelu_plain, b)):
        f(leaf).sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert torch.equal(a.grad, b.grad)


def test_bf16_stays_within_rounding_with_gradients():
    a = torch.linspace(-6, 6, 999).bfloat16().requires_grad_()
    b = a.detach().float().requires_grad_()
    fast, plain = gelu(a), gelu_plain(b)
    fast.sum().backward()
    plain.sum().backward()
    torch.testing.assert_close(fast.float(), plain, atol=6e-4, rtol=2**-8)
    torch.testing.assert_close(a.grad.float(), b.grad, atol=4e-3, rtol=2**-7)
