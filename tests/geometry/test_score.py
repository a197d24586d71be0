"""The score is 0 where anything necessary fails, falls with every fault, and stays in [0, 1]."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.geometry.score import Evidence, Score, quality, score

GOOD = Evidence(
    measurable=True,
    attempted=48,
    registered=48,
    links=(0.9,) * 47,
    regions=(0.9,) * 16,
    track_length=9.0,
    reprojection_error=0.7,
    points_per_frame=400.0,
    held_out_psnr=(30.0, 31.0),
)


def of(**changes: object) -> Score:
    return score(dataclasses.replace(GOOD, **changes))


def test_a_good_clip_scores_high_and_shows_its_parts() -> None:
    assert of().value > 0.8
    assert [factor.name for factor in of().factors] == [
        "registered",
        "weakest tie",
        "weakest region",
        "tracks",
        "reprojection",
        "points",
        "held-out views",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"measurable": False},
        {"registered": 0},
        {"attempted": 0, "registered": 0},
        {"links": ()},
        {"links": (0.9,) * 20 + (0.0,) + (0.9,) * 26},
        {"regions": ()},
        {"regions": (0.0,) * 4 + (0.9,) * 12},
        {"track_length": 2.0},
        {"reprojection_error": math.nan},
        {"points_per_frame": 0.0},
        {"held_out_psnr": (12.0, 9.0)},
    ],
)
def test_what_is_necessary_is_necessary(changes: dict[str, object]) -> None:
    assert of(**changes).value == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"registered": 40},
        {"links": (0.9,) * 46 + (0.2,)},
        {"regions": (0.3,) * 4 + (0.9,) * 12},
        {"track_length": 3.0},
        {"reprojection_error": 2.5},
        {"points_per_frame": 30.0},
        {"held_out_psnr": (22.0, 23.0)},
        {"held_out_psnr": (math.nan, 31.0)},
    ],
)
def test_every_fault_costs(changes: dict[str, object]) -> None:
    assert of(**changes).value < of().value


def test_views_are_left_out_of_the_structure() -> None:
    assert of(held_out_psnr=(14.0,)).structure == of().structure
    assert of(held_out_psnr=()).value == of().structure


def test_what_moves_costs_the_whole_and_not_the_rest() -> None:
    moving = of(regions=(0.0,) * 4 + (0.9,) * 12)
    assert moving.value == 0.0
    assert moving.rigid_part == pytest.approx(of().rigid_part)


def test_perfect_views_do_not_break_the_mean() -> None:
    assert of(held_out_psnr=(math.inf, 31.0)).value <= 1.0


unit = st.floats(0, 1)
positive = st.floats(0, 1e4)


@given(
    st.builds(
        Evidence,
        measurable=st.booleans(),
        attempted=st.just(10),
        registered=st.integers(0, 10),
        links=st.lists(unit, max_size=9).map(tuple),
        regions=st.lists(unit, max_size=16).map(tuple),
        track_length=positive,
        reprojection_error=positive | st.just(math.nan),
        points_per_frame=positive,
        held_out_psnr=st.lists(st.floats(-10, 90) | st.just(math.nan), max_size=2).map(tuple),
    )
)
def test_every_value_is_a_share(evidence: Evidence) -> None:
    graded = score(evidence)
    for value in (graded.value, graded.structure, graded.rigid_part, *(factor.value for factor in graded.factors)):
        assert 0 <= value <= 1
    assert graded.value <= graded.rigid_part + 1e-12


def test_quality_is_that_of_the_score() -> None:
    parts = {factor.name: factor.value for factor in of().factors}
    assert quality(GOOD.track_length, GOOD.reprojection_error, GOOD.points_per_frame) == (parts["tracks"], parts["reprojection"], parts["points"])
    assert quality(0.0, math.nan, 0.0) == (0.0, 0.0, 0.0)
