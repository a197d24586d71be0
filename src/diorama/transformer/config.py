"""The transformer's configuration: the keys of diffusers' ``WanTransformer3DModel`` and the few of our own."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diorama.config import from_dict, to_dict
from diorama.errors import CheckpointError, ConfigError
from diorama.patches import Coordinates

__all__ = ["TransformerConfig", "read_config", "write_config"]

_OWN: dict[str, Any] = {"pooled_dim": None, "coordinates": "index", "place": False}
"""Our fields and the values that make them vanish, for folders that were written elsewhere."""


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
    """Width of image states of Wan's image-to-video graph, which is not built yet; None."""
    added_kv_proj_dim: int | None = None
    """As ``image_dim``; None."""
    rope_max_seq_len: int = 1024
    """Kept for diffusers, which tabulates rotations; ours follow any position."""
    pos_embed_seq_len: int | None = None
    """As ``image_dim``; None."""
    pooled_dim: int | None = 192
    """Width of the pooled text that is added to the time embedding; None for the Wan graph."""
    coordinates: Coordinates = "view"
    """Convention of the token positions; ``index`` for the Wan graph."""
    place: bool = True
    """Whether tokens are told where in the picture they are and whether their frame begins a clip; false for the Wan graph."""

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
        for name in ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len"):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}: the image branch of Wan's image-to-video graph is not supported; "
                    "use a text-to-video or a Wan 2.2 folder, where it is null"
                )

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
    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); the folder of a transformer must hold it") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one JSON object; download or export the folder again")
    known = {key: value for key, value in values.items() if not key.startswith("_")}
    return from_dict(TransformerConfig, {**_OWN, **known})


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Return what goes into ``config.json``; a Wan graph is written as diffusers writes it."""
    values = to_dict(config)
    if config.is_wan:
        return {"_class_name": "WanTransformer3DModel", **{key: value for key, value in values.items() if key not in _OWN}}
    return {"_class_name": "Transformer", **values}
