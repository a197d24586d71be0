"""What a mode asks for: shots to generate, and how generated and given frames make up what is written.

A given frame stands in the result as it was given. Where it meets a generated one, the detail that the autoencoder lost of
it is carried on for as long as the picture there stays the same, see ``seams``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diorama.media import Audio, Clip, Pixels
from diorama.pipeline.approach import approach
from diorama.pipeline.items import Item
from diorama.pipeline.request import Request
from diorama.pipeline.seams import carry, mix, restore, surround
from diorama.pipeline.source import Canvas, Source
from diorama.pipeline.steady import steady

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
    """Over the model's picture, ``[T, h, w]`` at its rate, T being 1 or the frames of the shot, h and w any: 0 is the clip, 1 the shot."""
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
    known = {i: piece.source.shown(film.canvas, piece.first, piece.last) for i, piece in enumerate(film.pieces) if isinstance(piece, Given)}
    parts = [known[i] if i in known else _part(film, i, shots, known) for i in range(len(film.pieces))]
    return Clip(parts[0] if len(parts) == 1 else np.concatenate(parts), film.canvas.fps, audio=_sound(film, [len(part) for part in parts]))


def _part(film: Film, index: int, shots: Sequence[Pixels], known: Mapping[int, Pixels]) -> Pixels:
    piece, canvas = film.pieces[index], film.canvas
    assert not isinstance(piece, Given)
    if isinstance(piece, Made):
        return _made(film, index, shots, known)
    moments = piece.source.moments(canvas)
    shot = canvas.sized(shots[piece.shot])[moments]
    if isinstance(piece, Framed):
        clip = piece.source.clip
        given = clip.frames if piece.source.is_still else canvas.timed(clip.frames, clip.fps)
        return surround(shot, given, piece.left, piece.top)
    given = piece.source.shown(canvas)
    if piece.plain is not None:
        shot = restore(shot, canvas.sized(shots[piece.plain])[moments], given)
    mask = piece.mask if len(piece.mask) == 1 else piece.mask[[min(len(piece.mask) - 1, k) for k in moments]]
    return mix(given, shot, _cut(mask, canvas, shots[piece.shot]))


def _cut(mask: Tensor, canvas: Canvas, shot: Pixels) -> Tensor:
    """Return the part of a mask of the model's picture that is on the canvas."""
    if canvas.box is None:
        return mask
    left, top, right, bottom = canvas.box
    down, across = mask.shape[1] / shot.shape[1], mask.shape[2] / shot.shape[2]
    return mask[:, math.floor(top * down) : math.ceil(bottom * down), math.floor(left * across) : math.ceil(right * across)]


def _made(film: Film, index: int, shots: Sequence[Pixels], known: Mapping[int, Pixels]) -> Pixels:
    piece, canvas, count = film.pieces[index], film.canvas, len(film.pieces)
    assert isinstance(piece, Made)
    shot = shots[piece.shot]
    last = len(shot) if piece.last is None else piece.last
    nothing = np.empty((0, canvas.height, canvas.width, 3), np.uint8)
    before = known.get((index - 1) % count, nothing) if film.ring or (index and piece.first) else nothing
    after = known.get((index + 1) % count, nothing) if film.ring or (index + 1 < count and last < len(shot)) else nothing
    # The shot shows the given frame beside its own too: the detail it lost there is what its own frames lack.
    start = (before[-1], canvas.sized(shot[[piece.first - 1]])[0]) if len(before) else None
    end = (after[0], canvas.sized(shot[[last % len(shot)]])[0]) if len(after) else None
    fps = film.shots[piece.shot].request.fps
    apart = max(1, round(canvas.fps / fps))  # given frames that are nearest to a step of the shot apart
    frames = carry(canvas.sized(shot[piece.first : last]), start, end)
    near, pace = (before[::-1][: apart + 1 : apart][::-1], after[: apart + 1 : apart]), canvas.fps / fps / apart
    frames = steady(approach(frames, *near, pace=pace), *near, pace=pace)
    return canvas.timed(frames, fps)


def _sound(film: Film, lengths: Sequence[int]) -> Audio | None:
    """Return the sound of the given parts at their places, silence elsewhere; None if no part has sound."""
    tracks = [None if isinstance(piece, Made) else piece.source.clip.audio for piece in film.pieces]
    heard = [audio for audio in tracks if audio is not None]
    if not heard:
        return None
    rate, channels = max(audio.rate for audio in heard), max(len(audio.samples) for audio in heard)
    whole = np.zeros((channels, round(sum(lengths) / film.canvas.fps * rate)), np.float32)
    start = 0
    for piece, audio, length in zip(film.pieces, tracks, lengths, strict=True):
        if audio is not None and not isinstance(piece, Made):
            skipped = round(piece.first / piece.source.clip.fps * rate) if isinstance(piece, Given) else 0
            at, end = round(start / film.canvas.fps * rate), round((start + length) / film.canvas.fps * rate)
            samples = _at_rate(audio, rate)[:, skipped : skipped + end - at]
            whole[:, at : at + samples.shape[1]] = samples
        start += length
    return Audio(samples=whole, rate=rate)


def _at_rate(audio: Audio, rate: int) -> NDArray[np.float32]:
    """Return the samples ``[C, N]`` of a sound at a rate no lower than its own, by their spectrum."""
    count = round(audio.samples.shape[1] / audio.rate * rate)
    if rate == audio.rate or not count:
        return audio.samples
    spectrum = np.fft.rfft(audio.samples.astype(np.float64))
    samples: NDArray[np.float32] = (np.fft.irfft(spectrum, count) * (count / audio.samples.shape[1])).clip(-1, 1).astype(np.float32)
    return samples
