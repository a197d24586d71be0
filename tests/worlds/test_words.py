"""The two word tables cover the same attributes with different phrases."""

from diorama.worlds.scene import CAMERA_MOVES, COLORS, FINISHES, FLOORS, LIGHTS, MOTIONS, SHAPES, SIZES
from diorama.worlds.words import RESERVED, SYNONYMS


def test_every_value_of_a_scene_has_phrases_in_both_tables() -> None:
    values = {
        "color": COLORS,
        "shape": SHAPES,
        "size": SIZES,
        "finish": FINISHES,
        "floor": FLOORS,
        "light": LIGHTS,
        "motion": MOTIONS,
        "camera": CAMERA_MOVES,
    }
    for table in (SYNONYMS, RESERVED):
        for attribute, expected in values.items():
            assert set(table[attribute]) == set(expected)
            assert all(table[attribute].values())


def test_no_phrase_is_in_both_tables() -> None:
    assert set(SYNONYMS) == set(RESERVED)
    for attribute, values in SYNONYMS.items():
        said = {phrase for phrases in values.values() for phrase in phrases}
        kept = {phrase for phrases in RESERVED[attribute].values() for phrase in phrases}
        assert not said & kept


def test_a_phrase_names_one_value_only() -> None:
    for table in (SYNONYMS, RESERVED):
        for values in table.values():
            phrases = [phrase for found in values.values() for phrase in found]
            assert len(phrases) == len(set(phrases))
