"""The state before sampling."""

from __future__ import annotations

import dataclasses

import torch

from diorama.pipeline.state import Cue, beginning, blank, with_first_frame


def test_same_seed_same_noise_and_a_longer_clip_begins_alike() -> None:
    short, long = (blank(4, (frames, 3, 5), seed=3, fps=12.0) for frames in (2, 6))
    assert torch.equal(short.noise, long.noise[:, :2])
    assert not torch.equal(short.noise, blank(4, (2, 3, 5), seed=4, fps=12.0).noise)
    assert short.grid == (2, 3, 5)


def test_a_blank_state_starts_from_its_noise() -> None:
    state = blank(4, (2, 3, 5), seed=0, fps=12.0)
    assert torch.equal(state.point, state.noise)


def test_point_mixes_content_and_noise_by_start() -> None:
    state = blank(2, (3, 1, 1), seed=0, fps=12.0)
    content = torch.full_like(state.latent, -0.0)
    start = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1)
    point = dataclasses.replace(state, latent=content, start=start).point
    assert torch.equal(point[:, 0].view(torch.int32), content[:, 0].view(torch.int32))
    torch.testing.assert_close(point[:, 1], 0.5 * state.noise[:, 1])
    assert torch.equal(point[:, 2], state.noise[:, 2])


def test_time_is_open_until_an_item_closes_it() -> None:
    state = blank(2, (3, 1, 1), seed=0, fps=12.0)
    assert not state.ring
    closed = dataclasses.replace(state, ring=True)
    assert closed.ring
    assert torch.equal(closed.point, state.point)


def test_the_first_frame_is_a_still_and_comes_back_as_given() -> None:
    state = dataclasses.replace(blank(2, (3, 2, 2), seed=0, fps=12.0), cues=(Cue("a ball", torch.tensor([1.0, 0.5, 0.0])),))
    still = beginning(state)
    assert still.grid == (1, 2, 2)
    assert torch.equal(still.noise, state.noise[:, :1])
    assert still.cues[0].weight.tolist() == [1.0]
    frame = torch.full((2, 1, 2, 2), 7.0)
    given = with_first_frame(state, frame)
    assert torch.equal(given.point[:, :1], frame)
    assert torch.equal(given.point[:, 1:], state.noise[:, 1:])
    assert bool((state.start == 1).all())
