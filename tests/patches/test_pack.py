"""Packs: clips of different sizes behind one another, with their own positions and times."""

from __future__ import annotations

import pytest
import torch

from diorama.errors import InputError
from diorama.patches import pack, patchify, positions, unpack


def latents():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(2, *shape, generator=g) for shape in ((3, 4, 6), (1, 4, 4), (2, 6, 2))]


def test_round_trip_and_sizes():
    clips = latents()
    got = pack(clips, [0.5, 0.25, 1.0], patch_size=(1, 2, 2))
    assert got.lengths == (18, 4, 6)
    assert got.num_clips == 3
    assert len(got.tokens) == len(got.positions) == len(got.times) == 28
    for clip, back in zip(clips, unpack(got.tokens, got.grids, (1, 2, 2)), strict=True):
        assert torch.equal(clip, back)


def test_positions_restart_in_every_clip():
    got = pack(latents(), [0.0, 0.0, 0.0], fps=[12.0, 12.0, 24.0])
    parts = torch.split(got.positions, list(got.lengths))
    assert torch.equal(parts[1], positions((1, 4, 4)))
    assert torch.equal(parts[2], positions((2, 6, 2), fps=24))


def test_times_by_clip_frame_and_token():
    by_token = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(1))
    got = pack(latents(), [torch.tensor([0.0, 0.5, 1.0]), 0.25, by_token])
    clip, still, region = torch.split(got.times, list(got.lengths))
    assert clip.reshape(3, 24)[:, 7].tolist() == [0.0, 0.5, 1.0]
    assert set(still.tolist()) == {0.25}
    assert torch.equal(region, by_token.flatten())


def test_replace_keeps_the_layout():
    got = pack(latents(), [0.0, 0.0, 0.0])
    other = got.replace(got.tokens + 1, got.times + 0.5)
    assert other.grids == got.grids
    assert torch.equal(other.tokens, torch.cat([patchify(x, (1, 1, 1)) for x in latents()]) + 1)
    assert torch.equal(other.positions, got.positions)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="one of each"):
        pack([], [])
    with pytest.raises(InputError, match="one of each"):
        pack(latents(), [0.0])
    with pytest.raises(InputError, match="do not fit a token grid"):
        pack(latents(), [torch.zeros(4), 0.0, 0.0])


def test_a_window_says_that_it_begins_in_mid_clip():
    assert pack(latents(), [0.0, 0.0, 0.0]).begins == (True, True, True)
    assert pack(latents(), [0.0, 0.0, 0.0], begins=[True, False, True]).begins == (True, False, True)
    with pytest.raises(InputError, match="one of each"):
        pack(latents(), [0.0, 0.0, 0.0], begins=[True])
