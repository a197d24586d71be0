from __future__ import annotations

import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.decoder import Decoder
from diorama.ops.conv import TimeCache


def test_default_graph() -> None:
    decoder = Decoder(AutoencoderConfig(widths=(4, 8, 12), z_dim=3))
    assert decoder(torch.randn(2, 3, 3, 2, 3)).shape == (2, 192, 3, 8, 12)
    assert [len(block.resnets) for block in decoder.up_blocks] == [2, 2, 2]  # type: ignore[arg-type]


def test_time_is_doubled_after_the_first_frame_in_wan() -> None:
    decoder = Decoder(AutoencoderConfig.wan21(base_dim=4, z_dim=2, num_res_blocks=1))
    latent = torch.randn(1, 2, 3, 2, 2)
    assert decoder(latent).shape == (1, 3, 9, 16, 16)
    first = TimeCache()
    assert decoder(latent[:, :, :1], first).shape[2] == 1
    assert decoder(latent[:, :, 1:2], TimeCache(first.tails)).shape[2] == 4


def test_residual_shortcuts_follow_the_chunks() -> None:
    torch.manual_seed(0)
    decoder = Decoder(AutoencoderConfig.wan22(base_dim=4, decoder_base_dim=4, z_dim=2, num_res_blocks=1)).double()
    latent = torch.randn(1, 2, 2, 2, 2, dtype=torch.float64)
    first = TimeCache()
    parts = [decoder(latent[:, :, :1], first), decoder(latent[:, :, 1:], TimeCache(first.tails))]
    torch.testing.assert_close(torch.cat(parts, dim=2), decoder(latent))
