"""Token norm against torch's, values and gradients."""

from __future__ import annotations

import pytest
import torch

from diorama.ops.token_norm import rms_norm, rms_norm_plain


@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 6)])
def test_equals_plain_with_gradients(shape):
    g = torch.Generator().manual_seed(0)
    x, gain = torch.randn(*shape, generator=g), torch.rand(6, generator=g) + 0.5
    weight = torch.randn(*shape, generator=g)
    results = []
    for function in (rms_norm, rms_norm_plain):
        a, w = x.clone().requires_grad_(), gain.clone().requires_grad_()
        out = function(a, w, 1e-2)
        (out * weight).sum().backward()
        results.append((out.detach(), a.grad, w.grad))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain)


def test_bf16_in_float32_out():
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    out = rms_norm(x, torch.ones(8), 1e-6)
    out.square().sum().backward()
    assert out.dtype == torch.float32
    assert x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(out.square().mean(-1), torch.ones(4), atol=1e-4, rtol=0)
