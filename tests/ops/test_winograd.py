from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diorama.ops.winograd import TAPS, conv_frames


@pytest.mark.parametrize("frames", [2, 4])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1)])
def test_is_the_convolution(frames: int, kernel: tuple[int, int]) -> None:
    """Values and gradients, to the last digits of float64."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(frames + 2, 5, 4, 6, generator=g, dtype=torch.float64).requires_grad_()
    weight = torch.randn(TAPS, 7, *kernel, 6, generator=g, dtype=torch.float64).requires_grad_()
    bias = torch.randn(7, generator=g, dtype=torch.float64).requires_grad_()
    padding = 0, kernel[0] // 2, kernel[1] // 2
    plain = F.conv3d(x.movedim(-1, 0)[None], weight.permute(1, 4, 0, 2, 3), bias, padding=padding)[0].movedim(0, -1)
    fast = conv_frames(x, weight, bias)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(conv_frames(x, weight, None), plain - bias)
    given = (x, weight, bias)
    for a, b in zip(torch.autograd.grad(fast.square().sum(), given), torch.autograd.grad(plain.square().sum(), given), strict=True):
        torch.testing.assert_close(a, b)


def test_errors_in_float32_stay_small() -> None:
    """Four frames together lose about two bits; the usual points would lose one more."""
    g = torch.Generator().manual_seed(0)
    x, weight = torch.randn(6, 12, 12, 64, generator=g), torch.randn(TAPS, 48, 3, 3, 64, generator=g)
    exact = conv_frames(x.double(), weight.double(), None)
    error = (conv_frames(x, weight, None) - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 0 < error < 2e-6
