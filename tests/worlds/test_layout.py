"""Layouts: bodies start apart and where their words say; MuJoCo is the oracle of what touches."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

import pytest

from diorama.worlds.layout import RADII, Words, place_bodies
from diorama.worlds.physics import simulate
from diorama.worlds.scene import COLORS, FINISHES, MOTIONS, SHAPES, SIZES, Body, Motion, Scene
from diorama.worlds.solids import rest_height

MakeScene = Callable[..., Scene]


def words(rng: random.Random, *motions: Motion) -> Words:
    """Return words for bodies of these motions, with all else drawn."""
    count = len(motions)
    return Words(
        colors=tuple(rng.sample(list(COLORS), count)),
        shapes=tuple(rng.choice(("sphere", "cylinder", "capsule") if motion == "roll" else SHAPES) for motion in motions),
        sizes=tuple(rng.choice(SIZES) for _ in motions),
        finishes=tuple(rng.choice(FINISHES) for _ in motions),
        motions=motions,
        move="static",
    )


def layouts(blank: Scene, num_seeds: int) -> list[tuple[Words, float, tuple[Body, ...]]]:
    """Return words, azimuth and bodies of layouts of one to four bodies that were found."""
    found = []
    for seed in range(num_seeds):
        rng = random.Random(seed)
        first = MOTIONS[seed % len(MOTIONS)]
        others: list[Motion] = [rng.choice(MOTIONS[:5]) for _ in range(rng.randint(0, 3))]
        if first in ("collide", "pass_behind"):
            others = ["rest", *others[:2]]
        drawn, azimuth = words(rng, first, *others), rng.uniform(-3, 3)
        bodies = place_bodies(rng, blank, drawn, azimuth, 1.0)
        if bodies is not None:
            found.append((drawn, azimuth, bodies))
    assert len(found) > 0.4 * num_seeds
    assert {len(bodies) for _, _, bodies in found} >= {1, 2, 3}
    return found


def in_view(vector: tuple[float, float, float], azimuth: float) -> tuple[float, float]:
    """Return a vector's parts to the camera's right and away from it."""
    x, y, _ = vector
    return x * math.cos(azimuth) + y * math.sin(azimuth), y * math.cos(azimuth) - x * math.sin(azimuth)


def test_no_bodies_overlap_at_the_start_and_none_is_in_the_floor(make_scene: MakeScene) -> None:
    blank = make_scene()
    for _, _, bodies in layouts(blank, 64):
        start = simulate(dataclasses.replace(blank, bodies=bodies, num_frames=1))
        assert not [pair for _, *pair in start.contacts if pair[1] >= 0]
        for body in bodies:
            lift = body.position[2] - rest_height(body)
            in_air = body.motion in ("bounce", "fall", "swing")
            assert lift > 0.1 if in_air else lift == pytest.approx(0)


def test_bodies_are_what_their_words_say(make_scene: MakeScene) -> None:
    for drawn, _, bodies in layouts(make_scene(), 40):
        assert tuple(b.color for b in bodies) == drawn.colors
        assert tuple(b.shape for b in bodies) == drawn.shapes
        assert tuple(b.motion for b in bodies) == drawn.motions
        assert tuple(b.finish for b in bodies) == drawn.finishes
        for body in bodies:
            others = [RADII[size] for size in SIZES if size != body.size]
            # the size is that of the nearest word, but for capsules, which are slim
            assert body.shape == "capsule" or all(abs(body.radius - RADII[body.size]) < abs(body.radius - other) for other in others)


def test_velocities_go_where_the_camera_sees_them_go(make_scene: MakeScene) -> None:
    seen = set()
    for _, azimuth, bodies in layouts(make_scene(), 64):
        for body in bodies:
            right, away = in_view(body.velocity, azimuth)
            moves = body.motion in ("roll", "slide", "collide", "pass_behind")
            assert (body.direction != "none") == moves
            if moves:
                assert body.direction == (("right" if right > 0 else "left") if abs(right) > abs(away) else ("away" if away > 0 else "toward"))
                seen.add(body.direction)
            elif body.motion != "swing":
                assert body.velocity == (0, 0, 0)
    assert seen == {"left", "right", "toward", "away"}


@pytest.mark.parametrize("motion", ["collide", "pass_behind"])
def test_partners_are_met_head_on_or_passed_on_the_far_side(motion: Motion, make_scene: MakeScene) -> None:
    checked = 0
    for seed in range(16):
        rng = random.Random(seed)
        azimuth = rng.uniform(-3, 3)
        bodies = place_bodies(rng, make_scene(), words(rng, motion, "rest"), azimuth, 1.0)
        if bodies is None:
            continue
        mover, partner = bodies
        assert mover.partner == 1
        right, away = in_view((mover.position[0] - partner.position[0], mover.position[1] - partner.position[1], 0), azimuth)
        speed, _ = in_view(mover.velocity, azimuth)
        assert right * speed < 0  # towards the partner
        assert away == pytest.approx(0, abs=1e-3) if motion == "collide" else away > mover.radius + partner.radius
        checked += 1
    assert checked > 8


def test_a_seed_gives_one_layout(make_scene: MakeScene) -> None:
    drawn = words(random.Random(0), "roll", "rest")
    first, second, other = (place_bodies(random.Random(seed), make_scene(), drawn, 0.3, 1.0) for seed in (1, 1, 2))
    assert first == second != other


def test_what_does_not_fit_is_none(make_scene: MakeScene) -> None:
    rng = random.Random(0)
    drawn = dataclasses.replace(words(rng, *["rest"] * 4), sizes=("large",) * 4)
    assert place_bodies(rng, make_scene(), drawn, 0.0, 0.1) is None
