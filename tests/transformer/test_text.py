"""Prepared texts can be picked by clip."""

from __future__ import annotations

import torch

from diorama.transformer import TextCache


def test_select_repeats_and_reorders():
    keys = torch.arange(3.0).reshape(3, 1, 1, 1)
    cache = TextCache(keys=(keys,), values=(keys + 10,), mask=torch.tensor([[True], [False], [True]]), pooled=torch.arange(3.0)[:, None])
    got = cache.select([2, 0, 0])
    assert got.keys[0].flatten().tolist() == [2, 0, 0]
    assert got.values[0].flatten().tolist() == [12, 10, 10]
    assert got.mask is not None
    assert got.mask.flatten().tolist() == [True, True, True]
    assert got.pooled is not None
    assert got.pooled.flatten().tolist() == [2, 0, 0]


def test_select_without_mask_and_pooled():
    keys = torch.zeros(2, 1, 1, 1)
    got = TextCache(keys=(keys,), values=(keys,), mask=None, pooled=None).select([1])
    assert got.mask is None
    assert got.pooled is None
