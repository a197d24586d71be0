"""Captions name what a scene holds, never use the reserved words, and mirror exactly."""

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.errors import InputError
from diorama.worlds.captions import RESERVED, SYNONYMS, caption, mirror_caption, paraphrase
from diorama.worlds.scene import CAMERA_MOVES, COLORS, FINISHES, FLOORS, LIGHTS, MOTIONS, SHAPES, SIZES, Body, Scene

DrawScene = Callable[[int], Scene]


@pytest.fixture
def draw_scene(make_body: Callable[..., Body], make_scene: Callable[..., Scene]) -> DrawScene:
    """Return what draws a scene with any words, whether physics allows them or not."""

    def scene(seed: int) -> Scene:
        draw = random.Random(seed)
        count = draw.randint(1, 4)
        bodies = []
        for i in range(count):
            motion = draw.choice(MOTIONS if count > 1 else MOTIONS[:5])
            words = {
                "shape": draw.choice(SHAPES),
                "color": draw.choice(list(COLORS)),
                "size": draw.choice(SIZES),
                "finish": draw.choice(FINISHES),
                "direction": draw.choice(("left", "right", "toward", "away")) if motion in ("roll", "slide", "collide", "pass_behind") else "none",
                "partner": draw.choice([j for j in range(count) if j != i]) if motion in ("collide", "pass_behind") else None,
            }
            bodies.append(make_body(motion=motion, **words))
        setting = {"floor": draw.choice(FLOORS), "backdrop": draw.choice(("open", "walls")), "light": draw.choice(LIGHTS)}
        return make_scene(*bodies, move=draw.choice(CAMERA_MOVES), **setting)

    return scene


def says(text: str, phrases: tuple[str, ...]) -> bool:
    return re.search(rf"\b({'|'.join(map(re.escape, phrases))})\b", text.lower()) is not None


def says_inflected(text: str, phrase: str) -> bool:
    """Tell whether a text holds "the camera goes up", or "the camera going up"."""
    article, subject, verb, *rest = phrase.split()
    return re.search(" ".join([article, subject, rf"{verb[:2]}\w+", *rest]), text.lower()) is not None


def test_every_body_is_named_in_both_captions(draw_scene: DrawScene) -> None:
    for seed in range(150):
        scene = draw_scene(seed)
        for text in (caption(scene, seed).dense, caption(scene, seed).short):
            for body in scene.bodies:
                pairs = tuple(f"{c} {s}" for c in SYNONYMS["color"][body.color] for s in SYNONYMS["shape"][body.shape])
                assert says(text, pairs), (text, pairs)


def test_the_dense_caption_names_floor_light_motion_and_camera(draw_scene: DrawScene) -> None:
    for seed in range(150):
        scene = draw_scene(seed)
        text = caption(scene, seed).dense
        assert says(text, SYNONYMS["floor"][scene.floor])
        assert says(text, SYNONYMS["light"][scene.light])
        for body in scene.bodies:
            assert body.motion in ("rest", "pass_behind") or says(text, SYNONYMS["motion"][body.motion]), text
            assert body.motion != "pass_behind" or says(text, ("behind", "in back of")), text
        if scene.camera.move != "static":
            move = scene.camera.move
            assert says(text, SYNONYMS["shot"][move]) or any(says_inflected(text, phrase) for phrase in SYNONYMS["camera"][move]), text


def test_partners_are_named_with_directions(draw_scene: DrawScene) -> None:
    scene = draw_scene(0)
    mover = replace(scene.bodies[0], motion="pass_behind", direction="right", partner=1, shape="sphere", color="red")
    other = replace(scene.bodies[0], motion="rest", direction="none", partner=None, shape="box", color="blue")
    scene = replace(scene, bodies=(mover, other))
    for seed in range(40):
        text = caption(scene, seed).dense
        assert re.search(r"(behind|in back of) (a|the)[\w\- ]* blue (cube|box|block)", text), text
        assert "right" in text, text


def test_captions_never_use_reserved_words(draw_scene: DrawScene) -> None:
    reserved = {phrase for values in RESERVED.values() for phrases in values.values() for phrase in phrases}
    said = [text for seed in range(300) for text in (caption(draw_scene(seed), seed).dense, caption(draw_scene(seed), seed).short)]
    for text in said:
        assert not says(text, tuple(reserved)), text


def test_paraphrases_use_other_words_for_colours_and_shapes(draw_scene: DrawScene) -> None:
    own = tuple(w for key in ("shape", "size", "finish") for phrases in SYNONYMS[key].values() for w in phrases)
    for seed in range(100):
        scene = draw_scene(seed)
        text = paraphrase(scene, seed).dense
        assert not says(text, own), text
        for body in scene.bodies:
            assert says(text, RESERVED["color"][body.color]), text


def test_tables_have_the_same_keys_and_disjoint_phrases() -> None:
    for attribute, values in SYNONYMS.items():
        assert set(values) == set(RESERVED[attribute])
        for value, phrases in values.items():
            assert phrases
            assert not set(phrases) & set(RESERVED[attribute][value])
    assert set(SYNONYMS["color"]) == set(COLORS)
    assert set(SYNONYMS["shape"]) == set(SHAPES)
    assert set(SYNONYMS["camera"]) == set(CAMERA_MOVES)


def test_captions_repeat_with_the_seed_and_vary_without(draw_scene: DrawScene) -> None:
    scene = draw_scene(3)
    assert caption(scene, 5) == caption(scene, 5)
    assert len({caption(scene, seed).dense for seed in range(20)}) > 15


def test_sentences_are_well_formed(draw_scene: DrawScene) -> None:
    for seed in range(100):
        text = caption(draw_scene(seed), seed).dense
        assert text[0].isupper()
        assert text.endswith(".")
        assert "  " not in text
        assert " ." not in text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text.lower()), text


def test_a_negative_seed_is_refused(draw_scene: DrawScene) -> None:
    with pytest.raises(InputError, match="-1"):
        caption(draw_scene(0), -1)


def test_mirroring_exchanges_left_and_right_only() -> None:
    assert mirror_caption("A ball rolls from left to right, Leftward.") == "A ball rolls from right to left, Rightward."
    assert mirror_caption("in bright light, upright, leftover") == "in bright light, upright, leftover"
    for table in (SYNONYMS, RESERVED):
        for phrase in table["direction"]["left"]:
            assert mirror_caption(phrase) in table["direction"]["right"]
        for move in ("orbit", "pan"):
            assert {mirror_caption(p) for p in table["camera"][f"{move}_left"]} == set(table["camera"][f"{move}_right"])


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="lefright LEFRIGHTward-,.s", max_size=60))
def test_mirroring_twice_gives_the_text_back(text: str) -> None:
    assert mirror_caption(mirror_caption(text)) == text
