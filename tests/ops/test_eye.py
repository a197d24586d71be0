"""The eye: frames are picked with both ends, matches find a shift, clips do not touch, every part learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diorama.ops.eye import Eye, matches, matches_plain, pick


def eye(num_frames: int = 3) -> Eye:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Eye(num_queries=4, num_frames=num_frames, widths=(8, 8, 16), reach=1, num_heads=2, depth=1)


def test_pick_keeps_both_ends_and_the_aspect_ratio() -> None:
    frames = np.zeros((33, 64, 128, 3), np.uint8)
    frames[0], frames[-1] = 50, 200
    video = pick(frames, 9, 6400)
    assert video.shape == (9, 3, 56, 112)
    assert video[0].unique().tolist() == [50]
    assert video[-1].unique().tolist() == [200]
    assert pick(frames[:1], 5, 1024).shape == (5, 3, 24, 48)


def test_matches_find_a_shift() -> None:
    x = torch.randn(1, 16, 6, 6)
    pair = torch.cat([x, x.roll(1, dims=3)])  # moves one cell to the right
    found = matches(pair, 2, 1)[0, :, 1:-1, 1:-1]
    assert found.argmax(0).unique().tolist() == [5]  # row 1 (same height), column 2 (one to the right)
    assert found[5].min() > 0.8


@pytest.mark.parametrize(("length", "size", "reach"), [(3, (5, 7), 2), (1, (2, 9), 1), (2, (8, 4), 3)])
def test_matches_are_those_of_the_plain_twin_in_value_and_gradient(length: int, size: tuple[int, int], reach: int) -> None:
    x = torch.randn(2 * length, 6, *size, dtype=torch.float64, requires_grad=True)
    fast, plain = matches(x, length, reach), matches_plain(x, length, reach)
    assert fast.shape == (2 * length, (2 * reach + 1) ** 2, *size)
    torch.testing.assert_close(fast, plain)
    weights = torch.randn_like(fast)
    torch.testing.assert_close(torch.autograd.grad(fast, x, weights), torch.autograd.grad(plain, x, weights))


def test_clips_do_not_touch_and_any_size_is_seen() -> None:
    watching = eye().eval()
    video = torch.randn(2, 3, 3, 32, 40)
    with torch.no_grad():
        states = watching(video)
        assert states.shape == (2, 4, 32)
        torch.testing.assert_close(watching(video[1:]), states[1:], atol=1e-5, rtol=1e-4)
        assert watching(torch.randn(1, 3, 3, 16, 24)).shape == (1, 4, 32)


def test_order_of_frames_matters() -> None:
    watching, video = eye().eval(), torch.randn(1, 3, 3, 32, 32)
    watching.times.data.normal_()
    with torch.no_grad():
        assert not torch.allclose(watching(video), watching(video.flip(1)), atol=1e-3)


@pytest.mark.parametrize("length", [2, 3, 5, 9])
def test_a_still_is_a_clip_that_does_not_move(length: int) -> None:
    watching = eye(length).eval()
    watching.times.data.normal_()
    still = torch.randn(2, 1, 3, 32, 24)
    with torch.no_grad():
        torch.testing.assert_close(watching(still), watching(still.expand(-1, length, -1, -1, -1)), atol=1e-5, rtol=1e-4)


def test_every_part_learns() -> None:
    watching = eye()
    watching(torch.randn(1, 3, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in watching.parameters())
