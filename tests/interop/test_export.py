"""What is trained here opens in diffusers' own pipeline and computes the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.errors import InputError
from diorama.interop.export import export_diffusers, outside_wan
from diorama.interop.scheduler import SchedulerConfig, scheduler_json
from diorama.transformer import Transformer, TransformerConfig

SIZE: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 16, "ffn_dim": 32}
WAN = TransformerConfig(**SIZE, freq_dim=32, num_layers=2, patch_size=(1, 2, 2), pooled_dim=None, coordinates="index", place=False)
VAE = AutoencoderConfig.wan21(base_dim=8, z_dim=4)


def model(folder: Path) -> tuple[Transformer, Autoencoder]:
    torch.manual_seed(0)
    transformer, autoencoder = Transformer(WAN).requires_grad_(False).eval(), Autoencoder(VAE).requires_grad_(False).eval()
    for parameter in transformer.parameters():
        parameter.normal_(std=0.2)
    transformer.save(folder / "transformer")
    autoencoder.save(folder / "vae")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler_json(SchedulerConfig(shift=2.5))))
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "config.json").write_text('{"_class_name": "CompactTextEncoder"}')
    return transformer, autoencoder


@torch.no_grad()
def test_diffusers_opens_it_and_computes_the_same(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    transformer, autoencoder = model(tmp_path / "ours")
    notes = export_diffusers(tmp_path / "ours", tmp_path / "theirs")
    assert [note.split()[0:3] for note in notes] == [["the", "time", "shift"], ["diffusers", "does", "not"]]
    pipeline = diffusers.WanPipeline.from_pretrained(tmp_path / "theirs", text_encoder=None, tokenizer=None)
    assert pipeline.scheduler.config.shift == 2.5
    generator = torch.Generator().manual_seed(1)
    latent, states = torch.randn(1, 4, 2, 4, 6, generator=generator), torch.randn(1, 5, 16, generator=generator)
    theirs = pipeline.transformer(latent, torch.tensor([300.0]), states).sample
    ours = transformer(transformer.pack([latent[0]], [0.3]), transformer.encode_text(states))
    from diorama.patches import patchify

    torch.testing.assert_close(ours, patchify(theirs[0], WAN.patch_size), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(autoencoder.decode(latent), pipeline.vae.decode(latent).sample, atol=1e-4, rtol=1e-4)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(prompt_embeds=states, negative_prompt_embeds=states[:, :2], height=32, width=48, num_frames=5, num_inference_steps=2)
    assert made.frames.shape == (1, 5, 32, 48, 3)


@pytest.mark.parametrize(
    ("transformer", "autoencoder", "message"),
    [
        ({}, {}, None),
        ({"pooled_dim": 24}, {}, "transformer.pooled_dim is 24 and must be null"),
        ({"coordinates": "view"}, {}, 'transformer.coordinates is "view" and must be "index"'),
        ({"place": True}, {}, "transformer.place is true and must be false"),
        ({}, {"factorized_time": True}, "vae.factorized_time is true and must be false"),
        ({}, {"mid_block": False}, "vae.mid_block is false and must be true"),
        ({}, {"widths": (8, 8, 8, 8)}, "vae.widths is [8, 8, 8, 8] and must be null"),
    ],
)
def test_the_field_outside_the_wan_graph_is_named(transformer: dict[str, Any], autoencoder: dict[str, Any], message: str | None) -> None:
    found = outside_wan(replace(WAN, **transformer), replace(VAE, **autoencoder))
    assert found is None if message is None else found is not None and found.startswith(f"{message} in the Wan graph; train with")


def test_even_joins_are_no_part_of_the_graph(tmp_path: Path) -> None:
    _, autoencoder = model(tmp_path / "ours")
    autoencoder.config = replace(VAE, even_joins=True)
    autoencoder.save(tmp_path / "ours" / "vae")
    assert Autoencoder.load(tmp_path / "ours" / "vae").config.even_joins
    assert export_diffusers(tmp_path / "ours", tmp_path / "theirs")[0].startswith("the steps between latent frames are evened")
    written = json.loads((tmp_path / "theirs" / "vae" / "config.json").read_text())
    assert "even_joins" not in written
    assert written["_class_name"] == "AutoencoderKLWan"


def test_patches_in_time_are_outside_too() -> None:
    size: dict[str, Any] = {"in_channels": 48, "out_channels": 48, "dim_mult": (1, 1), "temperal_downsample": (False,), "scale_factor_spatial": 4}
    config = AutoencoderConfig.wan21(base_dim=8, patch_size=(4, 2, 2), **size)
    assert str(outside_wan(WAN, config)).startswith("vae.patch_size is (4, 2, 2)")


def test_a_model_is_not_written_over_itself(tmp_path: Path) -> None:
    model(tmp_path / "ours")
    with pytest.raises(InputError, match="is the model itself"):
        export_diffusers(tmp_path / "ours", tmp_path / "ours")
    config = tmp_path / "ours" / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "pooled_dim": 3, "coordinates": "index", "place": False}))
    with pytest.raises(InputError, match=r"does not open in diffusers: transformer\.pooled_dim is 3"):
        export_diffusers(tmp_path / "ours", tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_a_text_encoder_that_transformers_knows_goes_along(tmp_path: Path) -> None:
    model(tmp_path / "ours")
    (tmp_path / "ours" / "text_encoder" / "config.json").write_text('{"model_type": "umt5"}')
    (tmp_path / "ours" / "tokenizer").mkdir()
    (tmp_path / "ours" / "tokenizer" / "tokenizer.json").write_text("{}")
    notes = export_diffusers(tmp_path / "ours", tmp_path / "theirs")
    assert len(notes) == 1
    index = json.loads((tmp_path / "theirs" / "model_index.json").read_text())
    assert index["text_encoder"] == ["transformers", "UMT5EncoderModel"]
    assert (tmp_path / "theirs" / "tokenizer" / "tokenizer.json").is_file()
