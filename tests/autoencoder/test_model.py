from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.errors import CheckpointError, InputError

OURS = AutoencoderConfig(widths=(8, 12, 16), z_dim=4, latents_mean=(0.1, 0.2, -0.3, 0.0), latents_std=(0.5, 2.0, 1.0, 1.5))
WAN21 = AutoencoderConfig.wan21(base_dim=4, z_dim=4, num_res_blocks=1)
WAN22 = AutoencoderConfig.wan22(base_dim=4, decoder_base_dim=8, z_dim=4, num_res_blocks=1)
CONFIGS = pytest.mark.parametrize("config", [OURS, WAN21, WAN22], ids=["ours", "wan21", "wan22"])


def make(config: AutoencoderConfig) -> Autoencoder:
    """A network whose weights are all random: fresh norms and time convolutions would hide mistakes."""
    torch.manual_seed(0)
    model = Autoencoder(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def video(frames: int, height: int = 32, width: int = 48, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@CONFIGS
def test_shapes(config: AutoencoderConfig) -> None:
    model, x = make(config), video(9, batch=2)
    stride = config.stride
    latent = model.encode(x)
    assert latent.shape == (2, config.latent_channels, 3, 32 // stride.space, 48 // stride.space)
    assert model.decode(latent).shape == x.shape
    assert model.decode(model.encode(x[:, :, :1])).shape == (2, 3, 1, 32, 48)


@CONFIGS
def test_causal(config: AutoencoderConfig) -> None:
    model, x = make(config), video(9)
    changed = x.clone()
    changed[:, :, 5:] = 0
    latent = model.encode(x)
    other = model.encode(changed)
    assert torch.equal(latent[:, :, :2], other[:, :, :2])
    assert not torch.equal(latent[:, :, 2], other[:, :, 2])
    later = latent.clone()
    later[:, :, 2] += 1
    a, b = model.decode(latent), model.decode(later)
    assert torch.equal(a[:, :, :5], b[:, :, :5])
    assert not torch.equal(a[:, :, 5:], b[:, :, 5:])


@CONFIGS
def test_every_frame_of_a_patch_reaches_the_latent(config: AutoencoderConfig) -> None:
    model, x = make(config), video(5)
    latent = model.encode(x)
    for frame in range(5):
        changed = x.clone()
        changed[:, :, frame] *= -1
        assert not torch.allclose(model.encode(changed), latent, atol=1e-4)


@CONFIGS
@pytest.mark.parametrize("lengths", [(1, 4, 4, 4), (5, 8), (2, 7, 1, 3), (13,)], ids=str)
def test_streamed_encoding_is_the_whole(config: AutoencoderConfig, lengths: tuple[int, ...]) -> None:
    model, x = make(config).double(), video(13).double()
    streamed = torch.cat(list(model.encode_stream(x.split(lengths, dim=2))), dim=2)
    torch.testing.assert_close(streamed, model.encode(x), rtol=0, atol=1e-6)


@CONFIGS
@pytest.mark.parametrize("step", [1, 2, 3])
def test_streamed_decoding_is_the_whole(config: AutoencoderConfig, step: int) -> None:
    model = make(config).double()
    latent = model.encode(video(17).double()).double()
    pieces = list(model.decode_stream(latent, step))
    assert pieces[0].shape[2] == 1 + 4 * (step - 1)
    torch.testing.assert_close(torch.cat(pieces, dim=2), model.decode(latent), rtol=0, atol=1e-6)


def test_streaming_in_fp32_is_the_whole_to_rounding() -> None:
    model, x = make(OURS), video(13)
    latent = model.encode(x)
    torch.testing.assert_close(torch.cat(list(model.encode_stream(x.split(4, dim=2))), dim=2), latent, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat(list(model.decode_stream(latent)), dim=2), model.decode(latent), rtol=0, atol=1e-5)


def test_tails_stay_of_one_size() -> None:
    model, tails, sizes = make(OURS), None, set()
    for piece in model.encode(video(17)).split(1, dim=2):
        _, tails = model.decode_chunk(piece, tails)
        sizes.add(sum(tail.numel() for tail in tails[0]))
    assert len(sizes) == 1


@pytest.mark.parametrize("tile", [32, 64, 96])
def test_tiles_are_the_whole(tile: int) -> None:
    model, x = make(OURS), video(5, 32, 224)
    latent = model.encode(x)
    torch.testing.assert_close(model.encode(x, tile), latent, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.decode(latent, tile), model.decode(latent), rtol=0, atol=1e-5)


def test_convolutional_tiles_of_the_wan_graph_are_the_whole() -> None:
    two_levels = {"dim_mult": (1, 1), "temperal_downsample": (True,), "scale_factor_temporal": 2, "scale_factor_spatial": 4}
    model = make(AutoencoderConfig.wan22(base_dim=4, decoder_base_dim=4, z_dim=4, num_res_blocks=1, mid_block=False, **two_levels))
    x = video(3, 16, 128)
    latent = model.encode(x)
    torch.testing.assert_close(model.encode(x, 16), latent, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.decode(latent, 16), model.decode(latent), rtol=0, atol=1e-5)


def columns_seen(run: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Return how many columns left or right of the middle one still change with it."""
    changed = x.clone()
    middle = x.shape[4] // 2
    changed[..., middle] += 1
    moved = (run(changed) - run(x)).abs().amax(dim=(0, 1, 2, 3)).nonzero()[:, 0]
    scale = moved.new_tensor(run(x).shape[4]) / x.shape[4]
    return int(torch.ceil(torch.maximum(middle - (moved.min() + 0) / scale, (moved.max() + 1) / scale - 1 - middle)))


@pytest.mark.parametrize(
    "config",
    [OURS, AutoencoderConfig.wan21(base_dim=4, z_dim=4, num_res_blocks=1, mid_block=False)],
    ids=["ours", "wan21"],
)
def test_halo_covers_what_is_seen_and_little_more(config: AutoencoderConfig) -> None:
    model, space = make(config).double(), config.stride.space
    seen = columns_seen(model.reconstruct, torch.randn(1, 4, 1, 2, 41, dtype=torch.float64))
    assert seen <= config.decoder_halo <= seen + 1
    pixels = columns_seen(lambda x: model.moments(x)[0], video(1, space, 31 * space).double())
    assert pixels <= config.encoder_halo <= pixels + 2 * space


def test_streaming_with_tiles_is_the_whole() -> None:
    model, x = make(OURS), video(9, 64, 256)
    latent = model.encode(x)
    streamed = torch.cat(list(model.encode_stream(x.split(4, dim=2), tile=64)), dim=2)
    torch.testing.assert_close(streamed, latent, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat(list(model.decode_stream(latent, tile=64)), dim=2), model.decode(latent), rtol=0, atol=1e-5)


def test_latents_are_normalised() -> None:
    model, x = make(OURS), video(5)
    mean, _ = model.moments(x)
    expected = (mean - torch.tensor(OURS.latents_mean).view(1, -1, 1, 1, 1)) / torch.tensor(OURS.latents_std).view(1, -1, 1, 1, 1)
    torch.testing.assert_close(model.encode(x), expected)
    torch.testing.assert_close(model.decode(model.encode(x)), model.reconstruct(mean).clamp(-1, 1), rtol=0, atol=1e-5)


@CONFIGS
def test_folder_round_trip(config: AutoencoderConfig, tmp_path: Path) -> None:
    model = make(config)
    model.save(tmp_path / "vae")
    loaded = Autoencoder.load(tmp_path / "vae")
    assert loaded.config == config
    assert not loaded.training
    x = video(5)
    assert torch.equal(loaded.encode(x), model.encode(x))
    name = json.loads((tmp_path / "vae" / "config.json").read_text())["_class_name"]
    assert name == ("Autoencoder" if config is OURS else "AutoencoderKLWan")


def test_half_precision_on_disk_is_read_as_fp32(tmp_path: Path) -> None:
    make(OURS).half().save(tmp_path / "vae")
    assert {p.dtype for p in Autoencoder.load(tmp_path / "vae").parameters()} == {torch.float32}


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        Autoencoder.load(tmp_path)


@pytest.mark.parametrize("shape", [(1, 3, 4, 32, 32), (1, 3, 5, 40, 32), (1, 3, 0, 32, 32)])
def test_video_off_the_grid(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="do not fit"):
        make(OURS).encode(torch.zeros(shape))


def test_tile_off_the_grid() -> None:
    with pytest.raises(InputError, match="multiple of 16, for example 32"):
        make(OURS).encode(video(1), tile=30)


def test_stream_with_frames_left_over() -> None:
    with pytest.raises(InputError, match="2 frames left over"):
        list(make(OURS).encode_stream([video(7)]))


def test_latent_of_another_model() -> None:
    with pytest.raises(InputError, match="5 channels"):
        make(OURS).decode(torch.zeros(1, 5, 1, 2, 2))


def test_default_model_is_small() -> None:
    model = Autoencoder(AutoencoderConfig())
    assert sum(p.numel() for p in model.parameters()) < 4e6
