"""The choice among models of one clip knows no truth: registration first, then an ordinary lens, then quality."""

from __future__ import annotations

import dataclasses
import math

import pytest

from diorama.geometry.lens import ORDINARY, STARTS, Attempt, best, settled

FREE = Attempt(start=None, registered=45, focal=3.6, track_length=6.7, reprojection_error=1.3, points_per_frame=600.0)
NONE = Attempt(start=0.8, registered=0, focal=math.nan, track_length=0.0, reprojection_error=math.nan, points_per_frame=0.0, failure="no model")


def held(start: float, **changes: object) -> Attempt:
    return dataclasses.replace(FREE, **{"start": start, "focal": start, **changes})


@pytest.mark.parametrize(
    ("focal", "registered", "enough"), [(1.4, 45, True), (3.6, 45, False), (0.2, 45, False), (1.4, 44, False), (math.nan, 0, False)]
)
def test_a_whole_model_with_an_ordinary_lens_settles_it(focal: float, registered: int, enough: bool) -> None:
    assert settled(dataclasses.replace(FREE, focal=focal, registered=registered), 45) is enough


def test_an_ordinary_lens_wins_over_one_that_ran_away_however_good() -> None:
    assert best([FREE, held(0.5, reprojection_error=2.0)]) == 1


def test_registered_frames_come_before_the_lens() -> None:
    assert best([FREE, held(0.5, registered=44)]) == 0


@pytest.mark.parametrize(("worse", "better"), [("track_length", 9.0), ("reprojection_error", 0.8), ("points_per_frame", 2000.0)])
def test_quality_decides_among_ordinary_lenses(worse: str, better: float) -> None:
    assert best([FREE, held(0.5), held(0.8, **{worse: better}), held(1.2)]) == 2


def test_a_free_lens_that_is_ordinary_gives_way_only_to_more_frames() -> None:
    free = dataclasses.replace(FREE, focal=1.5, registered=44)
    assert best([free, held(0.8, registered=44, track_length=9.0)]) == 0
    assert best([free, held(0.8, registered=45, track_length=3.0)]) == 1


def test_a_true_long_lens_stays_where_all_attempts_find_one() -> None:
    assert best([FREE, held(0.5, focal=3.5, track_length=5.0), held(0.8, focal=3.7, reprojection_error=1.5)]) == 0


def test_no_model_loses_against_any_and_the_first_of_equals_is_taken() -> None:
    assert best([NONE, held(0.5, registered=3)]) == 1
    assert best([NONE, NONE, NONE]) == 0
    assert NONE.quality == 0
    assert best([held(0.5), held(0.8)]) == 0


def test_every_start_is_an_ordinary_lens() -> None:
    assert all(ORDINARY[0] < start < ORDINARY[1] for start in STARTS)
