"""What the text encoder learns from: sentences, and the same sentences with words exchanged for others of one meaning."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diorama.worlds.captions import RESERVED, SYNONYMS, caption
from diorama.worlds.scene import CAMERA_MOVES, COLORS, FINISHES, FLOORS, LIGHTS, MOTIONS, SHAPES, SIZES, Body, Camera, Scene

__all__ = ["THESAURUS", "Pair", "Swap", "described_scene", "exchange", "pairs"]

THESAURUS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "color": {
        "red": ("maroon", "cherry", "vermilion", "burgundy", "brick red"),
        "orange": ("apricot", "pumpkin", "carrot-colored"),
        "yellow": ("gold", "mustard", "canary yellow", "sunny yellow"),
        "green": ("lime", "olive", "mint", "grass green", "forest green"),
        "cyan": ("light blue-green", "aquamarine"),
        "blue": ("navy", "indigo", "royal blue", "ultramarine", "sky blue"),
        "purple": ("lilac", "mauve", "amethyst"),
        "pink": ("fuchsia", "salmon", "rosy", "hot pink"),
        "white": ("pale", "cream", "pearl"),
        "black": ("jet black", "onyx", "inky", "dark"),
    },
    "shape": {
        "sphere": ("marble", "bead", "round ball"),
        "box": ("crate", "brick", "die", "cubic block"),
        "cylinder": ("pipe", "column", "barrel", "tin can"),
        "cone": ("traffic cone", "pointed hat"),
        "capsule": ("bean", "medicine pill"),
    },
    "size": {"small": ("mini", "petite"), "medium": ("mid-sized",), "large": ("giant", "colossal", "immense")},
    "light": {
        "day": ("in the daytime", "in the morning", "in the afternoon"),
        "sunset": ("at sundown", "at golden hour", "in the sunset glow"),
        "night": ("at nighttime", "under the stars", "in the darkness"),
    },
}
"""Further everyday names beside the reserved words; MiniLM alone puts "emerald" next to "orange" rather than "green"."""

_TEMPLATES = (
    "{0}",
    "a photo of a {0}",
    "a video of a {0} and a {1}",
    "the {0} is {1}",
    "a {0} {1}",
    "{0} {1} {2}",
    "a {0} is a kind of {1}",
    "something that {0}",
    "the camera {0} the {1}",
    "a {0} ball on the {1}",
)


@dataclass(frozen=True, kw_only=True)
class Swap:
    """One phrase put in place of another."""

    label: str
    """Attribute and value that both name."""
    before: tuple[int, int]
    """Character range in the first text."""
    after: tuple[int, int]
    """Character range in the second text."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A sentence for the teacher and one of the same meaning for the student; without swaps they are the same."""

    teacher: str
    student: str
    swaps: tuple[Swap, ...]


def described_scene(seed: int) -> Scene:
    """Return a scene with random attributes and no layout: enough for words, nothing to simulate."""
    draw = random.Random(seed)
    count = draw.choice((1, 1, 2, 2, 2, 3, 4))
    bodies = []
    for i in range(count):
        motion = draw.choice([m for m in MOTIONS if count > 1 or m not in ("collide", "pass_behind")])
        goes = motion in ("roll", "slide", "collide", "pass_behind")
        body = Body(
            shape=draw.choice(SHAPES),
            color=draw.choice(list(COLORS)),
            size=draw.choice(SIZES),
            radius=0.3,
            finish=draw.choice(FINISHES),
            motion=motion,
            direction=draw.choice(("left", "right", "toward", "away")) if goes else "none",
            partner=draw.choice([j for j in range(count) if j != i]) if motion in ("collide", "pass_behind") else None,
            position=(0.0, 0.0, 0.3),
            yaw=0.0,
            velocity=(0.0, 0.0, 0.0),
        )
        bodies.append(body)
    camera = Camera(move=draw.choice(CAMERA_MOVES), target=(0.0, 0.0, 0.3), distance=3.0, azimuth=0.0, elevation=0.4, amount=0.5, field_of_view=0.8)
    return Scene(
        bodies=tuple(bodies),
        floor=draw.choice(FLOORS),
        floor_color=(0.5, 0.5, 0.5),
        backdrop=draw.choice(("open", "walls")),
        light=draw.choice(LIGHTS),
        sun_azimuth=0.0,
        camera=camera,
        width=16,
        height=16,
        num_frames=1,
        fps=12.0,
        seed=seed,
    )


def _meanings() -> dict[str, tuple[str, str]]:
    return {phrase: (attribute, value) for attribute, values in SYNONYMS.items() for value, phrases in values.items() for phrase in phrases}


def exchange(text: str, share: float, draw: random.Random) -> Pair:
    """Exchange some of a caption's phrases for others of the same meaning.

    Args:
        text: A caption of the grammar.
        share: Probability of each phrase to be exchanged, 0 to 1.
        draw: Source of the choices.
    """
    meanings = _meanings()
    pattern = "|".join(re.escape(phrase) for phrase in sorted(meanings, key=len, reverse=True))
    swaps: list[Swap] = []
    made, last = "", 0
    for match in re.finditer(rf"(?<![\w-])({pattern})(?![\w-])", text, re.IGNORECASE):
        attribute, value = meanings[match[0].lower()]
        if draw.random() >= share:
            continue
        options = [*RESERVED[attribute][value], *THESAURUS.get(attribute, {}).get(value, ()), *SYNONYMS[attribute][value]]
        phrase = draw.choice([option for option in options if option != match[0].lower()])
        made += text[last : match.start()]
        swaps.append(Swap(label=f"{attribute} {value}", before=match.span(), after=(len(made), len(made) + len(phrase))))
        made, last = made + phrase, match.end()
    return Pair(teacher=text, student=made + text[last:], swaps=tuple(swaps))


def pairs(count: int, words: Sequence[str], seed: int) -> list[Pair]:
    """Return sentences to learn from: captions, captions with phrases exchanged, with random words, templates.

    Args:
        count: How many.
        words: Whole words of the vocabulary, for templates and random exchanges.
        seed: Another seed gives other sentences.
    """
    draw = random.Random(seed)
    found = []
    for i in range(count):
        kind = draw.random()
        text = caption(described_scene(draw.randrange(2**40)), draw.randrange(2**40))
        chosen = text.dense if draw.random() < 0.3 else text.short
        if kind < 0.45:
            found.append(exchange(chosen, draw.choice((0.2, 0.5, 0.9)), draw))
            continue
        if kind > 0.75:
            chosen = draw.choice(_TEMPLATES).format(words[(i * 7) % len(words)], draw.choice(words), draw.choice(words))
        elif kind > 0.65:
            parts = chosen.split(" ")
            for place in draw.sample(range(len(parts)), k=min(len(parts), draw.randint(1, 3))):
                parts[place] = draw.choice(words)
            chosen = " ".join(parts)
        found.append(Pair(teacher=chosen, student=chosen, swaps=()))
    return found
