"""Data: shards of clips, cached latents and packs of native sizes. Knows no model; encoders come in as functions."""

from __future__ import annotations

from diorama.data.batches import Draw, PackConfig, PackSampler
from diorama.data.latents import CacheConfig, Encoders, LatentCache, Text, padded
from diorama.data.shards import Sample, SampleInfo, ShardSet, ShardWriter, write_shard
from diorama.data.worlds import MIXTURE, RenderReport, Share, render_sample, render_shards

__all__ = [
    "MIXTURE",
    "CacheConfig",
    "Draw",
    "Encoders",
    "LatentCache",
    "PackConfig",
    "PackSampler",
    "RenderReport",
    "Sample",
    "SampleInfo",
    "ShardSet",
    "ShardWriter",
    "Share",
    "Text",
    "padded",
    "render_sample",
    "render_shards",
    "write_shard",
]
