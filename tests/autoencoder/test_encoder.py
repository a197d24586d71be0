from __future__ import annotations

import torch
from torch import nn

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.encoder import Encoder
from diorama.ops.conv import TimeCache


def test_default_graph() -> None:
    encoder = Encoder(AutoencoderConfig(widths=(4, 8, 12), z_dim=3))
    assert encoder(torch.randn(2, 192, 3, 8, 12)).shape == (2, 6, 3, 2, 3)
    assert encoder.mid_block is None
    assert encoder.conv_in.kernel_size == encoder.conv_out.kernel_size == (1, 1, 1)


def test_time_is_halved_twice_in_wan() -> None:
    encoder = Encoder(AutoencoderConfig.wan21(base_dim=4, z_dim=2, num_res_blocks=1))
    assert encoder(torch.randn(1, 3, 9, 16, 16)).shape == (1, 4, 3, 2, 2)


def test_every_layer_that_looks_back_leaves_a_tail() -> None:
    encoder = Encoder(AutoencoderConfig(widths=(4, 8, 12), z_dim=3))
    cache = TimeCache()
    encoder(torch.randn(1, 192, 1, 8, 8), cache)
    looking = [m for m in encoder.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1]
    assert len(cache.tails) == len(looking) == 3
    assert all(tail.shape[2] == 2 for tail in cache.tails)
