"""The transformer's configuration: the keys of diffusers' ``WanTransformer3DModel`` and the few of our own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diorama.checkpoint import read_json
from diorama.config import from_dict, to_dict
from diorama.errors import ConfigError
from diorama.patches import Coordinates

__all__ = ["TransformerConfig", "read_config", "write_config"]

_OWN: dict[str, Any] = {"pooled_dim": None, "coordinates": "index", "place": False}
"""Our fields and the values that make them vanish, for folders that were written elsewhere."""
_WAN: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "ffn_dim": 13824,
    "num_layers": 40,
}
"""What diffusers takes for a key that its ``config.json`` leaves out, where ours is another."""


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape of a `Transformer`. The defaults are the default model; keys are spelt as in diffusers' ``config.json``."""

    patch_size: tuple[int, int, int] = (1, 1, 1)
    """Latent cells per token along time, height, width."""
    num_attention_heads: int = 4
    """Heads N; the hidden size is N * K."""
    attention_head_dim: int = 64
    """Head size K, even."""
    in_channels: int = 32
    """Latent channels of the input."""
    out_channels: int = 32
    """Latent channels of the velocity."""
    text_dim: int = 192
    """Width of the text states."""
    freq_dim: int = 256
    """Sines and cosines that describe the flow time, even."""
    ffn_dim: int = 1024
    """Width inside the feed-forward layers."""
    num_layers: int = 8
    """Blocks."""
    cross_attn_norm: bool = True
    """Layer norm with weights before cross-attention."""
    qk_norm: Literal["rms_norm_across_heads"] = "rms_norm_across_heads"
    """Norm of queries and keys; the Wan graph knows this one."""
    eps: float = 1e-6
    """Added inside every norm."""
    image_dim: int | None = None
    """Width of the image states of Wan 2.1's image-to-video graph; None without them."""
    added_kv_proj_dim: int | None = None
    """Width of embedded image states, which is the hidden size; None without them."""
    rope_max_seq_len: int = 1024
    """Kept for diffusers, which tabulates rotations; ours follow any position."""
    pos_embed_seq_len: int | None = None
    """Image states of the first-last-frame graph, which have a learned position each; None for positions that do not matter."""
    pooled_dim: int | None = 192
    """Width of the pooled text that is added to the time embedding; None for the Wan graph."""
    coordinates: Coordinates = "view"
    """Convention of the token positions; ``index`` for the Wan graph."""
    place: bool = True
    """Whether tokens are told where in the picture and when in the clip they are; false for the Wan graph."""

    def __post_init__(self) -> None:
        counts = ("num_attention_heads", "in_channels", "out_channels", "text_dim", "ffn_dim", "num_layers")
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("attention_head_dim", "freq_dim"):
            if getattr(self, name) < 2 or getattr(self, name) % 2:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be even and at least 2")
        if min(self.patch_size) < 1:
            raise ConfigError(f"patch_size is {self.patch_size}; every side must be at least 1")
        if self.pooled_dim is not None and self.pooled_dim < 1:
            raise ConfigError(f"pooled_dim is {self.pooled_dim}; it must be at least 1, or null for none")
        if not self.eps > 0:
            raise ConfigError(f"eps is {self.eps}; it must be above 0")
        if (self.image_dim is None) != (self.added_kv_proj_dim is None) or self.added_kv_proj_dim not in (None, self.hidden_size):
            raise ConfigError(
                f"image_dim is {self.image_dim} and added_kv_proj_dim is {self.added_kv_proj_dim}; give both, the second as the hidden size "
                f"{self.hidden_size}, or null for both"
            )
        if (self.image_dim is not None and self.image_dim < 1) or (self.pos_embed_seq_len is not None and self.pos_embed_seq_len < 1):
            raise ConfigError(f"image_dim is {self.image_dim} and pos_embed_seq_len {self.pos_embed_seq_len}; both must be at least 1, or null")
        if self.pos_embed_seq_len is not None and self.image_dim is None:
            raise ConfigError(f"pos_embed_seq_len is {self.pos_embed_seq_len} without image_dim; give image_dim too, or null for both")

    @property
    def hidden_size(self) -> int:
        """Token width inside the blocks, D."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def token_dim(self) -> int:
        """Width of an input token: a patch of latent channels."""
        return math.prod(self.patch_size) * self.in_channels

    @property
    def is_wan(self) -> bool:
        """Whether diffusers' ``WanTransformer3DModel`` computes the same."""
        return self.pooled_dim is None and self.coordinates == "index" and not self.place


def read_config(folder: Path) -> TransformerConfig:
    """Read ``config.json`` of a folder that we or diffusers wrote.

    Raises:
        CheckpointError: the file is missing or not JSON.
        ConfigError: a key or value is not understood.
    """
    values = read_json(Path(folder) / "config.json")
    known = {key: value for key, value in values.items() if not key.startswith("_")}
    if values.get("_class_name") == "WanTransformer3DModel":
        known = {**_WAN, **known}
        known["out_channels"] = known["out_channels"] or known["in_channels"]
    return from_dict(TransformerConfig, {**_OWN, **known})


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Return what goes into ``config.json``; a Wan graph is written as diffusers writes it."""
    values = to_dict(config)
    if config.is_wan:
        return {"_class_name": "WanTransformer3DModel", **{key: value for key, value in values.items() if key not in _OWN}}
    return {"_class_name": "Transformer", **values}
