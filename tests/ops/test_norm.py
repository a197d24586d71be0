from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diorama.ops.norm import ChannelNorm


def test_matches_rms_norm_of_the_channels() -> None:
    torch.manual_seed(0)
    norm, x = ChannelNorm(6), torch.randn(2, 6, 3, 4, 5)
    with torch.no_grad():
        norm.gamma.mul_(torch.rand(6, 1, 1, 1))
    expected = F.rms_norm(x.movedim(1, -1), (6,), norm.gamma.flatten(), eps=0.0).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected)


def test_sees_one_position_only() -> None:
    norm, x = ChannelNorm(4), torch.randn(1, 4, 2, 3, 3)
    changed = x.clone()
    changed[:, :, 1, 2, 2] *= -7
    same = norm(x) == norm(changed)
    same[:, :, 1, 2, 2] = True
    assert same.all()


def test_keeps_the_dtype() -> None:
    x = torch.randn(1, 4, 1, 2, 2)
    out = ChannelNorm(4)(x.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), ChannelNorm(4)(x), rtol=0.03, atol=0.03)


def test_zeros_stay_zeros() -> None:
    assert torch.equal(ChannelNorm(4, num_axes=2)(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("shape", [(2, 6, 3, 4, 5), (1, 3, 1, 200, 200), (1, 200000, 1, 1, 2)], ids=["small", "many pieces", "wide"])
@pytest.mark.parametrize("layout", ["channels last", "channels first"])
def test_activated_is_the_silu_of_the_norm_and_no_coarser_than_its_plain_twin(shape: tuple[int, ...], layout: str) -> None:
    torch.manual_seed(0)
    norm = ChannelNorm(shape[1]).requires_grad_(False)
    norm.gamma.copy_(torch.rand_like(norm.gamma) + 0.5)
    x = torch.randn(shape)
    if layout == "channels last":
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    half, given = x.bfloat16(), x.bfloat16().clone()
    exact = F.silu(F.rms_norm(half.float().movedim(1, -1), (shape[1],), norm.gamma.flatten(), eps=0.0)).movedim(-1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(norm.activated(half.float()), exact, atol=1e-5, rtol=1e-4)
        found, plain = norm.activated(half), norm.activated_plain(half)
    assert torch.equal(half, given)
    assert found.dtype == torch.bfloat16
    errors = [(one.float() - exact).norm() / exact.norm() for one in (found, plain)]
    assert errors[0] < 0.002
    assert errors[0] <= 1.01 * errors[1]


def test_the_layout_does_not_change_what_is_activated() -> None:
    torch.manual_seed(0)
    norm, x = ChannelNorm(6).requires_grad_(False), torch.randn(2, 6, 1, 4, 5).bfloat16()
    with torch.inference_mode():
        assert torch.equal(norm.activated(x), norm.activated(x.movedim(1, -1).contiguous().movedim(-1, 1)))


def test_activated_has_the_gradient_of_its_twin() -> None:
    torch.manual_seed(0)
    norm, inputs = ChannelNorm(4), [torch.randn(1, 4, 2, 3, 3).bfloat16().requires_grad_() for _ in range(2)]
    with torch.no_grad():
        inputs[1].copy_(inputs[0])
    norm.activated(inputs[0]).sum().backward()
    norm.activated_plain(inputs[1]).sum().backward()
    assert torch.equal(inputs[0].grad, inputs[1].grad)
