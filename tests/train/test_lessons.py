"""Lessons: exchanged phrases are known by their place, and nothing else of the sentence changes."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.train.lessons import THESAURUS, described_scene, exchange, pairs
from diorama.worlds.captions import RESERVED, SYNONYMS, caption

SEEDS = st.integers(0, 2**32)


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_undoing_the_swaps_gives_the_caption_back(seed: int) -> None:
    text = caption(described_scene(seed), seed).dense
    pair = exchange(text, 0.5, random.Random(seed))
    undone = pair.student
    for swap in reversed(pair.swaps):
        undone = undone[: swap.after[0]] + text[slice(*swap.before)] + undone[swap.after[1] :]
    assert undone == text == pair.teacher


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_both_phrases_of_a_swap_name_the_same_value(seed: int) -> None:
    text = caption(described_scene(seed), seed).short
    pair = exchange(text, 0.9, random.Random(seed))
    for swap in pair.swaps:
        attribute, value = swap.label.split(" ") if " " in swap.label.strip() else (swap.label.strip(), "")
        allowed = {*SYNONYMS[attribute][value], *RESERVED[attribute][value], *THESAURUS.get(attribute, {}).get(value, ())}
        assert text[slice(*swap.before)].lower() in SYNONYMS[attribute][value]
        assert pair.student[slice(*swap.after)] in allowed
        assert pair.student[slice(*swap.after)] != text[slice(*swap.before)].lower()


def test_a_share_of_zero_changes_nothing_and_of_one_changes_much() -> None:
    text = "A red ball rolls to the left"
    assert exchange(text, 0.0, random.Random(0)).student == text
    assert len(exchange(text, 1.0, random.Random(0)).swaps) == 4


def test_pairs_repeat_with_the_seed_and_hold_every_kind() -> None:
    found = pairs(200, ["velvet", "river"], 3)
    assert found == pairs(200, ["velvet", "river"], 3)
    assert found != pairs(200, ["velvet", "river"], 4)
    assert sum(bool(pair.swaps) for pair in found) > 50
    assert any("velvet" in pair.student for pair in found)
    assert all(pair.teacher == pair.student for pair in found if not pair.swaps)


def test_thesaurus_names_known_values_with_fresh_words() -> None:
    for attribute, values in THESAURUS.items():
        for value, phrases in values.items():
            assert not set(phrases) & {*SYNONYMS[attribute][value], *RESERVED[attribute][value]}
