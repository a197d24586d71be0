from __future__ import annotations

import pytest
import torch

from diorama.ops import conv as conv_room
from diorama.ops.conv import CausalConv3d, TimeCache, conv_by_frames, lay_out


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


def test_frames_before_a_chunk_keep_the_layout() -> None:
    """The first frame alone looks like any layout to torch; later chunks with channels last must not be copied for it."""
    cache = TimeCache()
    cache.join(torch.randn(1, 4, 1, 3, 5).contiguous(memory_format=torch.channels_last_3d), 2)
    x = torch.randn(1, 4, 2, 3, 5).contiguous(memory_format=torch.channels_last_3d)
    joined = TimeCache(cache.tails).join(x, 2)
    assert joined.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(joined[:, :, 2:], x)
    assert torch.equal(joined[:, :, :2], cache.tails[0])


def test_tails_are_values() -> None:
    """A walk does not change the tails that it was given, so a stream can branch."""
    conv, x = CausalConv3d(2, 2, (3, 1, 1)), torch.randn(1, 2, 4, 2, 2)
    start = TimeCache()
    conv(x[:, :, :2], start)
    before = [tail.clone() for tail in start.tails]
    first, second = conv(x[:, :, 2:], TimeCache(start.tails)), conv(x[:, :, 2:], TimeCache(start.tails))
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(before, start.tails, strict=True))


@pytest.mark.parametrize("shape", [(1, 3, 1, 5, 4), (2, 8, 6, 3, 7), (2, 32, 7, 16, 16)], ids=str)
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 1)])
def test_by_frames_is_the_convolution(shape: tuple[int, ...], kernel: tuple[int, int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(*shape[:2], shape[2] + kernel[0] - 1, *shape[3:], generator=g).double().requires_grad_()
    weight, bias = torch.randn(32, shape[1], *kernel, generator=g).double().requires_grad_(), torch.randn(32, generator=g).double()
    plain = torch.nn.functional.conv3d(x, weight, bias, padding=(0, kernel[1] // 2, kernel[2] // 2))
    fast = conv_by_frames(x, weight, bias)
    torch.testing.assert_close(fast, plain)
    for a, b in zip(torch.autograd.grad(fast.sum(), (x, weight)), torch.autograd.grad(plain.sum(), (x, weight)), strict=True):
        torch.testing.assert_close(a, b)


def test_a_laid_out_network_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = torch.nn.ModuleList([CausalConv3d(4, 6, (3, 3, 3)), CausalConv3d(6, 2, (3, 1, 1))])
    values = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(1, 4, 5, 6, 6)
    calls = []
    monkeypatch.setattr(conv_room, "conv_by_frames", lambda *given: calls.append(given) or conv_by_frames(*given))

    def run() -> torch.Tensor:
        caches = [TimeCache(), TimeCache()]
        first = net[1](net[0](x[:, :, :1], caches[0]), caches[1])
        caches = [TimeCache(cache.tails) for cache in caches]
        return torch.cat([first, net[1](net[0](x[:, :, 1:], caches[0]), caches[1])], dim=2)

    whole = run()
    with torch.no_grad():
        plain = run()
        torch.testing.assert_close(plain, whole, atol=1e-5, rtol=1e-5)
        assert not calls
        lay_out(net)
        assert all(torch.equal(value, values[name]) for name, value in net.state_dict().items())
        torch.testing.assert_close(run(), plain, atol=1e-5, rtol=1e-5)
        assert len(calls) == 2, "the first layer, in both chunks"
        assert calls[0][1].shape[2] == 1, "one frame alone needs one tap of three"
    net[0](x).sum().backward()
    assert len(calls) == 2, "not where a gradient is wanted"
    assert net[0].weight.grad is not None


def test_weights_in_half_precision_are_laid_out_with_channels_last() -> None:
    torch.manual_seed(0)
    net = torch.nn.ModuleList([CausalConv3d(4, 6, (3, 3, 3)), torch.nn.Conv2d(4, 6, 3)]).to(torch.bfloat16)
    values = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(1, 4, 5, 6, 6, dtype=torch.bfloat16)
    with torch.no_grad():
        plain = net[0](x)
        lay_out(net)
        torch.testing.assert_close(net[0](x), plain)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert net[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, values[name]) for name, value in net.state_dict().items())
