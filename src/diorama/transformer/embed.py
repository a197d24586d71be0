"""What conditions every block: flow time, pooled text, text states. Parameter names as in diffusers' Wan."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diorama.transformer.config import TransformerConfig

__all__ = ["ConditionEmbedder", "ImageEmbedder", "time_features", "time_rows"]


def time_features(times: Tensor, dim: int) -> Tensor:
    """Return cosines, then sines, of flow times.

    Source: Vaswani et al. 2017 with Wan's scale: flow time counts in thousandths, wavelengths go up to 10,000 of them.

    Args:
        times: ``[R]`` in [0, 1].
        dim: How many features, even.

    Returns:
        ``[R, dim]`` float32.
    """
    half = dim // 2
    frequency = torch.exp(-math.log(10000.0) / half * torch.arange(half, dtype=torch.float32, device=times.device))
    angle = (times.float() * 1000.0)[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def time_rows(times: Tensor, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the distinct pairs of clip and flow time: modulation is computed for them and not for every token.

    Args:
        times: ``[L]`` in [0, 1].
        clips: Clip of every token ``[L]``.

    Returns:
        Flow times ``[R]``, clips ``[R]``, and the row of every group of g neighbouring tokens ``[L / g]`` with the largest g
        for which all of a group share their row (1 off the CPU, where finding it would wait for the device).
    """
    # Times lie in [0, 1], so two clips never share a key; float64 keeps float32 times apart.
    keys = clips * 2 + times.to(torch.float32 if times.device.type == "mps" else torch.float64)
    unique, rows = torch.unique(keys, return_inverse=True)
    member = torch.empty_like(unique, dtype=torch.long).scatter_(0, rows, torch.arange(len(rows), device=rows.device))
    group = math.gcd(*torch.unique_consecutive(rows, return_counts=True)[1].tolist()) if rows.device.type == "cpu" else 1
    return times[member], clips[member], rows[::group]


class _TwoLayers(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_features, out_features)
        self.linear_2 = nn.Linear(out_features, out_features)


class _Gelu(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_features, out_features)


class _ImageFeedForward(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        # diffusers numbers a dropout between the two.
        self.net = nn.ModuleList([_Gelu(in_features, in_features), nn.Identity(), nn.Linear(in_features, out_features)])


class ImageEmbedder(nn.Module):
    """Image states to the width of the blocks (Wan 2.1 image to video)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        assert config.image_dim is not None
        self.norm1 = nn.LayerNorm(config.image_dim)
        self.ff = _ImageFeedForward(config.image_dim, config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        count = config.pos_embed_seq_len
        self.pos_embed = None if count is None else nn.Parameter(torch.zeros(1, count, config.image_dim))

    def forward(self, states: Tensor) -> Tensor:
        """Map ``[S, M, image_dim]`` to ``[S, M, D]``."""
        first, last = cast(_Gelu, self.ff.net[0]).proj, cast(nn.Linear, self.ff.net[2])
        dtype = first.weight.dtype
        if self.pos_embed is not None:
            states = states + self.pos_embed
        hidden = F.gelu(first(self._normed(states, self.norm1).to(dtype)))
        return self._normed(last(hidden), self.norm2).to(dtype)

    def _normed(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return F.layer_norm(x.float(), x.shape[-1:], norm.weight.float(), norm.bias.float(), norm.eps)


class ConditionEmbedder(nn.Module):
    """Flow time and pooled text to modulation, text states to the width of the blocks."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.freq_dim = config.freq_dim
        self.time_embedder = _TwoLayers(config.freq_dim, config.hidden_size)
        self.time_proj = nn.Linear(config.hidden_size, 6 * config.hidden_size)
        self.text_embedder = _TwoLayers(config.text_dim, config.hidden_size)
        self.pooled_embedder = None if config.pooled_dim is None else nn.Linear(config.pooled_dim, config.hidden_size)
        self.image_embedder = None if config.image_dim is None else ImageEmbedder(config)

    def embed_time(self, times: Tensor, pooled: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embed rows of flow time.

        Args:
            times: ``[R]`` in [0, 1].
            pooled: Embedded pooled text of every row ``[R, D]``, or None.

        Returns:
            The embedding ``[R, D]`` and the modulation that all blocks share ``[R, 6, D]``, in the dtype of the weights.
        """
        # Few rows, and time must not be rounded to bf16: autocast stays outside.
        with torch.autocast(times.device.type, enabled=False):
            first, second = self.time_embedder.linear_1, self.time_embedder.linear_2
            embedding = second(F.silu(first(time_features(times, self.freq_dim).to(first.weight.dtype))))
            if pooled is not None:
                embedding = embedding + pooled.to(embedding.dtype)
            # A model in bf16 keeps the embedder in float32 and not the projection.
            return embedding, self.time_proj(F.silu(embedding).to(self.time_proj.weight.dtype)).unflatten(1, (6, -1))

    def embed_text(self, states: Tensor) -> Tensor:
        """Map text states ``[S, M, text_dim]`` to ``[S, M, D]``."""
        first, second = self.text_embedder.linear_1, self.text_embedder.linear_2
        embedded: Tensor = second(F.gelu(first(states.to(first.weight.dtype)), approximate="tanh"))
        return embedded

    def embed_pooled(self, pooled: Tensor) -> Tensor:
        """Map pooled text ``[S, pooled_dim]`` to what is added to the time embedding ``[S, D]``."""
        assert self.pooled_embedder is not None
        with torch.autocast(pooled.device.type, enabled=False):
            embedded: Tensor = self.pooled_embedder(pooled.to(self.pooled_embedder.weight.dtype))
        return embedded
