"""Attention inside the clips of a pack.

Tokens of several clips lie behind one another in one flat run; a clip attends to itself, or to its own text. Runs of
neighbouring clips of equal length go through one batched call: on a CPU the fastest of the ways measured (loop 15 ms,
padded 46, dense mask 93, nested 189, flex 37 and without backward; 2,048 tokens, 6 heads, fp32, forward).

On a CPU in bf16 the scores are written out where a gradient is wanted or the CPU has no AMX: torch's fused kernel has a slow backward,
and without AMX no bf16 products. Forward + backward on one Zen 4 thread, 4 heads x 64, 8 x 180 tokens 7.0 ms for 22.4, 4 x 576 tokens
28.9 for 70.9. With AMX its forward is the faster at every length (torch 2.13, 4 heads x 128): 500 tokens 1.8 ms for 2.9, 2,000
20 for 40, 4,000 105 for 262, 10,125 0.76 s for 2.6 or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attention", "attention_plain", "cross_attention", "cross_attention_plain"]

_KEPT_SCORES = 2**26
"""Most scores kept for a backward pass, 128 MiB; beyond it the fused kernel saves memory."""
_CHUNK_SCORES = 2**23
"""Most scores at a time where none is kept, 16 MiB."""


def attention(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attend within every clip.

    Args:
        query: ``[L, N, K]``.
        key: ``[L, N, K]``.
        value: ``[L, N, K]``.
        lengths: Tokens of every clip; their sum is L.

    Returns:
        ``[L, N, K]``.
    """
    runs = _runs(lengths)
    outputs = []
    for (count, length), *parts in zip(runs, *(_cut(x, runs) for x in (query, key, value)), strict=True):
        q, k, v = (x.reshape(count, length, *x.shape[1:]).transpose(1, 2) for x in parts)
        outputs.append(_attend(q, k, v, None).transpose(1, 2).flatten(0, 1))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def cross_attention(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], mask: Tensor | None = None) -> Tensor:
    """Attend from the tokens of every clip to the text of that clip.

    Args:
        query: ``[L, N, K]``.
        key: ``[S, N, M, K]``.
        value: ``[S, N, M, K]``.
        lengths: Tokens of every clip; their sum is L and there are S.
        mask: ``[S, M]``: bool, true where a text token may be seen, at least one in every row; or float, added to the scores, where the
            logarithm of n makes a token count n times; None shows all.

    Returns:
        ``[L, N, K]``.
    """
    runs = _runs(lengths)
    counts = [count for count, _ in runs]
    masks = [None] * len(runs) if mask is None else torch.split(mask, counts)
    outputs = []
    for (count, length), part, k, v, seen in zip(runs, _cut(query, runs), torch.split(key, counts), torch.split(value, counts), masks, strict=True):
        q = part.reshape(count, length, *part.shape[1:]).transpose(1, 2)
        outputs.append(_attend(q, k, v, None if seen is None else seen[:, None, None]).transpose(1, 2).flatten(0, 1))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _cut(x: Tensor, runs: Sequence[tuple[int, int]]) -> Sequence[Tensor]:
    """Return the tokens of every run. The backward pass of a split is one copy; that of a slice fills and adds a whole tensor for each."""
    return torch.split(x, [count * length for count, length in runs])


def _attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    """Attend from ``[S, N, l, K]`` to ``[S, N, M, K]``; ``seen`` is ``[S, 1, 1, M]``, bool or added to the scores, or None."""
    if seen is not None and seen.dtype != torch.bool:
        seen = seen.to(query.dtype)
    num_scores = query.shape[:-1].numel() * key.shape[-2]
    keeps = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    fused = num_scores > _KEPT_SCORES if keeps else torch.compiler.is_compiling() or torch.cpu._is_amx_tile_supported()
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or fused:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    bias = seen if seen is None or seen.dtype != torch.bool else torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, float("-inf"))
    query, key = query * query.shape[-1] ** -0.5, key.transpose(-1, -2)
    if keeps or num_scores <= _CHUNK_SCORES:
        return _written_out(query, key, value, bias)
    rows = max(1, query.shape[-2] * _CHUNK_SCORES // num_scores)
    return torch.cat([_written_out(part, key, value, bias) for part in torch.split(query, rows, dim=-2)], dim=-2)


def _written_out(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    scores = query @ key if bias is None else query @ key + bias
    return scores.softmax(dim=-1) @ value


def _runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return ``(number of clips, tokens a clip)`` of every run of equal lengths."""
    runs: list[tuple[int, int]] = []
    for length in lengths:  # torch's compiler takes what goes through itertools for constants, and compiled anew for every length
        if runs and runs[-1][1] == length:
            runs[-1] = runs[-1][0] + 1, length
        else:
            runs.append((1, length))
    return runs


def attention_plain(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int]) -> Tensor:
    """Plain twin of `attention`: one dense softmax under a block-diagonal mask."""
    clip = _clip_of(lengths, query)
    return _dense(query, key, value, clip[:, None] == clip[None])


def cross_attention_plain(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], mask: Tensor | None = None) -> Tensor:
    """Plain twin of `cross_attention`: one dense softmax over the texts of all clips under a mask."""
    num_clips, _, num_text, _ = key.shape
    flat_key, flat_value = (x.transpose(1, 2).flatten(0, 1) for x in (key, value))
    owner = torch.arange(num_clips, device=query.device).repeat_interleave(num_text)
    seen = _clip_of(lengths, query)[:, None] == owner[None]
    if mask is not None and mask.dtype != torch.bool:
        return _dense(query, flat_key, flat_value, seen, mask.flatten())
    return _dense(query, flat_key, flat_value, seen if mask is None else seen & mask.flatten()[None])


def _clip_of(lengths: Sequence[int], like: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.tensor(lengths, device=like.device))


def _dense(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    scores = torch.einsum("lnk,mnk->nlm", query, key) * query.shape[-1] ** -0.5 + bias
    weights = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)
    return torch.einsum("nlm,mnk->lnk", weights, value)
