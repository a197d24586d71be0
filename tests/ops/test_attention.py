"""Attention in a pack against one dense masked softmax, values and gradients."""

from __future__ import annotations

import pytest
import torch

from diorama.ops.attention import attention, attention_plain, cross_attention, cross_attention_plain

LENGTHS = [(5, 5, 5), (3, 7, 2), (4, 4, 6, 6, 4), (8,)]


def grads(function, inputs, weight, *rest):
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = function(*leaves, *rest)
    (out * weight).sum().backward()
    return [out.detach(), *(x.grad for x in leaves)]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_packed_equals_dense_mask(lengths):
    g = torch.Generator().manual_seed(0)
    total = sum(lengths)
    *inputs, weight = torch.randn(4, total, 2, 8, generator=g)
    for fast, plain in zip(grads(attention, inputs, weight, lengths), grads(attention_plain, inputs, weight, lengths), strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_text_of_each_clip_equals_dense_mask(lengths, masked):
    g = torch.Generator().manual_seed(1)
    total, clips, text = sum(lengths), len(lengths), 6
    query, weight = torch.randn(2, total, 2, 8, generator=g)
    key, value = torch.randn(2, clips, 2, text, 8, generator=g)
    mask = torch.arange(text) < torch.randint(1, text, (clips, 1), generator=g) if masked else None
    inputs = [query, key, value]
    fast, plain = (grads(function, inputs, weight, lengths, mask) for function in (cross_attention, cross_attention_plain))
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_other_clips_do_not_reach_a_clip():
    g = torch.Generator().manual_seed(2)
    q, k, v = torch.randn(3, 9, 2, 8, generator=g)
    before = attention(q, k, v, (4, 5))
    k[4:], v[4:] = 100.0, -100.0
    after = attention(q, k, v, (4, 5))
    assert torch.equal(before[:4], after[:4])
    assert not torch.allclose(before[4:], after[4:])


def test_hidden_text_does_not_matter():
    g = torch.Generator().manual_seed(3)
    query = torch.randn(4, 2, 8, generator=g)
    key, value = torch.randn(2, 1, 2, 5, 8, generator=g)
    mask = torch.tensor([[True, True, False, False, False]])
    full = cross_attention(query, key, value, (4,), mask)
    cut = cross_attention(query, key[:, :, :2], value[:, :, :2], (4,))
    torch.testing.assert_close(full, cut)


@pytest.mark.parametrize("kept", [True, False], ids=["written out", "fused"])
def test_bf16_stays_within_rounding_with_gradients(kept, monkeypatch):
    monkeypatch.setattr("diorama.ops.attention._KEPT_SCORES", 2**26 if kept else 0)
    g = torch.Generator().manual_seed(4)
    *inputs, weight = torch.randn(4, 14, 2, 16, generator=g)
    half = [x.bfloat16() for x in inputs]
    expected = grads(attention_plain, [x.float() for x in half], weight, (6, 6, 2))
    for a, b in zip(grads(attention, half, weight, (6, 6, 2)), expected, strict=True):
        assert (a.float() - b).abs().max() < 0.02 * b.abs().max()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    inputs = [torch.randn(14, 2, 16, generator=g), *torch.randn(2, 2, 2, 3, 16, generator=g)]
    half = [x.bfloat16() for x in inputs]
    expected = grads(cross_attention_plain, [x.float() for x in half], weight, (7, 7), mask)
    for a, b in zip(grads(cross_attention, half, weight, (7, 7), mask), expected, strict=True):
        assert (a.float() - b).abs().max() < 0.02 * b.abs().max()


@pytest.mark.parametrize("amx", [True, False], ids=["fused", "written out"])
def test_bf16_without_a_gradient_stays_within_rounding(amx, monkeypatch):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    g = torch.Generator().manual_seed(6)
    half = torch.randn(3, 14, 2, 16, generator=g).bfloat16()
    expected = attention_plain(*half.float(), (6, 6, 2))
    assert (attention(*half, (6, 6, 2)).float() - expected).abs().max() < 0.02 * expected.abs().max()
    key, value = torch.randn(2, 2, 2, 3, 16, generator=g).bfloat16()
    for mask in (torch.tensor([[True, True, False], [True, True, True]]), torch.randn(2, 3, generator=g)):
        expected = cross_attention_plain(half[0].float(), key.float(), value.float(), (7, 7), mask)
        assert (cross_attention(half[0], key, value, (7, 7), mask).float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_chunks_of_queries_equal_the_whole(monkeypatch):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    g = torch.Generator().manual_seed(5)
    q, k, v = torch.randn(3, 20, 2, 16, generator=g).bfloat16()
    whole = attention(q, k, v, (10, 10))
    monkeypatch.setattr("diorama.ops.attention._CHUNK_SCORES", 120)
    torch.testing.assert_close(attention(q, k, v, (10, 10)), whole, atol=0.01, rtol=0.01)
