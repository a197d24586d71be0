"""Items map states to states, and what is kept stays kept."""

from __future__ import annotations

import pytest
import torch

from diorama.errors import InputError
from diorama.pipeline.items import Guide, Keep, Region, Ring, StartFrom
from diorama.pipeline.state import LatentState, blank


def empty() -> LatentState:
    return blank(4, (5, 3, 2), seed=0, fps=12.0)


def content(*size: int) -> torch.Tensor:
    return torch.randn(4, *size, generator=torch.Generator().manual_seed(1))


def test_keep_places_frames_and_leaves_the_old_state_alone() -> None:
    before, given = empty(), content(2, 3, 2)
    after = Keep(latent=given, frame=-2)(before)
    assert torch.equal(after.latent[:, 3:], given)
    assert after.start[3:].eq(0).all()
    assert after.start[:3].eq(1).all()
    assert before.start.eq(1).all()
    assert before.latent.eq(0).all()


def test_keep_places_a_part_of_the_picture() -> None:
    given = content(5, 2, 1)
    after = Keep(latent=given, top=1, left=1, noise=0.05)(empty())
    assert torch.equal(after.latent[:, :, 1:, 1:], given)
    assert after.start[:, 1:, 1:].eq(0.05).all()
    assert after.start[:, :1].eq(1).all()


@pytest.mark.parametrize("item", [Keep(latent=torch.zeros(4, 2, 3, 2), frame=4), Keep(latent=torch.zeros(4, 1, 3, 2), left=1)])
def test_keep_refuses_what_does_not_fit(item: Keep) -> None:
    with pytest.raises(InputError, match="does not fit"):
        item(empty())


@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_start_from_holds_the_clip_at_a_strength(strength: float) -> None:
    given = content(5, 3, 2)
    after = StartFrom(latent=given, strength=strength)(empty())
    assert torch.equal(after.latent, given)
    assert after.start.eq(strength).all()
    if strength == 0:
        assert torch.equal(after.point, given)


def test_start_from_does_not_touch_what_is_kept() -> None:
    given, other = content(1, 3, 2), torch.ones(4, 5, 3, 2)
    after = StartFrom(latent=other, strength=0.5)(Keep(latent=given)(empty()))
    assert torch.equal(after.latent[:, :1], given)
    assert after.start[0].eq(0).all()
    assert after.start[1:].eq(0.5).all()
    assert after.latent[:, 1:].eq(1).all()


def test_start_from_refuses_another_size_and_a_wild_strength() -> None:
    with pytest.raises(InputError, match="latent size"):
        StartFrom(latent=content(4, 3, 2), strength=0.5)(empty())
    with pytest.raises(InputError, match="strength"):
        StartFrom(latent=content(5, 3, 2), strength=1.5)(empty())


def test_region_keeps_everything_outside() -> None:
    given = content(5, 3, 2)
    mask = torch.zeros(3, 2)
    mask[0] = 1
    after = Region(mask=mask)(StartFrom(latent=given, strength=0.8)(empty()))
    assert after.start[:, 0].eq(0.8).all()
    assert after.start[:, 1:].eq(0).all()
    assert torch.equal(after.point[:, :, 1:], given[:, :, 1:])


def test_guides_add_up() -> None:
    fade = torch.linspace(1, 0, 5)
    state = Guide(prompt="b", weight=1 - fade)(Guide(prompt="a", weight=fade)(empty()))
    assert [cue.prompt for cue in state.cues] == ["a", "b"]
    assert torch.equal(state.cues[0].weight + state.cues[1].weight, torch.ones(5))
    for wrong in (torch.ones(4), -torch.ones(5)):
        with pytest.raises(InputError, match="weights"):
            Guide(prompt="c", weight=wrong)(empty())


@pytest.mark.parametrize("frames", [2, 3, 9])
def test_a_ring_has_no_frame_that_is_coded_alone(frames: int) -> None:
    before = blank(4, (frames, 3, 2), seed=0, fps=12.0)
    after = Ring()(before)
    assert after.ring
    assert not before.ring
    assert after.grid == (frames - 1, 3, 2)
    assert torch.equal(after.noise, before.noise[:, 1:])
    assert after.point.shape == after.latent.shape == (4, frames - 1, 3, 2)
    assert before.grid == (frames, 3, 2)


def test_items_behind_a_ring_see_its_frames() -> None:
    given = content(1, 3, 2)
    state = Guide(prompt="a", weight=torch.ones(4))(Keep(latent=given, frame=-1)(Ring()(empty())))
    assert state.ring
    assert torch.equal(state.latent[:, 3:], given)
    assert state.start[:, 0, 0].tolist() == [1, 1, 1, 0]
    with pytest.raises(InputError, match="4 numbers"):
        Guide(prompt="a", weight=torch.ones(5))(state)


def test_a_still_cannot_be_a_ring() -> None:
    with pytest.raises(InputError, match="a still cannot loop"):
        Ring()(blank(4, (1, 3, 2), seed=0, fps=12.0))


@pytest.mark.parametrize("strength", [float("nan"), -0.01, 1.01])
def test_a_wild_strength_is_refused(strength: float) -> None:
    with pytest.raises(InputError, match=r"strength .* is out of range"):
        StartFrom(latent=content(5, 3, 2), strength=strength)(empty())
