from __future__ import annotations

import pytest
import torch

from diorama.ops.upsample import upsampled_conv, upsampled_conv_plain


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 8, 1, 7)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_is_upsampling_and_a_convolution(shape: tuple[int, ...], with_bias: bool) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()
    weight = torch.randn(5, shape[1], 3, 3, generator=g, dtype=torch.float64).requires_grad_()
    bias = torch.randn(5, generator=g, dtype=torch.float64) if with_bias else None
    fast, plain = upsampled_conv(x, weight, bias), upsampled_conv_plain(x, weight, bias)
    torch.testing.assert_close(fast, plain)
    assert fast.is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(torch.autograd.grad(fast.square().sum(), (x, weight)), torch.autograd.grad(plain.square().sum(), (x, weight)), strict=True):
        torch.testing.assert_close(a, b)
