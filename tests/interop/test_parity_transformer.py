"""The transformer against diffusers' WanTransformer3DModel: the same random weights, the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diorama.checkpoint import load_tensors
from diorama.errors import InputError
from diorama.patches import pack, unpack
from diorama.transformer import Transformer
from diorama.transformer.config import read_config

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra dev)")
pytestmark = pytest.mark.filterwarnings("ignore")

BASE: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 10,
    "freq_dim": 16,
    "ffn_dim": 40,
    "num_layers": 2,
}
TEXT = [
    BASE,
    BASE | {"num_attention_heads": 3, "attention_head_dim": 16, "num_layers": 3},
    BASE | {"cross_attn_norm": False, "patch_size": (1, 1, 2)},
]
IMAGE = [
    BASE | {"in_channels": 12, "image_dim": 14, "added_kv_proj_dim": 24},
    BASE | {"in_channels": 12, "image_dim": 6, "added_kv_proj_dim": 24, "pos_embed_seq_len": 10, "num_layers": 1},
]


def peer(config: dict[str, Any]) -> Any:
    """Return diffusers' model with every parameter random, so that nothing hides behind a zero."""
    torch.manual_seed(0)
    model = diffusers.WanTransformer3DModel(**config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.rand_like(parameter) + 0.5 if "norm" in name and name.endswith("weight") else 0.25 * torch.randn_like(parameter))
    return model


def ours(model: Any, folder: Path) -> Transformer:
    model.save_pretrained(folder)
    return Transformer.load(folder)


def inputs(config: dict[str, Any], num_clips: int = 2) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    latent = torch.randn(num_clips, config["in_channels"], 3, 4, 6, generator=g)
    text = torch.randn(num_clips, 512, config["text_dim"], generator=g)
    for row, count in enumerate([7, 12][:num_clips]):
        text[row, count:] = 0  # as Wan pads
    return latent, text


def run(net: Transformer, latent: Tensor, times: Tensor, text: Tensor, **given: Any) -> Tensor:
    packed = pack(list(latent), list(times), patch_size=net.config.patch_size, coordinates="index")
    return torch.stack(unpack(net(packed, net.encode_text(text, **given)), packed.grids, net.config.patch_size))


def same(got: Tensor, expected: Tensor) -> None:
    assert expected.abs().mean() > 0.05
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("config", TEXT, ids=["small", "wide", "without norm"])
@torch.no_grad()
def test_text_to_video(config: dict[str, Any], tmp_path: Path) -> None:
    model = peer(config)
    latent, text = inputs(config)
    times = torch.tensor([0.25, 0.875])
    same(run(ours(model, tmp_path), latent, times, text), model(latent, times * 1000, text).sample)


@pytest.mark.parametrize("config", TEXT[:2], ids=["small", "wide"])
@torch.no_grad()
def test_time_per_token(config: dict[str, Any], tmp_path: Path) -> None:
    """Wan 2.2 TI2V: the first frame is given and stays at time 0."""
    model = peer(config)
    latent, text = inputs(config)
    times = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.9, 0.1]])
    same(run(ours(model, tmp_path), latent, times, text), model(latent, times.repeat_interleave(6, dim=1) * 1000, text).sample)


@pytest.mark.parametrize("config", IMAGE, ids=["first frame", "first and last frame"])
@torch.no_grad()
def test_image_to_video(config: dict[str, Any], tmp_path: Path) -> None:
    model = peer(config)
    latent, text = inputs(config)
    g = torch.Generator().manual_seed(2)
    images = torch.randn(2, 10, config["image_dim"], generator=g)
    # With positions diffusers takes the states of two pictures as two rows.
    given = images.reshape(4, 5, -1) if "pos_embed_seq_len" in config else images
    times = torch.tensor([0.25, 0.875])
    net = ours(model, tmp_path)
    same(run(net, latent, times, text, images=images), model(latent, times * 1000, text, given).sample)
    with pytest.raises(InputError, match="takes image states"):
        run(net, latent, times, text)


@torch.no_grad()
def test_one_token_stands_for_all_padding(tmp_path: Path) -> None:
    model = peer(BASE)
    latent, text = inputs(BASE)
    times = torch.tensor([0.25, 0.875])
    mask = torch.arange(12) < torch.tensor([[7], [12]])
    same(run(ours(model, tmp_path), latent, times, text[:, :12], mask=mask, padded_to=512), model(latent, times * 1000, text).sample)


@torch.no_grad()
def test_a_folder_of_ours_opens_in_diffusers(tmp_path: Path) -> None:
    for i, config in enumerate([*TEXT, *IMAGE]):
        net = ours(peer(config), tmp_path / f"theirs{i}")
        net.save(tmp_path / f"ours{i}")
        back = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / f"ours{i}")
        again = load_tensors(tmp_path / f"ours{i}", stem="diffusion_pytorch_model")
        assert all(torch.equal(value, again[name]) for name, value in back.state_dict().items())
        assert read_config(tmp_path / f"ours{i}") == net.config


@torch.no_grad()
def test_half_precision_follows_diffusers(tmp_path: Path) -> None:
    """In bf16 both round; ours is not further from float32 than theirs."""
    model = peer(BASE)
    latent, text = inputs(BASE)
    times = torch.tensor([0.25, 0.875])
    exact = model(latent, times * 1000, text).sample
    model.save_pretrained(tmp_path)
    theirs = diffusers.WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    net = Transformer.load(tmp_path, torch.bfloat16)
    assert net.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    assert net.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    rounded = theirs(latent.bfloat16(), times * 1000, text.bfloat16()).sample
    own = (run(net, latent, times, text) - exact).norm()
    assert own <= 1.1 * (rounded.float() - exact).norm()
