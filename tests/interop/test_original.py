"""Wan's own naming: recognised from keys and shapes alone, under the names that diffusers' converters give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diorama.autoencoder.config import AutoencoderConfig
from diorama.checkpoint import Weights, fill, open_files, write_file
from diorama.errors import CheckpointError
from diorama.interop.original import recognise
from diorama.transformer import Transformer, TransformerConfig

pytestmark = pytest.mark.filterwarnings("ignore")
# Heads are 128 wide in every published checkpoint.
WIDE = {"num_attention_heads": 1, "attention_head_dim": 128}
KINDS: dict[str, dict[str, Any]] = {
    "t2v": WIDE,
    "two heads": WIDE | {"num_attention_heads": 2, "num_layers": 3, "patch_size": (1, 1, 2)},
    "i2v": WIDE | {"in_channels": 12, "image_dim": 10, "added_kv_proj_dim": 128},
    "flf2v": WIDE | {"in_channels": 12, "image_dim": 10, "added_kv_proj_dim": 128, "pos_embed_seq_len": 10},
    "a14b i2v": WIDE | {"in_channels": 12},
}
AUTOENCODERS = [("vae", {}), ("vae", {"num_res_blocks": 1, "dim_mult": [1, 2, 2, 4]}), ("vae 2.2", {}), ("vae 2.2", {"num_res_blocks": 1})]


def stored(tensors: dict[str, Tensor], folder: Path) -> Weights:
    write_file(folder / "any-name.safetensors", tensors)
    return open_files([folder / "any-name.safetensors"])


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", KINDS)
def test_transformers(kind: str, prefix: str, tiny: Any, original_names: Any, diffusers: Any, tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    config = {"patch_size": (1, 2, 2), **tiny["transformer"], **KINDS[kind]}
    peer = diffusers.WanTransformer3DModel(**config)
    named = original_names.transformer(peer.state_dict())
    assert not any("attn1" in name or "condition_embedder" in name for name in named)
    found = recognise(stored({prefix + name: value for name, value in named.items()}, tmp_path))
    assert found is not None
    assert found.kind == "transformer"
    theirs = convert_wan_transformer_to_diffusers(dict(named))
    places = {"condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"}  # diffusers' converter leaves this one
    assert set(found.weights.tensors) - places == set(theirs) - places
    assert isinstance(found.config, TransformerConfig)
    assert found.config == TransformerConfig(**config, pooled_dim=None, coordinates="index", place=False)
    model = Transformer.build(found.config, found.weights)
    assert all(torch.equal(value, peer.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("kind", "changes"), AUTOENCODERS)
def test_autoencoders(kind: str, changes: dict[str, Any], tiny: Any, original_names: Any, diffusers: Any, tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    from diorama.autoencoder.model import Autoencoder

    config = tiny[kind] | changes
    peer = diffusers.AutoencoderKLWan(**config)
    nested = config.get("is_residual", False)
    named = original_names.vae(peer.state_dict(), config.get("num_res_blocks", 2), nested)
    found = recognise(stored(named, tmp_path))
    assert found is not None
    if not nested and "num_res_blocks" not in config:
        assert set(found.weights.tensors) == set(convert_wan_vae_to_diffusers(dict(named)))
    assert isinstance(found.config, AutoencoderConfig)
    assert (found.config.z_dim, found.config.is_residual, found.config.stride.space) == (4, nested, 16 if nested else 8)
    model = Autoencoder.build(found.config, found.weights)
    assert all(torch.equal(value, peer.state_dict()[name]) for name, value in model.state_dict().items())


def test_published_latents_have_their_statistics(tiny: Any, original_names: Any, diffusers: Any, tmp_path: Path) -> None:
    for z_dim, kind, first in ((16, "vae", -0.7571), (48, "vae 2.2", -0.2289)):
        peer = diffusers.AutoencoderKLWan(**tiny[kind] | {"z_dim": z_dim, "latents_mean": [0.0] * z_dim, "latents_std": [1.0] * z_dim})
        found = recognise(stored(original_names.vae(peer.state_dict(), 2, z_dim == 48), tmp_path))
        assert found is not None
        assert isinstance(found.config, AutoencoderConfig)
        assert found.config.latents_mean is not None
        assert found.config.latents_mean[0] == first
        assert found.config.latents_std is not None
        assert len(found.config.latents_std) == z_dim


def test_encoders(checkpoint: Any, original_names: Any, tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    pipe, _ = checkpoint("i2v")
    gated = UMT5EncoderModel(UMT5Config(vocab_size=9, d_model=16, d_kv=8, d_ff=20, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"))
    for peer, named, made in (
        (gated, original_names.text_encoder(gated.state_dict()), lambda c: UMT5EncoderModel(UMT5Config(**c))),
        (
            pipe.image_encoder,
            original_names.image_encoder(pipe.image_encoder.state_dict()),
            lambda c: CLIPVisionModel(CLIPVisionConfig(**c | {"num_attention_heads": 2})),
        ),
    ):
        found = recognise(stored(named, tmp_path))
        assert found is not None
        model = made(dict(found.config))  # type: ignore[arg-type]
        model = getattr(model, "vision_model", model)
        tensors = dict(found.weights.tensors)
        if "shared.weight" in tensors:
            tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
        fill(model, Weights(source=tmp_path, tensors=tensors))
        expected = getattr(peer, "vision_model", peer).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_others_are_none_or_said(tiny: Any, original_names: Any, diffusers: Any, tmp_path: Path) -> None:
    assert recognise(stored({"weight": torch.zeros(2)}, tmp_path)) is None
    named = original_names.transformer(diffusers.WanTransformer3DModel(**tiny["transformer"] | WIDE).state_dict())
    with pytest.raises(CheckpointError, match=r"'vace_blocks\.0\.before_proj\.weight' beside the graph"):
        recognise(stored(named | {"vace_blocks.0.before_proj.weight": torch.zeros(2)}, tmp_path))
    with pytest.raises(CheckpointError, match=r"tensor 'proj_out\.weight' is missing"):
        recognise(stored({name: value for name, value in named.items() if name != "head.head.weight"}, tmp_path))
    with pytest.raises(CheckpointError, match=r"'patch_embedding\.weight' has shape \(3,\), expected one with 5 axes"):
        recognise(stored(named | {"patch_embedding.weight": torch.zeros(3)}, tmp_path))
