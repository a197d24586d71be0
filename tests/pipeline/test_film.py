"""A film is put together frame by frame: what was given is there as it was, at its place, with its sound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.media import Audio, Clip, Fit, Pixels, resize
from diorama.pipeline.film import Altered, Film, Framed, Given, Made, Piece, Shot, assemble
from diorama.pipeline.request import Request
from diorama.pipeline.seams import surround
from diorama.pipeline.source import Canvas, Source, open_source

TARGET = (48, 32)
"""Size of the model's picture in these tests."""


def clip(num_frames: int, fps: float = 12.0, size: tuple[int, int] = (30, 20), seed: int = 0) -> Clip:
    return Clip(np.random.default_rng(seed).integers(0, 256, (num_frames, size[1], size[0], 3), np.uint8), fps)


def source(given_clip: Clip, fit: Fit = "stretch") -> Source:
    return open_source(given_clip, TARGET, 12.0, fit)


def plain(num_frames: int, level: int) -> Pixels:
    return np.full((num_frames, TARGET[1], TARGET[0], 3), level, np.uint8)


def noisy(num_frames: int, seed: int = 7) -> Pixels:
    return clip(num_frames, size=TARGET, seed=seed).frames


def film(pieces: list[Piece], canvas: Canvas, shots: int = 1, *, ring: bool = False) -> Film:
    request = Request(prompt="", width=TARGET[0], height=TARGET[1], num_frames=17)
    return Film(shots=[Shot(request=request, items=[])] * shots, pieces=pieces, canvas=canvas, ring=ring)


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[list[Piece], Canvas, bool]:
    """Draw given and made pieces in any order, their canvas's rate, and whether they are a ring."""
    fps = draw(st.sampled_from([12.0, 24.0, 29.97, 8.0]))
    canvas = Canvas(width=30, height=20, fps=fps)
    pieces: list[Piece] = []
    for kind in draw(st.lists(st.sampled_from("gm"), min_size=1, max_size=6)):
        first = draw(st.integers(0, 8))
        last = draw(st.none() | st.integers(first + 1, 17))
        pieces.append(Made(first=first, last=last) if kind == "m" else Given(source=source(clip(17, fps, seed=len(pieces))), first=first, last=last))
    return pieces, canvas, draw(st.booleans())


@settings(deadline=None, max_examples=60)
@given(mixtures())
def test_given_frames_stand_bit_equal_in_any_mixture(mixture: tuple[list[Piece], Canvas, bool]) -> None:
    pieces, canvas, ring = mixture
    out = assemble(film(pieces, canvas, ring=ring), [noisy(17)])
    place = 0
    for piece in pieces:
        if isinstance(piece, Given):
            frames = piece.source.clip.frames[piece.first : piece.last]
            assert np.array_equal(out.frames[place : place + len(frames)], frames)
            place += len(frames)
        elif isinstance(piece, Made):
            place += max(1, round(len(range(17)[piece.first : piece.last]) / 12 * canvas.fps))
    assert out.num_frames == place
    assert out.fps == canvas.fps
    assert out.audio is None


def test_generated_frames_alone_are_the_shot() -> None:
    shots = [noisy(17, 1), noisy(17, 2)]
    canvas = Canvas(width=48, height=32, fps=12.0)
    out = assemble(film([Made(shot=1, last=5), Made(shot=0, first=2)], canvas, 2), shots)
    assert np.array_equal(out.frames, np.concatenate([shots[1][:5], shots[0][2:]]))
    large = assemble(film([Made()], Canvas(width=96, height=70, fps=12.0)), shots[:1])
    assert np.array_equal(large.frames, resize(shots[0], (96, 70)))


@pytest.mark.parametrize(
    ("pieces", "ring", "levels"),
    [
        # The shot shows the given frame beside its own part at 100; the given frame itself is 107.
        ("gm", False, [107] * 4),
        ("mg", False, [107] * 4),
        ("gmg", False, [107] * 4),
        ("gm", True, [107] * 4),
        ("m", True, [100] * 4),
    ],
)
def test_detail_of_given_neighbours_is_carried(pieces: str, ring: bool, levels: list[int]) -> None:
    given_source = source(Clip(np.full((3, 20, 30, 3), 107, np.uint8), 12.0))
    made = Made(first=5, last=9)
    parts: list[Piece] = [Given(source=given_source) if kind == "g" else made for kind in pieces]
    out = assemble(film(parts, given_source.canvas, ring=ring), [plain(17, 100)]).frames
    begin = 3 * (pieces[0] == "g")
    assert out[begin : begin + 4, 0, 0, 0].tolist() == levels
    assert (out[:begin] == 107).all()


def test_a_neighbour_that_the_shot_does_not_show_lends_nothing() -> None:
    given_source = source(Clip(np.full((3, 20, 30, 3), 107, np.uint8), 12.0))
    parts: list[Piece] = [Given(source=given_source), Made(), Given(source=given_source)]
    out = assemble(film(parts, given_source.canvas), [plain(17, 100)]).frames
    assert (out[3:-3] == 100).all()


def test_a_ring_is_seamless_on_both_sides_of_its_end() -> None:
    given_source = source(clip(4, size=TARGET))
    a, b, c = noisy(3)
    # The ring shows the clip's last frame before its own part, as c, and its first behind it, across the end, as a.
    shot = np.stack([a, b, *[c] * 7, *[a] * 7])
    out = assemble(film([Given(source=given_source), Made(first=3)], given_source.canvas, ring=True), [shot]).frames
    first, *_, last = given_source.clip.frames
    assert np.array_equal(out, np.concatenate([given_source.clip.frames, np.stack([*[last] * 6, *[first] * 7])]))


def sounding(num_frames: int, level: float, *, fps: float = 12.0, rate: int = 8000, channels: int = 1) -> Clip:
    samples = np.full((channels, round(num_frames / fps * rate)), level, np.float32)
    return replace(clip(num_frames, fps), audio=Audio(samples=samples, rate=rate))


@pytest.mark.parametrize(("channels", "rates"), [((1, 1), (8000, 8000)), ((1, 2), (8000, 8000)), ((2, 1), (8000, 16_000)), ((2, 2), (44_100, 8000))])
def test_sound_is_where_its_frames_are(channels: tuple[int, int], rates: tuple[int, int]) -> None:
    one, two = (sounding(12, level, rate=rate, channels=count) for level, rate, count in zip((0.25, 0.5), rates, channels, strict=True))
    parts: list[Piece] = [
        Made(last=6),
        Given(source=source(one)),
        Made(first=6),
        Given(source=source(two), first=3, last=9),
        Given(source=source(clip(5))),
    ]
    out = assemble(film(parts, source(one).canvas), [noisy(17)])
    assert out.audio is not None
    rate = out.audio.rate
    assert rate == max(rates)
    assert out.audio.samples.shape == (max(channels), round(out.num_frames / 12 * rate))
    levels = [0.0] * 6 + [0.25] * 12 + [0.0] * 11 + [0.5] * 6 + [0.0] * 5
    for frame, level in enumerate(levels):
        heard = out.audio.samples[:, round(frame / 12 * rate) + 1 : round((frame + 1) / 12 * rate) - 1]
        assert np.allclose(heard, level, atol=1e-5), frame


def test_another_rate_plays_the_same_tone() -> None:
    low, high = (
        replace(clip(12), audio=Audio(samples=np.sin(np.arange(rate) * 2 * np.pi * 440 / rate, dtype=np.float32)[None] / 2, rate=rate))
        for rate in (8000, 48_000)
    )
    out = assemble(film([Given(source=source(low)), Given(source=source(high))], source(low).canvas), [noisy(17)])
    assert out.audio is not None
    assert np.abs(out.audio.samples[0, :48_000] - out.audio.samples[0, 48_000:]).max() < 1e-3


def test_a_part_plays_its_own_stretch_of_the_sound() -> None:
    whole = replace(clip(24, 24.0), audio=Audio(samples=np.linspace(-1, 1, 8000, dtype=np.float32)[None], rate=8000))
    out = assemble(film([Given(source=source(whole), first=6, last=18)], source(whole).canvas), [noisy(17)])
    assert out.audio is not None
    assert np.array_equal(out.audio.samples, whole.audio.samples[:, 2000:6000])  # type: ignore[union-attr]
    # Written at another rate, and where the sound ends before the picture.
    short = replace(whole, audio=Audio(samples=np.ones((1, 1000), np.float32), rate=8000))
    slow = assemble(film([Given(source=source(short)), Made()], Canvas(width=30, height=20, fps=12.0)), [noisy(17)])
    assert slow.num_frames == 12 + 17
    assert slow.audio is not None
    assert slow.audio.samples.shape == (1, round(29 / 12 * 8000))
    assert float(slow.audio.samples.sum()) == 1000


FITS: list[tuple[Fit, bool]] = [("stretch", False), ("crop", False), ("pad", False), ("stretch", True), ("crop", True), ("pad", True)]


@pytest.mark.parametrize(("fit", "model"), FITS)
@pytest.mark.parametrize("fps", [12.0, 24.0, 29.97, 8.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 32, 48), (17, 32, 48)])
def test_an_altered_clip_is_the_input_at_0_and_the_shot_at_1(fit: Fit, model: bool, fps: float, shape: tuple[int, int, int]) -> None:
    given_source = source(clip(round(fps), fps), fit)
    canvas = Canvas(width=48, height=32, fps=12.0) if model else given_source.canvas
    shot = noisy(17)
    piece = Altered(source=given_source, mask=torch.zeros(shape))
    kept = assemble(film([piece], canvas), [shot])
    assert np.array_equal(kept.frames, given_source.shown(canvas))
    if not model and fit == "stretch":
        assert np.array_equal(kept.frames, given_source.clip.frames)
    made = assemble(film([replace(piece, mask=torch.ones(shape))], canvas), [shot])
    assert np.array_equal(made.frames, canvas.sized(shot)[given_source.moments(canvas)])
    assert made.num_frames == (12 if model else round(fps))
    # Where the shot is the clip as coding leaves it, the clip itself comes back.
    same = assemble(film([replace(piece, mask=torch.ones(shape), plain=1)], canvas, 2), [shot, shot])
    assert np.array_equal(same.frames, kept.frames)


def test_a_mask_lies_on_the_canvas_where_it_lay_on_the_picture() -> None:
    # 20x20 padded into 48x32: it fills columns 8 to 40 of the model's picture.
    given_source = source(clip(3, size=(20, 20)), "pad")
    assert given_source.canvas.box == (8, 0, 40, 32)
    mask = torch.zeros(1, 32, 48)
    mask[:, :, 24:] = 1
    out = assemble(film([Altered(source=given_source, mask=mask)], given_source.canvas), [noisy(5)]).frames
    assert np.array_equal(out[:, :, :9], given_source.clip.frames[:, :, :9])
    assert np.array_equal(out[:, :, 11:], given_source.canvas.sized(noisy(5))[:3, :, 11:])


def test_a_mask_of_many_frames_follows_the_clip() -> None:
    given_source = source(clip(24, 24.0))
    mask = torch.zeros(13, 1, 1)
    mask[6:] = 1
    out = assemble(film([Altered(source=given_source, mask=mask)], given_source.canvas), [noisy(13)]).frames
    same = (out == given_source.clip.frames).all(axis=(1, 2, 3)).tolist()
    assert same == [k < 6 for k in given_source.moments()]


@pytest.mark.parametrize("fps", [12.0, 24.0, 29.97])
@pytest.mark.parametrize("num_frames", [1, 9])
def test_a_framed_clip_is_untouched_at_its_place(fps: float, num_frames: int) -> None:
    given_source = source(clip(num_frames, fps))
    canvas = Canvas(width=61, height=50, fps=fps)
    shot = noisy(9)
    piece = Framed(source=given_source, left=7, top=12)
    out = assemble(film([piece], canvas), [shot]).frames
    assert np.array_equal(out[:, 12:32, 7:37], given_source.clip.frames)
    around = canvas.sized(shot)[given_source.moments()]
    assert np.array_equal(out, surround(around, given_source.clip.frames, 7, 12))
    assert np.array_equal(out[:, :, -5:], around[:, :, -5:])
    assert np.array_equal(shot, noisy(9))
    slow = assemble(film([piece], replace(canvas, fps=6.0)), [shot])
    assert np.array_equal(slow.frames[0, 12:32, 7:37], given_source.shown(replace(given_source.canvas, fps=6.0))[0])
