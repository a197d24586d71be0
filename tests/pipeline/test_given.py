"""What a shot is told of given frames: enough of them, at their latent frames, and no more than they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diorama.media import Clip
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Given, Made
from diorama.pipeline.given import BESIDE_GIVEN, HELD, LED, LED_BACK, around, begun, beside_given, ending, going_on
from diorama.pipeline.items import Guide, Keep
from diorama.pipeline.lead import lead
from diorama.pipeline.load import Models
from diorama.pipeline.source import Source


def opened(models: Models, num_frames: int) -> tuple[Desk, Source]:
    desk = Desk(models, {"size": (48, 32)})
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 32, 48, 3), np.uint8)
    return desk, desk.open(Clip(frames, 12.0))


@pytest.mark.parametrize(("num_frames", "count"), [(1, 1), (4, 1), (9, 9), (30, 17)])
def test_a_clip_is_in_the_middle_of_what_it_is_given_around(models: Models, num_frames: int, count: int) -> None:
    desk, source = opened(models, num_frames)
    shots, pieces = around(desk, source, "red ball", before=2, after=3)
    known = 1 + (count - 1) // 4
    assert pieces == [Made(last=8), Given(source=source), Made(shot=1, first=count)]
    assert [shot.request.num_frames for shot in shots] == [8 + count, count + 12]
    guide, *kept = shots[0].items
    assert guide == Guide(prompt="red ball")
    assert [(item.frame, item.latent.shape[1], item.noise) for item in kept if isinstance(item, Keep)] == (
        [(-known - 1, 1, LED_BACK), (-known, 1, HELD), (1 - known, known - 1, 0.0)] if known > 1 else [(-1, 1, 0.0)]
    )
    _, keep, *led = shots[1].items
    assert isinstance(keep, Keep)
    assert [(item.frame, item.latent.shape[1], item.noise) for item in led if isinstance(item, Keep)] == ([(known, 1, LED)] if known > 1 else [])
    assert (keep.frame, keep.latent.shape[1], keep.noise) == (0, known, 0.0)
    torch.testing.assert_close(keep.latent, desk.encode(source.tail(count)))  # other chunks, other rounding


def test_what_follows_a_clip_starts_from_its_motion_carried_on(models: Models) -> None:
    desk, source = opened(models, 9)
    kept, led = going_on(desk, source, 9)
    assert isinstance(kept, Keep)
    assert isinstance(led, Keep)
    frames = source.tail(9)
    whole = desk.encode(np.concatenate([frames, lead(frames[-2:], 4)]))
    assert torch.equal(torch.cat([kept.latent, led.latent], 1), whole)
    torch.testing.assert_close(kept.latent, desk.encode(frames))  # other chunks, other rounding


def test_a_side_without_frames_has_no_shot(models: Models) -> None:
    desk, source = opened(models, 9)
    (shot,), pieces = around(desk, source, "", before=0, after=1)
    assert pieces == [Given(source=source), Made(first=9)]
    assert shot.request.num_frames == 13
    assert around(desk, source, "", before=0, after=0) == ([], [Given(source=source)])


@pytest.mark.parametrize("free", [0, 1, 2, 5])
def test_a_clip_in_mid_shot_is_come_to_as_it_moves(models: Models, free: int) -> None:
    desk, source = opened(models, 9)
    known, frames = desk.encode(source.head(9)), source.head(2)
    led = 2 if free > 1 else 1
    before = lead(frames[::-1], 4 * led)[::-1]
    come = desk.encode(np.concatenate([before, frames[:1]]))[:, 1:]
    for items in (begun(desk, source, known, -3, noise=HELD, free=free), ending(desk, source, 9, free=free)):
        keeps = [item for item in items if isinstance(item, Keep)]
        assert torch.equal(torch.cat([keep.latent for keep in keeps[:-1]], 1), come)
        assert torch.equal(keeps[-1].latent, known[:, 1:])
        assert [(keep.frame, keep.noise) for keep in keeps] == [(-4, LED_BACK), (-3, HELD), (-2, 0.0)][2 - led :]


def test_a_picture_in_mid_shot_stands_still(models: Models) -> None:
    desk, source = opened(models, 1)
    (held,) = ending(desk, source, 1, free=5)
    assert isinstance(held, Keep)
    assert torch.equal(held.latent, desk.encode_held(source.head(1)))
    assert (held.frame, held.noise) == (-1, 0.0)


def test_guidance_beside_given_frames_is_low_unless_it_is_asked_for(models: Models) -> None:
    assert beside_given(Desk(models, {})) == {"guidance_scale": BESIDE_GIVEN}
    assert beside_given(Desk(models, {"guidance_scale": 4.0})) == {}
    desk, source = opened(models, 9)
    assert all(shot.request.guidance_scale == BESIDE_GIVEN for shot in around(desk, source, "", before=1, after=1)[0])
