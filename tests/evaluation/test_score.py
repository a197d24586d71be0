"""Intervals of known counts, and grades of known readings."""

from __future__ import annotations

import dataclasses
import math

import pytest
from tests.scenes import make_body, make_scene

from diorama.evaluation.judge import Reading, Seen
from diorama.evaluation.score import ATTRIBUTES, Score, grade, scores
from diorama.worlds.scene import COLORS

SCENE = make_scene(
    make_body(motion="roll", direction="left"), make_body(color="blue", shape="box"), floor="grass", light="night", move="orbit_left", num_frames=9
)


def reading(*bodies: Seen, count: int = 2, camera: str = "orbit_left") -> Reading:
    asked = {seen.color: seen for seen in bodies}
    everyone = tuple(asked.get(color, Seen(color, "cone", "fall", "none")) for color in COLORS)
    return Reading(bodies, everyone, count, camera, "grass", "night")


RED, BLUE = Seen("red", "sphere", "roll", "left"), Seen("blue", "box", "rest", "none")


def wrong(read: Reading) -> set[str]:
    return {name for name, right in grade(SCENE, read).items() if not right}


def test_a_perfect_reading() -> None:
    assert wrong(reading(RED, BLUE)) == set()
    assert set(grade(SCENE, reading(RED, BLUE))) == set(ATTRIBUTES)


def test_what_is_wrong_is_named() -> None:
    assert wrong(reading(RED)) == {"colour", "shape", "motion", "body direction", "all five"}
    assert wrong(reading(RED, dataclasses.replace(BLUE, shape="cone"))) == {"shape", "all five"}
    assert wrong(reading(RED, dataclasses.replace(BLUE, motion="slide"))) == {"motion", "all five"}
    assert wrong(reading(RED, BLUE, count=3)) == {"count", "all five"}
    assert wrong(reading(RED, BLUE, camera="pan_left")) == {"camera move"}
    assert wrong(reading(RED, BLUE, camera="orbit_right")) == {"camera direction", "camera move", "all five"}


def test_swapped_shapes_are_wrong() -> None:
    swapped = reading(dataclasses.replace(RED, shape="box"), dataclasses.replace(BLUE, shape="sphere"))
    assert wrong(swapped) == {"shape", "all five"}


def test_wilson_interval_of_known_counts() -> None:
    low, high = Score(right=8, trials=10).interval()  # 0.4902 to 0.9433 in the tables
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert Score(right=10, trials=10).interval()[1] == 1.0
    assert Score(right=0, trials=10).interval()[0] == 0.0
    assert Score(right=0, trials=0).interval() == (0.0, 1.0)
    assert math.isnan(Score(right=0, trials=0).rate)


def test_scores_count() -> None:
    total = scores([grade(SCENE, reading(RED, BLUE)), grade(SCENE, reading(RED))])
    assert total["colour"] == Score(right=1, trials=2)
    assert total["count"] == Score(right=2, trials=2)
