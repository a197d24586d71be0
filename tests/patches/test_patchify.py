"""Patches: there and back, in the stated order."""

from __future__ import annotations

import pytest
import torch

from diorama.errors import InputError
from diorama.patches import patchify, unpatchify


@pytest.mark.parametrize("patch_size", [(1, 1, 1), (1, 2, 2), (2, 2, 3)])
def test_round_trip(patch_size):
    latent = torch.randn(3, 4, 6, 12, generator=torch.Generator().manual_seed(0))
    tokens = patchify(latent, patch_size)
    f, h, w = (side // patch for side, patch in zip((4, 6, 12), patch_size, strict=True))
    assert tokens.shape == (f * h * w, 3 * patch_size[0] * patch_size[1] * patch_size[2])
    assert torch.equal(unpatchify(tokens, (f, h, w), patch_size), latent)


def test_order_is_time_height_width_channel():
    latent = torch.arange(2 * 2 * 4 * 4).reshape(2, 2, 4, 4)
    token = patchify(latent, (1, 2, 2))[4 + 2 + 1]
    assert torch.equal(token, latent[:, 1, 2:, 2:].permute(1, 2, 0).flatten())


@pytest.mark.parametrize("shape", [(1, 3, 4), (0, 4, 4), (2, 4, 0)])
def test_off_the_grid_is_refused(shape):
    with pytest.raises(InputError, match="multiple of the patch"):
        patchify(torch.zeros(1, *shape), (1, 2, 2))
