"""Generated frames come nearer to how given ones move, and stay where nothing is known or something else is shown."""

from __future__ import annotations

import numpy as np
import pytest
from tests.views import waves

from diorama.media import Pixels
from diorama.pipeline.approach import approach


def apart(frames: Pixels, truth: Pixels) -> np.ndarray:
    """Return the error of each frame away from the border, where what comes in is not known."""
    off = np.abs(frames.astype(int) - truth)[:, 10:-10, 10:-10].mean((1, 2, 3))
    return np.asarray(off)


SPEED, COUNT = 0.8, 28
TRUTH = np.stack([waves(SPEED * k) for k in range(COUNT + 4)])
LAGS = [0.8 if min(k, COUNT - 1 - k) < 4 else 0.4 for k in range(COUNT)]
LAGGING = np.stack([waves(SPEED * (k + 2) - lag) for k, lag in enumerate(LAGS)])
"""Frames 2 to 29 of the truth, each moved less than it should, most beside the given ones."""
NONE, BEFORE, AFTER = TRUTH[:0], TRUTH[:2], TRUTH[-2:]


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_frames_beside_given_ones_move_to_where_those_would_have_been(before: bool, after: bool) -> None:
    near = apart(approach(LAGGING, BEFORE if before else NONE, AFTER if after else NONE), TRUTH[2:-2])
    better = near / apart(LAGGING, TRUTH[2:-2])
    assert (better[12:-12] == 1).all()
    for ends, given in ((better[:12], before), (better[:-13:-1], after)):
        assert (ends[0] < 0.3 and ends[3] < 0.6 and (ends < 1.02).all()) if given else (ends == 1).all()


def test_the_time_between_given_frames_counts() -> None:
    """Given frames that are half a step apart go on by half of their motion a step."""
    after = np.stack([AFTER[0], waves(SPEED * (COUNT + 2.5))])
    near = apart(approach(LAGGING, NONE, after, pace=2.0), TRUTH[2:-2])
    assert near[-1] < 0.3 * apart(LAGGING, TRUTH[2:-2])[-1]


@pytest.mark.parametrize("given", [NONE, AFTER[:1]])
def test_without_two_given_frames_nothing_is_known(given: Pixels) -> None:
    assert np.array_equal(approach(LAGGING, given, given), LAGGING)


def test_what_given_frames_do_not_show_stays_as_it_is() -> None:
    other = np.stack([waves(SPEED * k, seed=9, contrast=60) for k in range(COUNT)])
    changed = (approach(other, BEFORE, AFTER) != other).any(-1).mean((1, 2))
    assert changed.max() < 0.05


def test_given_frames_without_a_motion_lend_none() -> None:
    cut = np.stack([waves(0.0, seed=9, contrast=60), AFTER[0]])[::-1]  # the second is another picture
    changed = (approach(LAGGING, NONE, cut) != LAGGING).any(-1).mean((1, 2))
    assert changed.max() < 0.05


@pytest.mark.parametrize("size", [(0, 64, 64), (3, 2, 64)])
def test_too_little_to_see_a_motion_in(size: tuple[int, int, int]) -> None:
    few = np.zeros((*size, 3), np.uint8)
    given = np.zeros((2, *size[1:], 3), np.uint8)
    assert np.array_equal(approach(few, given, given), few)
