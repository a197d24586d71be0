from __future__ import annotations

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
