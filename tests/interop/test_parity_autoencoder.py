"""The autoencoder against diffusers' AutoencoderKLWan, of Wan 2.1 and 2.2: the same random weights, the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diorama.autoencoder.model import Autoencoder

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (extra dev)")
pytestmark = pytest.mark.filterwarnings("ignore")

MEAN, STD = [0.1, -0.2, 0.3, -0.4], [0.5, 1.5, 2.0, 0.8]
WAN21: dict[str, Any] = {"base_dim": 4, "z_dim": 4, "latents_mean": MEAN, "latents_std": STD}
WAN22 = WAN21 | {
    "decoder_base_dim": 6,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}
CONFIGS = {
    "2.1": WAN21,
    "2.1 wide": WAN21 | {"base_dim": 6, "dim_mult": [1, 2, 2, 4], "num_res_blocks": 1},
    "2.2": WAN22,
    "2.2 even": WAN22 | {"base_dim": 8, "decoder_base_dim": 8, "num_res_blocks": 1},
}
Pair = tuple[Any, Autoencoder]


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Return diffusers' model with random weights and ours, read from the folder it wrote."""
    torch.manual_seed(0)
    peer = diffusers.AutoencoderKLWan(**CONFIGS[request.param]).eval().requires_grad_(False)
    for name, parameter in peer.named_parameters():
        if not name.endswith("gamma"):
            parameter.add_(0.06 * torch.randn_like(parameter))
    folder: Path = tmp_path_factory.mktemp("vae")
    peer.save_pretrained(folder)
    return peer, Autoencoder.load(folder)


def video(num_frames: int) -> Tensor:
    return torch.rand(1, 3, num_frames, 32, 48, generator=torch.Generator().manual_seed(num_frames)) * 2 - 1


def same(got: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.02
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("num_frames", [1, 5, 13])
@torch.no_grad()
def test_encode_and_decode(pair: Pair, num_frames: int) -> None:
    peer, model = pair
    clip = video(num_frames)
    posterior = peer.encode(clip).latent_dist
    mean, logvar = model.moments(clip)
    same(mean, posterior.mean)
    same(logvar, posterior.logvar)
    scale = torch.tensor(STD).view(1, -1, 1, 1, 1)
    latent = (posterior.mean - torch.tensor(MEAN).view(1, -1, 1, 1, 1)) / scale
    same(model.encode(clip), latent)
    same(model.decode(latent), peer.decode(posterior.mean).sample)


@torch.no_grad()
def test_streaming(pair: Pair) -> None:
    """Pieces of any length are the whole of diffusers, which itself goes frame by frame."""
    peer, model = pair
    clip = video(13)
    mean = peer.encode(clip).latent_dist.mean
    latent = (mean - torch.tensor(MEAN).view(1, -1, 1, 1, 1)) / torch.tensor(STD).view(1, -1, 1, 1, 1)
    same(torch.cat(list(model.encode_stream(clip.split(3, dim=2))), dim=2), latent)
    expected = peer.decode(mean).sample
    for piece in (1, 2, 3):
        same(torch.cat(list(model.decode_stream(latent, piece)), dim=2), expected)


@torch.no_grad()
def test_a_folder_of_ours_opens_in_diffusers(pair: Pair, tmp_path: Path) -> None:
    peer, model = pair
    model.save(tmp_path / "vae")
    back = diffusers.AutoencoderKLWan.from_pretrained(tmp_path / "vae").eval()
    mean = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(back.decode(mean).sample, peer.decode(mean).sample)
    assert dict(back.config)["latents_std"] == STD
