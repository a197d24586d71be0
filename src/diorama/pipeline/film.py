"""What a mode asks for: shots to generate, and how generated and given frames make up what is written.

A given frame stands in the result as it was given. Where it meets a generated one, the detail that the autoencoder lost of
it is carried on for as long as the picture there stays the same, see ``seams``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor

from diorama.media import Audio, Clip, Pixels
from diorama.pipeline.items import Item
from diorama.pipeline.request import Request
from diorama.pipeline.seams import carry, mix, restore
from diorama.pipeline.source import Canvas, Source

__all__ = ["Altered", "Film", "Framed", "Given", "Made", "Piece", "Shot", "assemble"]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One run of the flow."""

    request: Request
    """Size, length, seed and steps."""
    items: Sequence[Item]
    """What is known of it."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """Generated frames of a shot."""

    shot: int = 0
    """Which shot."""
    first: int = 0
    """Its first frame, at the model's rate."""
    last: int | None = None
    """The frame behind its last; None for all."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """Frames as they were given."""

    source: Source
    """Of what."""
    first: int = 0
    """First frame at the source's own rate."""
    last: int | None = None
    """The frame behind the last; None for all."""


@dataclass(frozen=True, kw_only=True)
class Altered:
    """A given clip with a shot mixed in, frame for frame."""

    source: Source
    """The clip; it sets how long the piece is."""
    mask: Tensor
    """``[T, h, w]`` at the model's rate, or broadcastable, at any height and width: 0 is the clip, 1 the shot."""
    shot: int = 0
    """The shot."""
    plain: int | None = None
    """The shot that is the clip coded and decoded; what coding lost is put back where the picture did not change."""


@dataclass(frozen=True, kw_only=True)
class Framed:
    """A given clip inside a larger generated picture."""

    source: Source
    """The clip; it sets how long the piece is."""
    left: int
    """Of its frames on the canvas, pixels."""
    top: int
    """Of its frames on the canvas, pixels."""
    shot: int = 0
    """The shot."""


Piece: TypeAlias = Made | Given | Altered | Framed


@dataclass(frozen=True, kw_only=True)
class Film:
    """What is to be generated and how the result is put together."""

    shots: Sequence[Shot]
    """In the order of their making."""
    pieces: Sequence[Piece]
    """One after another in time."""
    canvas: Canvas
    """Size and rate of the result."""
    ring: bool = False
    """Whether the end meets the beginning, so that a seam is there too."""
    notes: tuple[str, ...] = ()
    """What was done to the input, for the user."""


def assemble(film: Film, shots: Sequence[Pixels]) -> Clip:
    """Put the result together.

    Args:
        film: What goes where.
        shots: Frames ``[T, h, w, 3]`` of every shot, at the model's size and rate.

    Returns:
        The clip, with the sound of given parts where there is any.
    """
    parts = [_part(film, i, shots) for i in range(len(film.pieces))]
    return Clip(np.concatenate(parts), film.canvas.fps, audio=_sound(film, [len(part) for part in parts]))


def _part(film: Film, index: int, shots: Sequence[Pixels]) -> Pixels:
    piece, canvas = film.pieces[index], film.canvas
    if isinstance(piece, Given):
        return piece.source.shown(canvas, piece.first, piece.last)
    if isinstance(piece, Made):
        return _made(film, index, piece, shots)
    shot = canvas.sized(shots[piece.shot])[piece.source.moments()]
    if isinstance(piece, Framed):
        given = piece.source.clip.frames
        shot[:, piece.top : piece.top + given.shape[1], piece.left : piece.left + given.shape[2]] = given
        return shot
    given = piece.source.shown(canvas)
    if piece.plain is not None:
        shot = restore(shot, canvas.sized(shots[piece.plain])[piece.source.moments()], given)
    return mix(given, shot, _mask(piece, len(given)))


def _mask(piece: Altered, count: int) -> Tensor:
    """Return the mask of every given frame, ``[T, h, w]`` or one for all."""
    return piece.mask if len(piece.mask) == 1 else piece.mask[[min(len(piece.mask) - 1, k) for k in piece.source.moments()[:count]]]


def _made(film: Film, index: int, piece: Made, shots: Sequence[Pixels]) -> Pixels:
    shot, canvas, pieces = shots[piece.shot], film.canvas, film.pieces
    last = len(shot) if piece.last is None else piece.last
    before = pieces[index - 1] if index or film.ring else None
    after = pieces[(index + 1) % len(pieces)] if index + 1 < len(pieces) or film.ring else None
    # The shot shows the given frame beside its own too: the detail it lost there is what its own frames lack.
    start = end = None
    if isinstance(before, Given):
        start = (before.source.shown(canvas, before.first, before.last)[-1], canvas.sized(shot[[piece.first - 1]])[0])
    if isinstance(after, Given):
        end = (after.source.shown(canvas, after.first, after.last)[0], canvas.sized(shot[[last % len(shot)]])[0])
    frames = carry(canvas.sized(shot[piece.first : last]), start, end)
    return canvas.timed(frames, film.shots[piece.shot].request.fps)


def _sound(film: Film, lengths: Sequence[int]) -> Audio | None:
    """Return the sound of the given parts at their places, silence elsewhere; None if no part has sound."""
    heard = [(piece, piece.source.clip.audio) for piece in film.pieces if not isinstance(piece, Made)]
    tracks = [audio for _, audio in heard if audio is not None]
    if not tracks:
        return None
    rate, channels = tracks[0].rate, max(len(audio.samples) for audio in tracks)
    whole = np.zeros((channels, round(sum(lengths) / film.canvas.fps * rate)), np.float32)
    start = 0
    for piece, length in zip(film.pieces, lengths, strict=True):
        audio = None if isinstance(piece, Made) else piece.source.clip.audio
        if audio is not None and audio.rate == rate:
            skipped = round(piece.first / piece.source.clip.fps * rate) if isinstance(piece, Given) else 0
            at, room = round(start / film.canvas.fps * rate), round(length / film.canvas.fps * rate)
            samples = audio.samples[:, skipped : skipped + room][:, : whole.shape[1] - at]
            whole[:, at : at + samples.shape[1]] = samples
        start += length
    return Audio(samples=whole, rate=rate)
