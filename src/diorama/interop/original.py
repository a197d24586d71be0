"""Wan's own checkpoint naming, recognised from keys and shapes alone, and read under diffusers' names without a copy on disk.

A key of Wan 2.1 or 2.2 says what it belongs to, and shapes say the rest: a single file of any name, ComfyUI's prefixed files and the
folders of the Wan repositories are all read by the same rules.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diorama.autoencoder.config import WAN21_MEAN, WAN21_STD, AutoencoderConfig
from diorama.checkpoint import Stored, Weights
from diorama.errors import CheckpointError
from diorama.interop.names import BLOCK_MODULES, OTHER_MODULES
from diorama.transformer.config import TransformerConfig

__all__ = ["HEAD_DIM", "Kind", "Recognised", "recognise"]

HEAD_DIM = 128
"""Head size of every published Wan transformer; the shapes do not tell it."""
_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "first_stage_model.", "module.")
Kind = Literal["transformer", "vae", "text_encoder", "image_encoder"]

_WAN22_MEAN = (
    *(-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825),
    *(-0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230),
    *(-0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
)
_WAN22_STD = (
    *(0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978),
    *(0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093),
    *(0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
)
"""Statistics of Wan 2.2's 48 latent channels, which its checkpoint does not carry. Source: the model code of Wan 2.2."""

_LOOSE = {"img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed", "head.modulation": "scale_shift_table"}
"""Parameters of the transformer that are no module's weight or bias."""
_RESIDUAL = {"residual.0": "norm1", "residual.2": "conv1", "residual.3": "norm2", "residual.6": "conv2", "shortcut": "conv_shortcut"}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a set of weights turned out to be."""

    kind: Kind
    """The part of a model."""
    weights: Weights
    """Under the names of diffusers or transformers."""
    config: TransformerConfig | AutoencoderConfig | Mapping[str, Any]
    """The graph; for encoders the arguments of transformers' config."""


def recognise(weights: Weights) -> Recognised | None:
    """Say what weights are, from their keys and shapes.

    Args:
        weights: Any set of weights.

    Returns:
        The part of a Wan model that they are, in Wan's own naming or diffusers'; None if they are something else.

    Raises:
        CheckpointError: they are a Wan transformer with parts that are not supported.
    """
    weights = _without_prefix(weights)
    names = weights.tensors
    if "time_projection.1.weight" in names and "patch_embedding.weight" in names:
        return _transformer(weights.renamed(_transformer_name))
    if "condition_embedder.time_proj.weight" in names:
        return _transformer(weights)
    if "decoder.middle.0.residual.0.gamma" in names:
        return _vae(weights)
    if "token_embedding.weight" in names and "blocks.0.attn.q.weight" in names:
        return _text_encoder(weights)
    if "visual.transformer.0.attn.to_qkv.weight" in names:
        return _image_encoder(weights)
    return None


def _without_prefix(weights: Weights) -> Weights:
    prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in weights.tensors)), "")
    return weights.renamed(lambda name: name.removeprefix(prefix))


def _split(name: str) -> tuple[str, str]:
    """Return a key without its last word, and that word where it says which tensor of a layer it is."""
    stem, _, last = name.rpartition(".")
    return (stem, f".{last}") if last in ("weight", "bias", "gamma") else (name, "")


def _transformer_name(name: str) -> str | None:
    stem, last = _split(name)
    match = re.fullmatch(r"(blocks\.\d+\.)(.+)", stem)
    if match is None:
        return (OTHER_MODULES | _LOOSE).get(stem, stem) + last
    if match[2] == "cross_attn.norm_q_img":
        return None  # some first image-to-video files carry a norm that nothing uses
    return match[1] + {**BLOCK_MODULES, "modulation": "scale_shift_table"}.get(match[2], match[2]) + last


def _transformer(weights: Weights) -> Recognised:
    shapes = {name: stored.shape for name, stored in weights.tensors.items()}
    foreign = next((name for name in shapes if not re.match(r"(blocks|condition_embedder|patch_embedding|proj_out|scale_shift_table)\b", name)), None)
    if foreign is not None:
        raise CheckpointError(
            f"{weights.source} is a Wan transformer with '{foreign}' beside the graph, as control, VACE and character checkpoints have it; "
            "supported are text-to-video, image-to-video, first-last-frame and TI2V"
        )
    patch, text = _shape(weights, "patch_embedding.weight", 5), "condition_embedder.text_embedder.linear_1.weight"
    out, ffn = _shape(weights, "proj_out.weight", 2), _shape(weights, "blocks.0.ffn.net.0.proj.weight", 2)
    size = patch[0]
    image = shapes.get("condition_embedder.image_embedder.norm1.weight")
    places = shapes.get("condition_embedder.image_embedder.pos_embed")
    head = HEAD_DIM if size % HEAD_DIM == 0 else size
    config = TransformerConfig(
        patch_size=(patch[2], patch[3], patch[4]),
        num_attention_heads=size // head,
        attention_head_dim=head,
        in_channels=patch[1],
        out_channels=out[0] // math.prod(patch[2:]),
        text_dim=_shape(weights, text, 2)[1],
        freq_dim=_shape(weights, "condition_embedder.time_embedder.linear_1.weight", 2)[1],
        ffn_dim=ffn[0],
        num_layers=_count(shapes, r"blocks\.(\d+)\."),
        cross_attn_norm="blocks.0.norm2.weight" in shapes,
        image_dim=None if image is None else image[0],
        added_kv_proj_dim=None if image is None else size,
        pos_embed_seq_len=None if places is None else places[1],
        pooled_dim=None,
        coordinates="index",
        place=False,
    )
    return Recognised(kind="transformer", weights=weights, config=config)


def _shape(weights: Weights, name: str, num_axes: int) -> tuple[int, ...]:
    stored = weights.tensors.get(name)
    if stored is None or len(stored.shape) != num_axes:
        got = "is missing" if stored is None else f"has shape {stored.shape}"
        raise CheckpointError(f"{weights.source}: tensor '{name}' {got}, expected one with {num_axes} axes; copy or download the file again")
    return stored.shape


def _count(names: Iterable[str], pattern: str) -> int:
    return 1 + max((int(match[1]) for name in names if (match := re.match(pattern, name))), default=-1)


def _vae(weights: Weights) -> Recognised:
    shapes = {name: stored.shape for name, stored in weights.tensors.items()}
    first, latent = _shape(weights, "encoder.conv1.weight", 5), _shape(weights, "conv2.weight", 5)[0]
    nested = any(re.match(r"encoder\.downsamples\.\d+\.downsamples\.", name) for name in shapes)
    levels, num_blocks = _levels(shapes, nested)
    patch = math.isqrt(first[1] // 3)
    mean, std = {len(WAN21_MEAN): (WAN21_MEAN, WAN21_STD), len(_WAN22_MEAN): (_WAN22_MEAN, _WAN22_STD)}.get(latent, (None, None))
    mult = tuple(width // first[0] for width, _ in levels)
    values: dict[str, Any] = {
        "base_dim": first[0],
        "z_dim": latent,
        "dim_mult": mult,
        "num_res_blocks": num_blocks,
        "temperal_downsample": tuple(time for _, time in levels[:-1]),
        "in_channels": first[1],
        "out_channels": _shape(weights, "decoder.head.2.weight", 5)[0],
        "patch_size": None if patch == 1 else patch,
        "scale_factor_temporal": 2 ** sum(time for _, time in levels),
        "scale_factor_spatial": patch * 2 ** (len(levels) - 1),
        "latents_mean": mean,
        "latents_std": std,
    }
    if nested:
        values |= {"is_residual": True, "decoder_base_dim": _shape(weights, "decoder.head.0.gamma", 4)[0] // mult[0]}
    return Recognised(kind="vae", weights=weights.renamed(_vae_names(num_blocks, nested)), config=AutoencoderConfig.wan21(**values))


def _levels(shapes: Mapping[str, tuple[int, ...]], nested: bool) -> tuple[list[tuple[int, bool]], int]:
    """Return width and halving of time of every encoder level, and the residual blocks of each."""
    pattern = r"encoder\.downsamples\.(\d+)\.downsamples\.(\d+)\." if nested else r"encoder\.downsamples\.(\d+)\."
    layers: dict[tuple[int, ...], list[str]] = {}
    for name in shapes:
        if match := re.match(pattern, name):
            layers.setdefault(tuple(int(group) for group in match.groups()), []).append(name)
    levels: list[tuple[int, bool]] = []
    blocks, width, counts = 0, 0, []
    for place in sorted(layers):
        names = layers[place]
        step = any(".resample." in name for name in names)
        if not step:
            blocks += 1
            width = next(shapes[name][0] for name in names if name.endswith("residual.6.weight"))
        if step or place == max(layers):
            levels.append((width, any(".time_conv." in name for name in names)))
            counts.append(blocks)
            blocks = 0
    return levels, counts[0]


def _vae_names(num_blocks: int, nested: bool) -> Callable[[str], str | None]:
    def layer(rest: str) -> str:
        stem, last = _split(rest)
        return _RESIDUAL.get(stem, stem) + last

    def rename(name: str) -> str | None:
        if match := re.match(r"(conv1|conv2)\.(.+)", name):
            return f"{'quant_conv' if match[1] == 'conv1' else 'post_quant_conv'}.{match[2]}"
        if match := re.match(r"(encoder|decoder)\.conv1\.(.+)", name):
            return f"{match[1]}.conv_in.{match[2]}"
        if match := re.match(r"(encoder|decoder)\.head\.(0|2)\.(.+)", name):
            return f"{match[1]}.{'norm_out' if match[2] == '0' else 'conv_out'}.{match[3]}"
        if match := re.match(r"(encoder|decoder)\.middle\.([012])\.(.+)", name):
            return f"{match[1]}.mid_block.{_MIDDLE[match[2]]}.{layer(match[3])}"
        if match := re.match(r"(encoder)\.downsamples\.(\d+)\.downsamples\.(\d+)\.(.+)|(decoder)\.upsamples\.(\d+)\.upsamples\.(\d+)\.(.+)", name):
            side, level, place, rest = (group for group in match.groups() if group is not None)
            part, blocks = ("down", num_blocks) if side == "encoder" else ("up", num_blocks + 1)
            where = f"resnets.{place}" if int(place) < blocks else f"{part}sampler"
            return f"{side}.{part}_blocks.{level}.{where}.{layer(rest)}"
        if match := re.match(r"encoder\.downsamples\.(\d+)\.(.+)", name):
            return f"encoder.down_blocks.{match[1]}.{layer(match[2])}"
        if match := re.match(r"decoder\.upsamples\.(\d+)\.(.+)", name):
            level, place = divmod(int(match[1]), num_blocks + 2)
            where = f"resnets.{place}" if place <= num_blocks else "upsamplers.0"
            return f"decoder.up_blocks.{level}.{where}.{layer(match[2])}"
        return name

    return rename


def _text_encoder(weights: Weights) -> Recognised:
    vocabulary, width = _shape(weights, "token_embedding.weight", 2)
    buckets, heads = _shape(weights, "blocks.0.pos_embedding.embedding.weight", 2)
    inner = _shape(weights, "blocks.0.attn.q.weight", 2)[0]
    names = {"attn.q": "0.SelfAttention.q", "attn.k": "0.SelfAttention.k", "attn.v": "0.SelfAttention.v", "attn.o": "0.SelfAttention.o"}
    names |= {"pos_embedding.embedding": "0.SelfAttention.relative_attention_bias", "norm1": "0.layer_norm", "norm2": "1.layer_norm"}
    names |= {"ffn.gate.0": "1.DenseReluDense.wi_0", "ffn.fc1": "1.DenseReluDense.wi_1", "ffn.fc2": "1.DenseReluDense.wo"}

    def rename(name: str) -> str:
        stem, last = _split(name)
        if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", stem):
            return f"encoder.block.{match[1]}.layer.{names.get(match[2], match[2])}{last}"
        return {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}.get(stem, stem) + last

    config = {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": inner // heads,
        "d_ff": _shape(weights, "blocks.0.ffn.fc1.weight", 2)[0],
        "num_layers": _count(weights.tensors, r"blocks\.(\d+)\."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    }
    return Recognised(kind="text_encoder", weights=weights.renamed(rename), config=config)


def _image_encoder(weights: Weights) -> Recognised:
    size, _, side, _ = _shape(weights, "visual.patch_embedding.weight", 4)
    num_patches = _shape(weights, "visual.pos_embedding", 3)[1] - 1
    names = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    outside = {"pre_norm": "pre_layrnorm", "post_norm": "post_layernorm", "patch_embedding": "embeddings.patch_embedding"}
    tensors: dict[str, Stored] = {}
    for name, stored in weights.tensors.items():
        stem, last = _split(name.removeprefix("visual."))
        match = re.fullmatch(r"transformer\.(\d+)\.(.+)", stem)
        if not name.startswith("visual.") or stem == "head":
            continue  # the tower of texts and the projection to it
        if match and match[2] == "attn.to_qkv":
            for i, part in enumerate(("q_proj", "k_proj", "v_proj")):
                tensors[f"encoder.layers.{match[1]}.self_attn.{part}{last}"] = _rows(stored, i, 3)
        elif match:
            tensors[f"encoder.layers.{match[1]}.{names.get(match[2], match[2])}{last}"] = stored
        elif stem == "cls_embedding":
            tensors["embeddings.class_embedding"] = _reshaped(stored, (size,))
        elif stem == "pos_embedding":
            tensors["embeddings.position_embedding.weight"] = _reshaped(stored, (num_patches + 1, size))
        else:
            tensors[f"{outside.get(stem, stem)}{last}"] = stored
    config = {
        "hidden_size": size,
        "intermediate_size": _shape(weights, "visual.transformer.0.mlp.0.weight", 2)[0],
        "num_hidden_layers": _count(weights.tensors, r"visual\.transformer\.(\d+)\."),
        "num_attention_heads": size // 80 if size % 80 == 0 else 1,  # 80 in the one encoder that Wan uses
        "patch_size": side,
        "image_size": side * math.isqrt(num_patches),
        "hidden_act": "gelu",
    }
    return Recognised(kind="image_encoder", weights=Weights(source=weights.source, tensors=tensors), config=config)


def _rows(stored: Stored, index: int, count: int) -> Stored:
    rows = stored.shape[0] // count
    span = slice(index * rows, (index + 1) * rows)
    return Stored(shape=(rows, *stored.shape[1:]), dtype=stored.dtype, load=lambda mapped: stored.load(mapped)[span])


def _reshaped(stored: Stored, shape: tuple[int, ...]) -> Stored:
    return Stored(shape=shape, dtype=stored.dtype, load=lambda mapped: stored.load(mapped).reshape(shape))
