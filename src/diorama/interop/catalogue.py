"""Open models by name, with what must be known of them before anything is downloaded: their graphs, and how they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diorama.autoencoder.config import AutoencoderConfig
from diorama.errors import InputError, nearest
from diorama.transformer.config import TransformerConfig

__all__ = ["KNOWN", "UMT5_XXL", "Known", "T5Sizes", "find_known", "known_as"]


@dataclass(frozen=True, kw_only=True)
class T5Sizes:
    """Sizes of an encoder-only T5 or UMT5, named as in transformers' config."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    gated: bool = True
    """Whether the feed-forward layers have a gate."""

    @property
    def num_linear(self) -> int:
        """Weights of linear layers."""
        return self.num_layers * self.d_model * (4 * self.num_heads * self.d_kv + (3 if self.gated else 2) * self.d_ff)

    @property
    def num_parameters(self) -> int:
        """All weights: those of linear layers, the embedding, norms and a table of relative positions a layer."""
        return self.num_linear + self.d_model * (self.vocab_size + 2 * self.num_layers + 1) + 32 * self.num_heads * self.num_layers


UMT5_XXL = T5Sizes(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
CLIP_PARAMETERS = 632_000_000
"""Of the vision tower of CLIP ViT-H/14."""


def _transformer(heads: int, ffn: int, layers: int, *, channels: int = 16, given: int = 0, **rest: Any) -> TransformerConfig:
    """Return a Wan graph with heads of 128; ``given`` are channels of a picture beside the noise."""
    return TransformerConfig(
        patch_size=(1, 2, 2),
        num_attention_heads=heads,
        attention_head_dim=128,
        in_channels=channels + given,
        out_channels=channels,
        text_dim=4096,
        ffn_dim=ffn,
        num_layers=layers,
        pooled_dim=None,
        coordinates="index",
        place=False,
        **rest,
    )


_LARGE = _transformer(40, 13824, 40)
_LARGE_CLIP = _transformer(40, 13824, 40, given=20, image_dim=1280, added_kv_proj_dim=5120)
_LARGE_ENDS = _transformer(40, 13824, 40, given=20, image_dim=1280, added_kv_proj_dim=5120, pos_embed_seq_len=514)


@dataclass(frozen=True, kw_only=True)
class Known:
    """An open model."""

    repository: str
    """Its diffusers folder on the hub."""
    about: str
    """What it does, in a few words."""
    transformer: TransformerConfig
    experts: int = 1
    """Transformers of this graph."""
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig.wan21)
    text: T5Sizes = UMT5_XXL
    image_encoder: bool = False
    """Whether it looks at pictures through CLIP."""
    stored: Mapping[str, int] = field(default_factory=dict)
    """Bytes a number of parts that are not published in float32."""
    size: tuple[int, int] = (832, 480)
    """Width and height that it was made for."""
    num_frames: int = 81
    fps: float = 16.0
    steps: int = 50


_HALF_TEXT = {"text_encoder": 2}
KNOWN: dict[str, Known] = {
    "wan2.1-t2v-1.3b": Known(
        repository="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", about="text to video, the smallest", transformer=_transformer(12, 8960, 30)
    ),
    "wan2.1-t2v-14b": Known(repository="Wan-AI/Wan2.1-T2V-14B-Diffusers", about="text to video", transformer=_LARGE),
    "wan2.1-i2v-14b-480p": Known(
        repository="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", about="picture to video", transformer=_LARGE_CLIP, image_encoder=True
    ),
    "wan2.1-i2v-14b-720p": Known(
        repository="Wan-AI/Wan2.1-I2V-14B-720P-Diffusers", about="picture to video", transformer=_LARGE_CLIP, image_encoder=True, size=(1280, 720)
    ),
    "wan2.1-flf2v-14b-720p": Known(
        repository="Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
        about="two pictures to video",
        transformer=_LARGE_ENDS,
        image_encoder=True,
        size=(1280, 720),
    ),
    "wan2.2-t2v-a14b": Known(
        repository="Wan-AI/Wan2.2-T2V-A14B-Diffusers", about="text to video, two experts", transformer=_LARGE, experts=2, stored=_HALF_TEXT, steps=40
    ),
    "wan2.2-i2v-a14b": Known(
        repository="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        about="picture to video, two experts",
        transformer=_transformer(40, 13824, 40, given=20),
        experts=2,
        stored=_HALF_TEXT,
        steps=40,
    ),
    "wan2.2-ti2v-5b": Known(
        repository="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        about="text or picture to video, 4x16x16 autoencoder",
        transformer=_transformer(24, 14336, 30, channels=48),
        autoencoder=AutoencoderConfig.wan22(),
        stored=_HALF_TEXT,
        size=(1280, 704),
        num_frames=121,
        fps=24.0,
    ),
}
"""By the name that the command line takes. Graphs: the configs of Wan 2.1 and 2.2; number formats: as the repositories had them."""


def known_as(name: str) -> Known | None:
    """Return an open model by its name or its repository, in any case and any revision; None if it is another."""
    wanted = name.lower().partition("@")[0]
    for short, known in KNOWN.items():
        if wanted in (short, known.repository.lower(), known.repository.lower().removesuffix("-diffusers")):
            return known
    return None


def find_known(name: str) -> Known | None:
    """Return an open model as `known_as` does.

    Raises:
        InputError: the name is a near miss.
    """
    wanted, known = name.lower(), known_as(name)
    if known is None and wanted.startswith("wan"):
        raise InputError(f"there is no open model '{name}'{nearest(wanted, KNOWN) or '; known: ' + ', '.join(KNOWN)}")
    return known
