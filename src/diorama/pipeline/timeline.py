"""From the cards of a storyboard to a film: shots with what is said and given in them, on the latent grid.

``storyboard`` says what the spacing of cards decides; here it is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.media import Clip
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Film, Given, Made, Shot
from diorama.pipeline.given import HELD, begun
from diorama.pipeline.items import Guide, Item, Keep
from diorama.pipeline.source import Canvas, Media, Source, as_clip, part
from diorama.pipeline.storyboard import EXACT, Card, Storyboard
from diorama.shapes import num_frames_for

__all__ = ["film_of"]


def film_of(board: Storyboard, desk: Desk) -> Film:
    """Return the shots to make and how they and what is given follow each other.

    Args:
        board: The cards.
        desk: Model and options.

    Raises:
        InputError: a text holds for too short a time to be seen, nothing says how long the last card holds, or all is given.
        MediaError: a picture or a clip cannot be read.
    """
    takes, seconds = _open(board, desk)
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
            shots.append(_shot(board, group, scene, desk, first, len(shots)))
        begin += scene.num_shown
    if not shots:
        raise InputError("nothing is to be made: what is given fills the storyboard; leave time before, between or behind it")
    return Film(shots=shots, pieces=pieces, canvas=_canvas(takes, shots[0], desk), notes=tuple(desk.notes))


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
        risen.append(((middles - one.end) / gap).clamp(0, 1) if gap > EXACT else (middles >= two.begin - EXACT).double())
    risen.append(torch.zeros_like(middles))
    return [(one - two).float() for one, two in pairwise(risen)]


def _kept(desk: Desk, source: Source, place: int) -> list[Item]:
    """Return the items that put something given at a frame of a shot.

    The last frames of a clip may not fill a latent frame: that one starts from the last frame standing still.
    """
    known, latent_frame = desk.encode(source.whole(desk.stride)), place // desk.stride.time
    num_full = 1 + (source.num_frames - 1) // desk.stride.time
    whole = known[:, :num_full]
    noise = HELD if source.num_frames > 1 else 0.0
    items: list[Item] = begun(desk, source, whole, latent_frame, noise=noise) if place else [Keep(latent=whole)]
    if known.shape[1] > num_full:
        items.append(Keep(latent=known[:, num_full:], frame=latent_frame + num_full, noise=HELD))
    return items


def _canvas(takes: Sequence[_Take], shot: Shot, desk: Desk) -> Canvas:
    sources = [take.source for take in takes if take.source is not None]
    canvas = desk.canvas(shot.request, sources[0] if sources else None)
    rates = [source.canvas.fps for source in sources if not source.is_still]
    return replace(canvas, fps=rates[0]) if rates and desk.scale != "model" else canvas
