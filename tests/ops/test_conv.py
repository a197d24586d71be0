from __future__ import annotations

import pytest
import torch

from diorama.ops.conv import CausalConv3d, TimeCache


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("lengths", [(1, 1, 1, 4), (3, 4), (7,)], ids=str)
def test_chunks_are_the_whole(kernel: tuple[int, int, int], lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    conv, x = CausalConv3d(3, 5, kernel).double(), torch.randn(2, 3, 7, 4, 6, dtype=torch.float64)
    tails, outputs = None, []
    for chunk in x.split(lengths, dim=2):
        cache = TimeCache(tails)
        outputs.append(conv(chunk, cache))
        tails = cache.tails
    torch.testing.assert_close(torch.cat(outputs, dim=2), conv(x))
    assert conv(x).shape == (2, 5, 7, 4, 6)


def test_starts_after_zeros() -> None:
    conv, x = CausalConv3d(2, 2, (3, 1, 1)), torch.randn(1, 2, 1, 1, 1)
    assert conv.bias is not None
    expected = conv.weight[:, :, 2, 0, 0] @ x[0, :, 0, 0, 0] + conv.bias
    torch.testing.assert_close(conv(x)[0, :, 0, 0, 0], expected)


def test_tails_do_not_hold_the_chunk() -> None:
    cache = TimeCache()
    cache.join(torch.zeros(1, 2, 50, 4, 4), 2)
    assert cache.tails[0].untyped_storage().nbytes() == 2 * 2 * 16 * 4


def test_tails_are_values() -> None:
    """A walk does not change the tails that it was given, so a stream can branch."""
    conv, x = CausalConv3d(2, 2, (3, 1, 1)), torch.randn(1, 2, 4, 2, 2)
    start = TimeCache()
    conv(x[:, :, :2], start)
    before = [tail.clone() for tail in start.tails]
    first, second = conv(x[:, :, 2:], TimeCache(start.tails)), conv(x[:, :, 2:], TimeCache(start.tails))
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(before, start.tails, strict=True))
