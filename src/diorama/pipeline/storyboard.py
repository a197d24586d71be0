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

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from diorama.config import load_toml
from diorama.errors import ConfigError, InputError
from diorama.media import Clip
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Film, Given, Made, Shot
from diorama.pipeline.items import Guide, Item, Keep
from diorama.pipeline.source import Canvas, Media, Source, as_clip, part
from diorama.shapes import MAX_SECONDS, num_frames_for
from diorama.text.rewrite import split_prompt

__all__ = ["HELD", "Card", "Storyboard", "read_storyboard"]

HELD = 0.5
"""Flow time at which a latent frame starts of whose four frames some are given and the others are not."""
PASSAGE = 0.5
"""Seconds in which the parts of a prompt pass into each other, if they are long enough."""
MOMENT = 2.75
"""Seconds that a part of a prompt gets where no length is asked for."""
_EXACT = 1e-6
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
            if one.seconds is not None and one.at + one.seconds > two.at + _EXACT:
                raise InputError(
                    f"the card at {one.at:g} s holds for {one.seconds:g} s and overlaps the one at {two.at:g} s; make it shorter or the other later"
                )
        if self.seconds is None:
            return
        if not 0 < self.seconds <= MAX_SECONDS:
            raise InputError(f"a storyboard of {self.seconds:g} s cannot be made: allowed is above 0 and at most {MAX_SECONDS:g}")
        last = self.cards[-1]
        ends = last.at + (last.seconds or 0.0)
        if ends > self.seconds + _EXACT or (last.picture is None and last.at >= self.seconds):
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

    def film(self, desk: Desk) -> Film:
        """Return the shots to make and how they and what is given follow each other.

        Args:
            desk: Model and options.

        Raises:
            InputError: a text holds for too short a time to be seen, nothing says how long the last card holds, or all is given.
            MediaError: a picture or a clip cannot be read.
        """
        takes, seconds = _open(self, desk)
        first = next((take.source for take in takes if take.source is not None), None)
        total = num_frames_for(seconds, desk.fps, desk.stride)
        groups = _split(takes, desk)
        shots: list[Shot] = []
        pieces: list[Given | Made] = []
        begin = 0
        for i, group in enumerate(groups):
            until = _whole(groups[i + 1][0].begin * desk.fps) if i + 1 < len(groups) else total
            scene = _arrange(group, begin, until, desk, cut=i > 0)
            made = scene.fill(len(shots))
            pieces += made
            if any(isinstance(piece, Made) for piece in made):
                shots.append(_shot(self, group, scene, desk, first, len(shots)))
            begin += scene.num_shown
        if not shots:
            raise InputError("nothing is to be made: what is given fills the storyboard; leave time before, between or behind it")
        return Film(shots=shots, pieces=pieces, canvas=_canvas(takes, shots[0], desk), notes=tuple(desk.notes))


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


@dataclass(frozen=True, kw_only=True)
class _Take:
    """A card with what it shows."""

    card: Card
    words: str
    """What it says by itself, with the surroundings; empty if nothing."""
    begin: float
    """Second."""
    end: float
    """Second at which its text stops holding."""
    source: Source | None
    """Its picture, as one frame, or the part of its clip that plays."""


def _open(board: Storyboard, desk: Desk) -> tuple[list[_Take], float]:
    """Read what the cards show; return them and the length of the whole in seconds."""
    sources: list[Source | None] = []
    first: Source | None = None
    for card in board.cards:
        media = card.clip if card.picture is None else _still(card.picture)
        sources.append(None if media is None else desk.open(media, first))
        first = first or sources[-1]
    seconds = _length(board, sources[-1], desk)
    takes = []
    for i, (card, source) in enumerate(zip(board.cards, sources, strict=True)):
        following = board.cards[i + 1].at if i + 1 < len(sources) else seconds
        end = following if card.seconds is None else card.at + card.seconds
        if source is not None:
            source = _trimmed(source, card, end, desk)
        words = _said(card.text, board.prompt) if card.text.strip() else desk.prompt("", source)
        takes.append(_Take(card=card, words=words, begin=card.at, end=end, source=source))
    return takes, seconds


def _still(media: Media) -> Clip:
    clip = as_clip(media)
    return Clip(clip.frames[:1], clip.fps, clip.metadata)


def _length(board: Storyboard, last: Source | None, desk: Desk) -> float:
    """Return the seconds of the whole: the storyboard's, those to the end of the last card, or those of the options."""
    card = board.cards[-1]
    if board.seconds is not None:
        return board.seconds
    if card.seconds is not None:
        return card.at + card.seconds
    if card.clip is not None and last is not None:
        return card.at + last.clip.seconds
    if card.picture is not None and card.at > 0:
        return card.at
    seconds = desk.request("").num_frames / desk.fps
    for name in ("seconds", "num_frames"):
        desk.options.pop(name, None)
    if card.at >= seconds:
        raise InputError(f"nothing says how long the last card, at {card.at:g} s, holds; give it seconds, or the storyboard")
    return seconds


def _trimmed(source: Source, card: Card, end: float, desk: Desk) -> Source:
    clip, room = source.clip, end - card.at
    if clip.num_frames == 1 or clip.seconds <= room + 0.5 / desk.fps:
        return source
    desk.notes.append(f"the clip at {card.at:g} s plays {room:g} s of its {clip.seconds:g} s, until its card ends")
    return replace(source, clip=part(clip, 0, max(1, round(room * clip.fps))))


def _said(text: str, prompt: str) -> str:
    """Return a text with the surroundings: one that begins with a capital is a sentence of its own."""
    text, prompt = text.strip(), prompt.strip()
    if not prompt:
        return text
    bare = text.rstrip(" .")
    return f"{bare}. {prompt}" if prompt[0].isupper() else f"{bare} {prompt}"


def _split(takes: Sequence[_Take], desk: Desk) -> list[list[_Take]]:
    """Return the cards of every shot."""
    groups: list[list[_Take]] = []
    shown: int | None = None
    for take in takes:
        begin = _whole(take.begin * desk.fps)
        crowded = take.source is not None and shown is not None and begin - shown < desk.stride.time
        if not groups or take.card.cut or crowded:
            groups.append([])
            shown = None
        groups[-1].append(take)
        if take.source is not None:
            shown = begin + take.source.num_frames - 1
    return groups


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Where things are in a shot. Frames count from its first, at the model's rate."""

    begin: int
    """Its first frame in the film."""
    num_shown: int
    """Frames of it that are shown."""
    num_latents: int
    """Latent frames of it."""
    places: Sequence[tuple[int, Source]]
    """First frames of what is given, a multiple of a latent frame each."""

    def fill(self, shot: int) -> list[Given | Made]:
        """Return what is given and, between, what is made by a shot of this number."""
        pieces: list[Given | Made] = []
        done = 0
        for place, source in self.places:
            if place > done:
                pieces.append(Made(shot=shot, first=done, last=place))
            pieces.append(Given(source=source))
            done = place + source.num_frames
        return pieces if done >= self.num_shown else [*pieces, Made(shot=shot, first=done)]


def _arrange(group: Sequence[_Take], begin: int, until: int, desk: Desk, *, cut: bool) -> _Scene:
    """Place what is given on the latent grid of a shot that begins at a frame of the film and is to end before another."""
    step, fps = desk.stride.time, desk.fps
    if cut and abs(begin - group[0].begin * fps) >= 1:
        desk.notes.append(f"the cut at {group[0].begin:g} s falls at {begin / fps:.2f} s")
    places: list[tuple[int, Source]] = []
    free = shown = 0
    for i, take in enumerate(group):
        if take.source is None:
            continue
        wanted = 0.0 if cut and i == 0 else max(0.0, take.begin * fps - begin)
        place = max(free, _whole(wanted / step) * step)
        if abs(place - wanted) >= 1:
            desk.notes.append(f"what is given at {take.begin:g} s is seen at {(begin + place) / fps:.2f} s, where a latent frame ends")
        places.append((place, take.source))
        shown = place + take.source.num_frames
        free = (math.ceil((shown - 1) / step) + 1) * step
    num_wanted = until - begin
    held = max(0, math.ceil((shown - 1) / step))
    left = num_wanted - shown
    if places and (left <= 0 or (left < step and places[-1][1].num_frames > 1)):
        return _Scene(begin=begin, num_shown=shown, num_latents=1 + held, places=places)
    num_latents = 1 + max(held, _whole((num_wanted - 1) / step))
    return _Scene(begin=begin, num_shown=1 + (num_latents - 1) * step, num_latents=num_latents, places=places)


def _whole(value: float) -> int:
    """Round, halves up: what is a latent frame apart stays apart."""
    return math.floor(value + 0.5)


def _shot(board: Storyboard, group: Sequence[_Take], scene: _Scene, desk: Desk, like: Source | None, index: int) -> Shot:
    guides = _guides(board, group, scene, desk)
    items: list[Item] = [*guides]
    for place, source in scene.places:
        items += _kept(desk, source, place)
    request = desk.request(", then ".join(guide.prompt.rstrip(" .") for guide in guides), scene.num_latents, like)
    return Shot(request=replace(request, seed=(request.seed + index) % 2**63), items=items)


def _guides(board: Storyboard, group: Sequence[_Take], scene: _Scene, desk: Desk) -> list[Guide]:
    """Return each text of a shot once, with its weights; they sum to 1 in every latent frame."""
    weights: dict[str, Tensor] = {}
    words = _carried([take.words for take in group]) or [board.prompt] * len(group)
    for said, weight in zip(words, _weights(group, scene, desk), strict=True):
        weights[said] = weights.get(said, torch.zeros(scene.num_latents)) + weight
    for take, said in zip(group, words, strict=True):
        if take.card.text.strip() and not bool(weights[said].any()):
            raise InputError(
                f"the text at {take.begin:g} s holds for less than a latent frame, so it would not be seen; "
                f"let it hold for {desk.stride.time / desk.fps:.2g} s or more"
            )
    return [Guide(prompt=said, weight=weight) for said, weight in weights.items() if bool(weight.any())]


def _carried(words: Sequence[str]) -> list[str]:
    """Let each card that says nothing say what the one before it says, or else the one behind it; empty if none says anything."""
    found = [said for said in words if said]
    carried: list[str] = []
    for said in words:
        if found:
            carried.append(said or (carried[-1] if carried else found[0]))
    return carried


def _weights(group: Sequence[_Take], scene: _Scene, desk: Desk) -> list[Tensor]:
    """Return the weight ``[T]`` of every card: how far its passage in has risen, less how far the next one's has."""
    latents, step = torch.arange(scene.num_latents, dtype=torch.float64), desk.stride.time
    # A latent frame is where the middle of its frames is; the first codes one frame alone.
    middles = (scene.begin + (latents * step - (step - 1) / 2).clamp_min(0)) / desk.fps
    risen = [torch.ones_like(middles)]
    for one, two in pairwise(group):
        gap = two.begin - one.end
        risen.append(((middles - one.end) / gap).clamp(0, 1) if gap > _EXACT else (middles >= two.begin - _EXACT).double())
    risen.append(torch.zeros_like(middles))
    return [(one - two).float() for one, two in pairwise(risen)]


def _kept(desk: Desk, source: Source, place: int) -> list[Item]:
    """Return the items that put something given at a frame of a shot.

    In mid-shot its first frame is the last of the four of a latent frame: that one starts from the frame standing still. The
    last frames of a clip may not fill a latent frame: that one starts from the last frame standing still.
    """
    known, latent_frame = desk.encode(source.whole(desk.stride)), place // desk.stride.time
    num_full = 1 + (source.num_frames - 1) // desk.stride.time
    items: list[Item] = []
    if place:
        items.append(Keep(latent=desk.encode_held(source.head(1)), frame=latent_frame, noise=HELD if source.num_frames > 1 else 0.0))
    begin = 1 if place else 0
    if num_full > begin:
        items.append(Keep(latent=known[:, begin:num_full], frame=latent_frame + begin))
    if known.shape[1] > num_full:
        items.append(Keep(latent=known[:, num_full:], frame=latent_frame + num_full, noise=HELD))
    return items


def _canvas(takes: Sequence[_Take], shot: Shot, desk: Desk) -> Canvas:
    sources = [take.source for take in takes if take.source is not None]
    canvas = desk.canvas(shot.request, sources[0] if sources else None)
    rates = [source.canvas.fps for source in sources if not source.is_still]
    return replace(canvas, fps=rates[0]) if rates and desk.scale != "model" else canvas
