"""What was generated moves as evenly as what was given, and turns where it turned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from diorama.media import Pixels
from diorama.pipeline.steady import steady

SIDE = 48


def seen(place: float) -> Pixels:
    """Return a picture of waves of many directions, moved right by ``place`` pixels and down by half of that."""
    chance = np.random.default_rng(3)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    levels = np.full((SIDE, SIDE, 3), 128.0)
    for _ in range(24):
        (across, down), phase, color = chance.normal(0, 0.35, 2), chance.uniform(0, 6.28), chance.normal(0, 12, 3)
        levels += np.sin(across * (x - place) + down * (y - place / 2) + phase)[..., None] * color
    return levels.round().clip(0, 255).astype(np.uint8)


def shown(places: Sequence[float]) -> Pixels:
    return np.stack([seen(place) for place in places])


def error(frames: Pixels, others: Pixels) -> float:
    inner = np.s_[:, 6:-6, 6:-6]  # what comes in at the border is not known
    return float(np.abs(frames[inner].astype(float) - others[inner]).mean())


EVEN = [0.8 * frame for frame in range(16)]
JERKY = [place + (-0.16, 0.09, 0.14, -0.07)[frame % 4] for frame, place in enumerate(EVEN)]
"""Moves too far into every group of four and too little in the end, as what is decoded does."""


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 0), (0, 2)], ids=["both", "before", "after"])
def test_jerks_become_less_beside_given_frames(before: int, after: int) -> None:
    given, frames = shown(EVEN), shown(JERKY)
    begin, end = before, len(EVEN) - after
    made = steady(frames[begin:end], given[:begin], given[end:])
    steps = [
        np.abs(np.diff(np.concatenate([given[:begin], part, given[end:]]).astype(float), axis=0)).mean((1, 2, 3))
        for part in (frames[begin:end], made)
    ]
    assert steps[1].std() < 0.8 * steps[0].std()
    assert error(made, given[begin:end]) < 0.9 * error(frames[begin:end], given[begin:end])


def test_what_stands_still_stays_bit_equal() -> None:
    frames = shown([0.0] * 9)
    assert np.array_equal(steady(frames[2:7], frames[:2], frames[7:]), frames[2:7])


def test_a_turn_is_left_where_it_is() -> None:
    frames = shown([2.0 * min(frame, 16 - frame) for frame in range(16)])
    made = steady(frames[2:], frames[:2], frames[:0])
    turn = slice(5, 8)
    assert error(made[turn], frames[2:][turn]) < 0.25 * error(shown([1.5 + 2.0 * 7]), frames[8:9])


def test_given_frames_may_be_nearer_to_each_other_than_steps_are() -> None:
    frames, twice = shown(EVEN[2:]), shown([0.4, 0.8])
    even = steady(frames, twice, frames[:0], pace=2.0)
    assert error(even[:3], frames[:3]) < 0.5 * error(steady(frames, twice, frames[:0])[:3], frames[:3])


def test_nothing_is_done_where_nothing_is_given() -> None:
    frames = shown(JERKY)
    assert steady(frames, frames[:0], frames[:0]) is frames
    assert steady(frames[:0], frames[:2], frames[:2]).shape == (0, SIDE, SIDE, 3)


def test_a_long_clip_is_made_from_what_is_near() -> None:
    frames = shown([place % 3 for place in range(40)])
    whole, part = steady(frames[2:], frames[:2], frames[:0]), steady(frames[2:30], frames[:2], frames[:0])
    assert np.array_equal(whole[:10], part[:10])
