"""Storyboards: cards on a timeline, each a text, a picture or a clip at a time.

As a TOML file::

    seconds = 8.0                        # the whole; left out, the end of the last card
    prompt = "on a wooden floor by day"  # said with every card's text: the surroundings
    [[card]]
    at = 0.0                             # second at which it begins
    seconds = 2.0                        # how long it holds; left out, until the next card begins
    text = "a red ball rolls to the left"
    [[card]]
    at = 3.0
    picture = "cat.png"                  # seen at this moment; the path is relative to the file
    [[card]]
    at = 5.0
    clip = "end.mp4"                     # plays from here on; its frames stay what they are
    text = "the ball stops"              # beside a picture or a clip, or alone
    cut = true                           # begins a new shot

What the spacing decides:

* Text. Where a card ends and the next begins at once, the texts change from one latent frame to the next. Where time is left
  between them, this is a passage: one text fades out while the other fades in, evenly. Before the first card its text holds
  already, behind the last one its text holds on. A card without a text says what its picture or clip was generated with, or
  else what the card before it in the shot says, or else the one behind it.
* Passages. All cards of a shot are made together, so that characters and surroundings carry over, and the frames between two
  pictures or clips lead from one to the other.
* Cuts. A card with ``cut`` begins a new shot, which sees nothing of the one before. So does a picture or a clip that begins less
  than a latent frame (four frames, a third of a second at the usual rate) after the frame of another: there is no room to pass.

A picture or a clip in mid-shot is seen where a latent frame ends, within two frames of its time, or up to four later right behind
a clip. A cut is within two frames of its time; a shot whose clip leaves less than a latent frame ends with the clip.
A clip plays until it ends or its card does. Size and rate are those of the first picture or clip; a picture has no rate, so the
first clip's counts. Without any they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from diorama.config import load_toml
from diorama.errors import ConfigError, InputError
from diorama.media import Clip
from diorama.pipeline.source import Media
from diorama.shapes import MAX_SECONDS
from diorama.text.rewrite import split_prompt

__all__ = ["EXACT", "Card", "Storyboard", "read_storyboard"]

PASSAGE = 0.5
"""Seconds in which the parts of a prompt pass into each other, if they are long enough."""
MOMENT = 2.75
"""Seconds that a part of a prompt gets where no length is asked for."""
EXACT = 1e-6
"""Seconds by which times may differ that were meant to be the same."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A text, a picture or a clip at a time.

    Raises:
        InputError: a time is out of range, or there is nothing to show.
    """

    at: float
    """Second at which it begins, 0 or more."""
    seconds: float | None = None
    """How long its text holds and its clip plays, above 0; None until the next card begins."""
    text: str = ""
    """What happens."""
    picture: Media | None = None
    """What is seen at the moment it begins; of a clip, the first frame."""
    clip: Media | None = None
    """What plays from the moment it begins."""
    cut: bool = False
    """Whether it begins a new shot."""

    def __post_init__(self) -> None:
        if not 0 <= self.at <= MAX_SECONDS:
            raise InputError(f"a card at {self.at:g} s is out of range: allowed is 0 to {MAX_SECONDS:g}")
        if self.seconds is not None and not 0 < self.seconds <= MAX_SECONDS:
            raise InputError(f"the card at {self.at:g} s cannot hold {self.seconds:g} s: allowed is above 0 and at most {MAX_SECONDS:g}")
        if self.picture is not None and self.clip is not None:
            raise InputError(f"the card at {self.at:g} s has both a picture and a clip; give it one, or make two cards")
        if not self.text.strip() and self.picture is None and self.clip is None:
            raise InputError(f"the card at {self.at:g} s has nothing to show; give it a text, a picture or a clip")


@dataclass(frozen=True, kw_only=True)
class Storyboard:
    """Cards on a timeline; the module says what their spacing decides.

    Raises:
        InputError: there is no card, or cards are out of order, overlap or lie behind the end.
    """

    cards: Sequence[Card]
    """In the order of their times."""
    seconds: float | None = None
    """The whole length; None is the end of the last card. A last card that is open too takes the length of the options."""
    prompt: str = ""
    """Added to every card's text; one that begins with a capital is a sentence of its own."""

    def __post_init__(self) -> None:
        if not self.cards:
            raise InputError("a storyboard without cards shows nothing; give it at least one card")
        for one, two in pairwise(self.cards):
            if two.at <= one.at:
                raise InputError(f"a card at {two.at:g} s comes behind one at {one.at:g} s; give the cards rising times")
            if one.seconds is not None and one.at + one.seconds > two.at + EXACT:
                raise InputError(
                    f"the card at {one.at:g} s holds for {one.seconds:g} s and overlaps the one at {two.at:g} s; make it shorter or the other later"
                )
        if self.seconds is None:
            return
        if not 0 < self.seconds <= MAX_SECONDS:
            raise InputError(f"a storyboard of {self.seconds:g} s cannot be made: allowed is above 0 and at most {MAX_SECONDS:g}")
        last = self.cards[-1]
        ends = last.at + (last.seconds or 0.0)
        if ends > self.seconds + EXACT or (last.picture is None and last.at >= self.seconds):
            raise InputError(
                f"the card at {last.at:g} s lies behind the end of the storyboard at {self.seconds:g} s; make the card earlier or shorter, "
                "or the storyboard longer"
            )

    @classmethod
    def from_prompt(cls, prompt: str, seconds: float | None = None, expand: Callable[[str], str] = str) -> Storyboard:
        """Spread the parts of a compound prompt evenly, with short passages between them.

        Args:
            prompt: Such as "a red ball rolls left, then it hits a blue cube"; see ``split_prompt``.
            seconds: The whole length; None gives every part 2.75 s.
            expand: What is done to each part's text, for example ``Pipeline.rewrite``.

        Raises:
            InputError: the prompt is empty, or the time is out of range.
        """
        parts = [expand(part) for part in split_prompt(prompt)]
        seconds = MOMENT * len(parts) if seconds is None else seconds
        share = seconds / len(parts)
        half = min(PASSAGE, share / 3) / 2
        cards = []
        for i, text in enumerate(parts):
            begin = i * share + half if i else 0.0
            end = (i + 1) * share - half if i + 1 < len(parts) else seconds
            cards.append(Card(at=begin, seconds=end - begin, text=text))
        return cls(cards=tuple(cards), seconds=seconds)


def read_storyboard(media: Media) -> Storyboard:
    """Read a storyboard from a TOML file.

    Args:
        media: The path of the file; paths of pictures and clips in it are relative to it.

    Raises:
        InputError: a clip was given.
        ConfigError: the file is unreadable, no TOML or has unknown keys, its cards do not fit, or a picture or clip is not there.
    """
    if isinstance(media, Clip):
        raise InputError("a clip is no storyboard; give a TOML file, or a storyboard with the clip on a card")
    path = Path(media)
    sheet = load_toml(_Sheet, path)
    try:
        return Storyboard(cards=tuple(_found(card, path) for card in sheet.card), seconds=sheet.seconds, prompt=sheet.prompt)
    except InputError as error:
        raise ConfigError(f"storyboard {path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    """A storyboard as the file has it."""

    card: tuple[Card, ...] = ()
    seconds: float | None = None
    prompt: str = ""


def _found(card: Card, path: Path) -> Card:
    """Return a card with its media's path seen from the working folder."""
    media = card.picture or card.clip
    if media is None:
        return card
    assert isinstance(media, str | Path), "a file holds paths"
    place = path.parent / media
    if not place.exists():
        raise ConfigError(f"storyboard {path} has at {card.at:g} s '{media}', but there is no {place}; paths are relative to the storyboard's folder")
    return replace(card, picture=place) if card.picture is not None else replace(card, clip=place)
