from __future__ import annotations

import pytest
import torch

from diorama.autoencoder.blocks import ResidualBlock, Up, average_down, duplicate_up, patchify, unpatchify


@pytest.mark.parametrize("patch", [(4, 4, 4), (1, 2, 2), (1, 1, 1)])
def test_patches_round_trip(patch: tuple[int, int, int]) -> None:
    video = torch.randn(2, 3, 9, 8, 16)
    patches = patchify(video, patch, first=True)
    assert patches.shape == (2, 3 * patch[0] * patch[1] * patch[2], 1 + 8 // patch[0], 8 // patch[1], 16 // patch[2])
    assert torch.equal(unpatchify(patches, patch, first=True), video)
    assert torch.equal(unpatchify(patchify(video[:, :, 1:], patch, first=False), patch, first=False), video[:, :, 1:])


def test_first_frame_fills_its_patch() -> None:
    video = torch.randn(1, 3, 5, 4, 4)
    first = patchify(video, (4, 4, 4), first=True)[:, :, 0].reshape(3, 4, 16)
    assert torch.equal(first, first[:, :1].expand(-1, 4, -1))


def test_duplicate_undoes_average_of_flat_blocks() -> None:
    flat = torch.randn(1, 2, 3, 2, 2)
    video = duplicate_up(flat, 2, 2, 2, first=True)
    assert video.shape == (1, 2, 5, 4, 4)
    down = average_down(video, 2, 2, 2)
    torch.testing.assert_close(down[:, :, 1:], flat[:, :, 1:])
    torch.testing.assert_close(down[:, :, 0], flat[:, :, 0] / 2)  # the zeros before the first frame count


def test_factorised_block_begins_nearly_without_time() -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(8, 8, factorized_time=True), torch.randn(1, 8, 4, 4, 4)
    x[:, :, 1:] = x[:, :, :1]
    out = block(x)
    assert (out[:, :, 0] - out[:, :, 3]).abs().max() < 0.2 * out.abs().max()


@pytest.mark.parametrize("pointwise", [True, False])
def test_a_step_up_is_the_same_with_and_without_a_gradient(pointwise: bool) -> None:
    """Without one, in float32, the picture is not made large before it is convolved."""
    torch.manual_seed(0)
    step, x = Up(6, 4, time=True, pointwise=pointwise), torch.randn(2, 6, 3, 4, 5)
    slow = step(x)
    with torch.no_grad():
        fast = step(x)
    assert slow.shape == fast.shape == (2, 4, 5, 8, 10)
    torch.testing.assert_close(fast, slow)
