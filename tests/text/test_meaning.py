"""Prompts in known words, by meaning alone, and what they would say if one thing were another."""

from __future__ import annotations

import dataclasses

import pytest

from diorama import Pipeline
from diorama.text import Grammar, TextEncoder, alternatives, in_known_words
from diorama.worlds.words import RESERVED, SYNONYMS

OTHERS = """
masonry noon ascending banded surface circling revolving chessboard dog car tree house edge camera view beach person spinning apple brick meadow
"""


@pytest.fixture(scope="module")
def packaged() -> tuple[Grammar, TextEncoder]:
    models = Pipeline.load(device="cpu").models
    assert models.grammar is not None
    # What other words mean is to come from the text encoder, not from a list.
    return dataclasses.replace(models.grammar, paraphrases={}), models.text_encoder


def test_words_that_captions_never_use_become_those_that_mean_the_same(packaged: tuple[Grammar, TextEncoder]) -> None:
    right, asked = 0, 0
    for attribute in ("size", "finish", "color", "shape"):
        for value, phrases in RESERVED[attribute].items():
            for phrase in phrases:
                asked += 1
                known = in_known_words(f"It shows the {phrase}.", *packaged)
                right += known.removeprefix("It shows the ").removesuffix(".").split()[-1] in SYNONYMS[attribute][value]
    assert right >= asked - 1
    assert in_known_words("A teeny scarlet orb rolls by an IVORY funnel.", *packaged) == "A tiny red sphere rolls by a white cone."


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "...",
        "A large red ball rolls to the left.",
        "A dog runs along a beach at noon, the camera follows.",
        OTHERS,
        "un chien noir, 3 x 4",
        "\N{DOG}",
    ],
)
def test_words_for_other_things_stay(packaged: tuple[Grammar, TextEncoder], prompt: str) -> None:
    assert in_known_words(prompt, *packaged) == prompt


def test_one_thing_after_the_other_becomes_another() -> None:
    words = {
        "shape": {"sphere": ("ball", "sphere"), "box": ("cube", "box"), "cone": ("cone",)},
        "camera": {"static": ("the camera stays still",), "left": ("the camera pans left", "pan left")},
        "light": {"day": ("by day",)},
    }
    prompt = "A Ball hits a cone, the ball stops; pan left by day."
    assert alternatives(prompt, words, ("shape", "camera", "light", "floor")) == [
        ["A cube hits a cone, the cube stops; pan left by day.", "A cone hits a cone, the cone stops; pan left by day."],
        ["A Ball hits a ball, the ball stops; pan left by day.", "A Ball hits a cube, the ball stops; pan left by day."],
        ["A Ball hits a cone, the ball stops; the camera stays still by day."],
    ]
    assert alternatives("a football beside a ball-like cone.", words, ("shape",)) == [
        ["a football beside a ball-like ball.", "a football beside a ball-like cube."]
    ]
    assert alternatives("", words, ("shape",)) == alternatives("a dog", words, ("shape", "camera")) == []
