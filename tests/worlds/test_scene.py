"""Scenes: the rule of what training never sees, the colours, JSON, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import pytest

from diorama.config import from_dict, to_dict
from diorama.errors import InputError
from diorama.worlds.scene import COLORS, SHAPES, Body, Scene, held_out


def test_one_pair_in_ten_is_held_out_and_every_word_stays_in_training() -> None:
    pairs = [(color, shape) for color in COLORS for shape in SHAPES]
    kept = [pair for pair in pairs if held_out(*pair)]
    assert len(kept) * 10 == len(pairs)
    # no word is kept out more than once, so that each is seen with nearly all others
    assert len({color for color, _ in kept}) == len({shape for _, shape in kept}) == len(kept)
    seen = set(pairs) - set(kept)
    assert {color for color, _ in seen} == set(COLORS)
    assert {shape for _, shape in seen} == set(SHAPES)


def test_colours_are_in_range_and_far_apart() -> None:
    assert all(0 <= value <= 1 for color in COLORS.values() for value in color)
    assert min(math.dist(a, b) for a, b in itertools.combinations(COLORS.values(), 2)) > 0.3


def test_scenes_survive_json(make_body: Callable[..., Body], make_scene: Callable[..., Scene]) -> None:
    mover = make_body(motion="collide", direction="right", partner=1, velocity=(1.5, 0.1, 0.0))
    scene = make_scene(mover, make_body(shape="cone", color="blue"), move="orbit_left", amount=0.1 + 0.2)
    assert from_dict(Scene, json.loads(json.dumps(to_dict(scene)))) == scene


def test_an_unknown_colour_and_an_empty_scene_are_refused(make_body: Callable[..., Body], make_scene: Callable[..., Scene]) -> None:
    with pytest.raises(InputError, match=r"'beige'.*red, orange"):
        make_scene(make_body(color="beige"))
    with pytest.raises(InputError, match="at least 1"):
        Scene(**{**vars(make_scene()), "bodies": ()})
