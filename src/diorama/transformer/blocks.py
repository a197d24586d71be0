"""The block of the Wan graph on a flat pack: self-attention, cross-attention, feed-forward. Parameter names as in diffusers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diorama.ops.attention import attention, cross_attention
from diorama.ops.gelu import gelu
from diorama.ops.rope import apply_rope
from diorama.ops.spread import spread
from diorama.ops.token_norm import rms_norm
from diorama.transformer.config import TransformerConfig

__all__ = ["Block", "Context", "modulated_norm"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What all blocks share in one forward pass."""

    lengths: tuple[int, ...]
    """Tokens of every clip."""
    rope: Tensor
    """Rotation of every token ``[L, K / 2, 2]``."""
    modulation: Tensor
    """``[R, 6, D]`` of shift, scale, gate for attention, then for the feed-forward."""
    rows: Tensor
    """Row of the modulation of every group of g neighbouring tokens ``[L / g]``."""
    text_mask: Tensor | None
    """``[S, M]``, bool or added to the scores."""
    dtype: torch.dtype
    """Number format of the matrix products."""


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Return ``layer_norm(x) * scale + shift`` in the dtype of ``shift``; ``scale`` comes with its 1 added."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps).to(shift.dtype), scale)


class _Attention(nn.Module):
    def __init__(self, config: TransformerConfig, image_dim: int | None = None) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads, self.eps = config.num_attention_heads, config.eps
        self.to_q = nn.Linear(size, size)
        self.to_k = nn.Linear(size, size)
        self.to_v = nn.Linear(size, size)
        # A list because diffusers keeps a dropout behind the projection and numbers it.
        self.to_out = nn.ModuleList([nn.Linear(size, size)])
        self.norm_q = nn.RMSNorm(size, eps=config.eps)
        self.norm_k = nn.RMSNorm(size, eps=config.eps)
        if image_dim is not None:
            self.add_k_proj = nn.Linear(image_dim, size)
            self.add_v_proj = nn.Linear(image_dim, size)
            self.norm_added_k = nn.RMSNorm(size, eps=config.eps)

    def heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.num_heads, -1)

    def normed(self, x: Tensor, norm: nn.RMSNorm) -> Tensor:
        return rms_norm(x, norm.weight, self.eps)

    def text(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values ``[S, N, M, K]`` of embedded text ``[S, M, D]``."""
        value = self.to_v(states)
        key = self.normed(self.to_k(states), self.norm_k).to(value.dtype)
        return self.heads(key).transpose(1, 2), self.heads(value).transpose(1, 2)

    def image(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values ``[S, N, M, K]`` of embedded image states ``[S, M, D]``."""
        value = self.add_v_proj(states)
        key = self.normed(self.add_k_proj(states), self.norm_added_k).to(value.dtype)
        return self.heads(key).transpose(1, 2), self.heads(value).transpose(1, 2)

    def within(self, x: Tensor, context: Context) -> Tensor:
        """Attend within every clip, ``[L, D]`` to ``[L, D]``."""
        query = apply_rope(self.heads(self.normed(self.to_q(x), self.norm_q)), context.rope, context.dtype)
        key = apply_rope(self.heads(self.normed(self.to_k(x), self.norm_k)), context.rope, context.dtype)
        out: Tensor = self.to_out[0](attention(query, key, self.heads(self.to_v(x)), context.lengths).flatten(1))
        return out

    def to_text(self, x: Tensor, key: Tensor, value: Tensor, context: Context, image: tuple[Tensor, Tensor] | None) -> Tensor:
        """Attend to the clips' texts and, on their own, to their images, ``[L, D]`` to ``[L, D]``."""
        query = self.heads(self.normed(self.to_q(x), self.norm_q).to(context.dtype))
        seen = cross_attention(query, key, value, context.lengths, context.text_mask)
        if image is not None:
            seen = seen + cross_attention(query, *image, context.lengths)
        out: Tensor = self.to_out[0](seen.flatten(1))
        return out


class _Gelu(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return gelu(self.proj(x))


class _FeedForward(nn.Module):
    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        # diffusers numbers a dropout between the two.
        self.net = nn.ModuleList([_Gelu(size, inner), nn.Identity(), nn.Linear(inner, size)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](self.net[0](x))
        return out


class Block(nn.Module):
    """One block: modulated self-attention, cross-attention to the text, modulated feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.eps = config.eps
        self.attn1 = _Attention(config)
        self.attn2 = _Attention(config, config.added_kv_proj_dim)
        self.norm2 = nn.LayerNorm(size, eps=config.eps) if config.cross_attn_norm else nn.Identity()
        self.ffn = _FeedForward(size, config.ffn_dim)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, size))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, context: Context, image: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Transform tokens.

        Args:
            x: ``[L / g, g, D]`` float32: tokens in groups that share their modulation.
            key: Text keys ``[S, N, M, K]``.
            value: Text values ``[S, N, M, K]``.
            context: What all blocks share.
            image: Keys and values of the image states ``[S, N, M, K]``; None without them.

        Returns:
            The shape of ``x``.
        """
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.scale_shift_table + context.modulation).unbind(1)
        rows = torch.cat([shift, scale + 1, gate, ffn_shift, ffn_scale + 1, ffn_gate], dim=1).to(context.dtype)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = spread(rows, context.rows).unsqueeze(1).chunk(6, dim=2)
        update: Tensor = self.attn1.within(modulated_norm(x, shift, scale, self.eps).flatten(0, 1), context)
        x = x + gate * update.view_as(x)
        x = x + self.attn2.to_text(self.norm2(x).to(context.dtype).flatten(0, 1), key, value, context, image).view_as(x)
        update = self.ffn(modulated_norm(x, ffn_shift, ffn_scale, self.eps))
        return x + ffn_gate * update
