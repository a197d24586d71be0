"""The Wan graphs against diffusers' own implementation, names, shapes and numbers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from diorama.autoencoder.config import WAN21_MEAN, WAN21_STD, AutoencoderConfig, config_from_json, config_to_json
from diorama.autoencoder.model import Autoencoder

TINY21 = AutoencoderConfig.wan21(base_dim=4, z_dim=4, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)
TINY22 = AutoencoderConfig.wan22(base_dim=4, decoder_base_dim=6, z_dim=4, num_res_blocks=2, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)


@pytest.fixture(scope="module")
def peer_class() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl_wan", reason="diffusers is not installed").AutoencoderKLWan


@pytest.mark.parametrize("config", [TINY21, TINY22], ids=["wan21", "wan22"])
def test_same_names_and_numbers(config: AutoencoderConfig, peer_class: Any) -> None:
    torch.manual_seed(0)
    values = {key: value for key, value in config_to_json(config).items() if key != "_class_name"}
    peer = peer_class(**values).eval().requires_grad_(False)
    for parameter in peer.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    model = Autoencoder(config).eval().requires_grad_(False)
    model.load_state_dict(peer.state_dict())
    x = torch.rand(1, 3, 9, 16, 32) * 2 - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer.encode(x).latent_dist
        decoded = peer.decode(theirs.mean).sample
    mean, logvar = model.moments(x)
    torch.testing.assert_close(mean, theirs.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logvar, theirs.logvar, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.decode(theirs.mean), decoded, rtol=1e-4, atol=1e-4)
    assert decoded.abs().amax() > 0.05


def test_config_of_an_early_wan_folder() -> None:
    """The first published folders lack the keys that came with Wan 2.2."""
    early = {"_class_name": "AutoencoderKLWan", "_diffusers_version": "0.33.0", "base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4]}
    config = config_from_json(early)
    assert config == AutoencoderConfig.wan21(latents_mean=WAN21_MEAN, latents_std=WAN21_STD)
    assert config.latents_mean is not None
