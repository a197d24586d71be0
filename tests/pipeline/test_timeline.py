"""Films of storyboards: what is given comes out as it was at its time, texts cross, cuts are cuts, and what cannot be is told in a sentence."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from diorama.errors import InputError
from diorama.media import Clip
from diorama.pipeline import Pipeline, timeline
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Film, Given, Made
from diorama.pipeline.given import HELD
from diorama.pipeline.items import Guide, Keep
from diorama.pipeline.lead import lead
from diorama.pipeline.load import Models
from diorama.pipeline.storyboard import Card, Storyboard

FAST = {"steps": 2, "seed": 1, "guidance_scale": 1.0}
SMALL = {**FAST, "size": (48, 32)}


def moving(num_frames: int, width: int = 48, height: int = 32, fps: float = 12.0, shade: int = 0) -> Clip:
    """Return a clip whose every frame is another."""
    rows = np.linspace(0, 200, height)[:, None, None] + np.linspace(0, 40, width)[None, :, None] * np.array([1.0, 0.5, 0.2])
    return Clip(np.stack([(rows + shade + 3 * i) % 256 for i in range(num_frames)]).astype(np.uint8), fps)


def still(shade: int) -> Clip:
    return moving(1, shade=shade)


@pytest.fixture
def pipe(models: Models) -> Pipeline:
    return Pipeline(models)


def film_of(models: Models, *cards: Card, options: dict[str, Any] | None = None, **board: Any) -> Film:
    desk = Desk(models, {"size": (48, 32)} if options is None else options)  # type: ignore[arg-type]
    return timeline.film_of(Storyboard(cards=cards, **board), desk)


def spoken(film: Film, shot: int = 0) -> dict[str, torch.Tensor]:
    guides = [item for item in film.shots[shot].items if isinstance(item, Guide)]
    assert all(guide.weight is not None for guide in guides)
    return {guide.prompt: guide.weight for guide in guides if guide.weight is not None}


def outline(film: Film) -> list[tuple[Any, ...]]:
    """Return what is seen one after another: numbers of given frames, or shot, first and last of made ones."""
    return [(piece.source.clip.num_frames,) if isinstance(piece, Given) else (piece.shot, piece.first, piece.last) for piece in film.pieces]  # type: ignore[union-attr]


def test_a_text_alone_is_text_to_video(pipe: Pipeline) -> None:
    board = Storyboard(cards=[Card(at=0, text="red ball")], seconds=1.4)
    plain = pipe.generate("red ball", seconds=1.4, **SMALL)  # type: ignore[arg-type]
    assert np.array_equal(pipe.storyboard(board, **SMALL).frames, plain.frames)


def test_pictures_and_clips_come_out_as_they_are_at_their_times(pipe: Pipeline) -> None:
    first, middle, end = still(0), still(90), moving(11, shade=40)
    cards = [
        Card(at=0, picture=first, text="red ball"),
        Card(at=0.8, text="blue cube"),
        Card(at=16 / 12, picture=middle),
        Card(at=2, clip=end),
    ]
    board = Storyboard(cards=cards, seconds=4)
    clip = pipe.storyboard(board, **SMALL)
    assert clip.frames.shape == (49, 32, 48, 3)
    assert np.array_equal(clip.frames[0], first.frames[0])
    assert np.array_equal(clip.frames[16], middle.frames[0])
    assert np.array_equal(clip.frames[24:35], end.frames)
    for made in (1, 15, 17, 23, 35, 48):
        assert not any(np.array_equal(clip.frames[made], given) for given in (first.frames[0], middle.frames[0], *end.frames))
    assert np.array_equal(pipe.storyboard(board, **SMALL).frames, clip.frames)


@pytest.mark.parametrize(("num_frames", "fps"), [(1, 12.0), (9, 12.0), (24, 24.0), (31, 25.0)])
@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_clip_of_any_length_and_rate_stays_what_it_is(pipe: Pipeline, num_frames: int, fps: float, at: float) -> None:
    given = moving(num_frames, fps=fps)
    board = Storyboard(cards=[Card(at=at, clip=given, text="red ball")], seconds=at + num_frames / fps + 1)
    clip = pipe.storyboard(board, **SMALL)
    rate = fps if num_frames > 1 else 12.0
    before = round(at * rate)
    assert clip.fps == rate
    assert clip.num_frames == pytest.approx((at + num_frames / fps + 1) * rate, abs=0.4 * rate)
    assert np.array_equal(clip.frames[before : before + num_frames], given.frames)


def test_what_is_given_is_kept_where_the_latent_knows_all_of_it(models: Models) -> None:
    film = film_of(models, Card(at=1, clip=moving(11)), seconds=3)
    keeps = [item for item in film.shots[0].items if isinstance(item, Keep)]
    assert [(keep.frame, keep.latent.shape[1], keep.noise) for keep in keeps] == [(3, 1, HELD), (4, 2, 0.0), (6, 1, HELD)]
    desk = Desk(models, {"size": (48, 32)})
    source = desk.open(moving(11))
    come = lead(source.head(2)[::-1], 4)[::-1]
    assert torch.equal(keeps[0].latent, desk.encode(np.concatenate([come, source.head(1)]))[:, 1:])
    torch.testing.assert_close(keeps[1].latent, desk.encode(source.head(9))[:, 1:])  # other chunks, other rounding
    begun = film_of(models, Card(at=0, clip=moving(9)), seconds=3)
    assert [(keep.frame, keep.noise) for keep in begun.shots[0].items if isinstance(keep, Keep)] == [(0, 0.0)]
    seen = film_of(models, Card(at=1, picture=moving(9, shade=7)), seconds=3)
    (keep,) = (item for item in seen.shots[0].items if isinstance(item, Keep))
    assert (keep.frame, keep.noise) == (3, 0.0)
    assert outline(seen) == [(0, 0, 12), (1,), (0, 13, None)]


def test_texts_step_or_cross_and_always_sum_to_one(models: Models) -> None:
    film = film_of(models, Card(at=0, seconds=1, text="a"), Card(at=3, text="b"), Card(at=4, text="c"), seconds=6)
    a, b, c = spoken(film).values()
    middles = torch.tensor([0.0, *(4 * k - 1.5 for k in range(1, len(a)))]) / 12
    assert torch.allclose(a + b + c, torch.ones(len(a)))
    assert bool((a[middles < 1] == 1).all())
    assert bool((a[middles > 3] == 0).all())
    assert torch.allclose(a[(middles >= 1) & (middles <= 3)], (3 - middles[(middles >= 1) & (middles <= 3)]) / 2, atol=1e-6)
    assert set(c.tolist()) == {0.0, 1.0}
    assert bool((c == (middles >= 4)).all())
    assert bool((b[(middles > 3) & (middles < 4)] == 1).all())


def test_a_text_holds_before_the_first_card_and_behind_the_last(models: Models) -> None:
    film = film_of(models, Card(at=1, seconds=0.5, text="a"), seconds=3)
    assert torch.equal(spoken(film)["a"], torch.ones(10))


def test_cards_without_a_text_say_what_is_said_beside_them(pipe: Pipeline, models: Models) -> None:
    own = pipe.generate("blue cube", num_frames=9, **SMALL)  # type: ignore[arg-type]
    cards = [Card(at=0, picture=still(0)), Card(at=1, text="Red ball."), Card(at=2, picture=still(9)), Card(at=3, clip=own)]
    said = spoken(film_of(models, *cards, seconds=5, prompt="on wood"))
    assert list(said) == ["Red ball on wood", "blue cube"]
    assert bool((said["Red ball on wood"][:9] == 1).all())
    assert list(spoken(film_of(models, *cards[:2], seconds=3, prompt="The camera orbits."))) == ["Red ball. The camera orbits."]
    assert list(spoken(film_of(models, cards[0], seconds=2, prompt="on wood"))) == ["on wood"]
    assert list(spoken(film_of(models, cards[0], seconds=2))) == [""]


def test_a_text_said_twice_is_one_cue(models: Models) -> None:
    film = film_of(models, *(Card(at=i, text="ab"[i % 2]) for i in range(6)), seconds=6)
    assert list(spoken(film)) == ["a", "b"]
    assert film.shots[0].request.prompt == "a, then b"


def test_a_cut_makes_shots_independent(pipe: Pipeline, models: Models) -> None:
    def board(text: str, **second: Any) -> Storyboard:
        return Storyboard(cards=[Card(at=0, text=text), Card(at=1, text="blue cube", **second)], seconds=2)

    one, two = (pipe.storyboard(board(text, cut=True), **SMALL).frames for text in ("red ball", "cube cube cube"))
    assert len(one) == len(two) == 26
    assert np.array_equal(one[13:], two[13:])
    assert not np.array_equal(one[:13], two[:13])
    joined = [pipe.storyboard(board(text), **SMALL).frames for text in ("red ball", "cube cube cube")]
    assert not np.array_equal(joined[0][13:], joined[1][13:])
    film = timeline.film_of(board("red ball", cut=True), Desk(models, {**SMALL, "seed": 2**63 - 1}))  # type: ignore[typeddict-item]
    assert [shot.request.seed for shot in film.shots] == [2**63 - 1, 0]
    assert [list(spoken(film, i)) for i in range(2)] == [["red ball"], ["blue cube"]]


def test_nothing_is_seen_across_a_cut(pipe: Pipeline) -> None:
    def frames(shade: int, *, clip: bool) -> Any:
        given = {"clip": moving(9, shade=shade)} if clip else {"picture": still(shade)}
        cards = [Card(at=0, text="red ball"), Card(at=1, cut=True, **given), Card(at=2, text="blue cube", cut=True)]  # type: ignore[arg-type]
        return pipe.storyboard(Storyboard(cards=cards, seconds=3), **SMALL).frames

    for clip in (False, True):
        one, two = (frames(shade, clip=clip) for shade in (0, 120))
        assert len(one) == len(two)
        assert np.array_equal(one[:13], two[:13])
        assert not np.array_equal(one[13:25], two[13:25])
        assert np.array_equal(one[26:], two[26:])
        assert np.array_equal(one[13], still(0).frames[0])


@pytest.mark.parametrize(("gap", "num_shots"), [(1, 2), (3, 2), (4, 1), (5, 1), (6, 1)])
@pytest.mark.parametrize("begin", [12, 13, 14, 15])
def test_pictures_too_near_for_a_passage_are_cut(models: Models, begin: int, gap: int, num_shots: int) -> None:
    cards = [Card(at=begin / 12, picture=still(0)), Card(at=(begin + gap) / 12, picture=still(90))]
    film = film_of(models, *cards, seconds=4)
    assert len(film.shots) == num_shots
    given = [i for i, piece in enumerate(film.pieces) if isinstance(piece, Given)]
    if num_shots == 1:
        assert given == [1, 3]
    else:
        begun = film.pieces[given[1] + 1]
        assert isinstance(begun, Made)
        assert (begun.shot, begun.first) == (1, 1)


@pytest.mark.parametrize("num_frames", [5, 6, 8])
@pytest.mark.parametrize("begin", [1, 2, 4])
@pytest.mark.parametrize("gap", [3, 4, 6])
def test_a_picture_behind_a_clip_is_cut_or_has_room(models: Models, begin: int, num_frames: int, gap: int) -> None:
    cards = [Card(at=begin / 12, clip=moving(num_frames)), Card(at=(begin + num_frames - 1 + gap) / 12, picture=still(9)), Card(at=3, text="x")]
    film = film_of(models, *cards, seconds=4)
    picture, behind = film.pieces[-2:]
    assert isinstance(picture, Given)
    assert isinstance(behind, Made)
    if gap < 4:
        assert behind.first == 1
    else:
        assert [piece.shot for piece in film.pieces if isinstance(piece, Made)] == [0] * (len(film.pieces) - 2)
        assert isinstance(film.pieces[-3], Made)
    places = [(item.frame, item.latent.shape[1]) for item in film.shots[0].items if isinstance(item, Keep)]
    assert all(frame + n <= following for (frame, n), (following, _) in pairwise(places))


def test_clips_back_to_back_are_joined_as_they_are(pipe: Pipeline) -> None:
    one, two = moving(10), moving(12, shade=100)
    board = Storyboard(cards=[Card(at=0, clip=one), Card(at=10 / 12, clip=two)], seconds=3)
    clip = pipe.storyboard(board, **SMALL)
    assert np.array_equal(clip.frames[:10], one.frames)
    assert np.array_equal(clip.frames[10:22], two.frames)
    assert clip.num_frames == pytest.approx(37, abs=2)
    with pytest.raises(InputError, match="nothing is to be made"):
        pipe.storyboard(replace(board, seconds=None), **SMALL)


def test_a_clip_plays_until_its_card_ends(models: Models) -> None:
    film = film_of(models, Card(at=0, clip=moving(36)), Card(at=1, text="red ball"), seconds=3)
    assert outline(film) == [(12,), (0, 12, None)]
    assert any("plays 1 s of its 3 s" in note for note in film.notes)
    shorter = film_of(models, Card(at=0, clip=moving(36), seconds=0.5), seconds=3)
    assert outline(shorter) == [(6,), (0, 6, None)]
    ending = film_of(models, Card(at=1, clip=moving(30)))
    assert outline(ending) == [(0, 0, 12), (30,)]
    assert ending.notes == ()


def test_what_is_moved_onto_the_grid_is_told(models: Models) -> None:
    film = film_of(models, Card(at=1.15, picture=still(0)), Card(at=2.2, picture=still(9), cut=True), seconds=4)
    assert any("given at 1.15 s is seen at 1.00 s" in note for note in film.notes)
    assert any("cut at 2.2 s falls at 2.08 s" in note for note in film.notes)


def test_size_and_rate_are_those_of_the_first_picture_and_the_first_clip(models: Models) -> None:
    cards = [Card(at=0, text="x"), Card(at=1, picture=moving(1, 60, 44)), Card(at=2, clip=moving(24, 90, 30, 24.0))]
    film = film_of(models, *cards, seconds=4, options={})
    assert (film.canvas.width, film.canvas.height, film.canvas.fps) == (60, 44, 24.0)
    assert film_of(models, cards[0], seconds=1, options={"size": (48, 32), "fps": 10.0}).canvas.fps == 10.0
    board = Storyboard(cards=cards, seconds=4)
    model = timeline.film_of(board, Desk(models, {"size": (48, 32)}, scale="model"))
    assert (model.canvas.width, model.canvas.height, model.canvas.fps) == (48, 32, 12.0)


def test_the_length_is_given_or_follows_from_the_last_card(models: Models) -> None:
    size = {"size": (48, 32)}

    def num_frames(*cards: Card, options: dict[str, Any] | None = None, **board: Any) -> int:
        return film_of(models, *cards, options={**size, **(options or {})}, **board).shots[0].request.num_frames

    first, later = Card(at=0, text="a"), Card(at=1, text="b")
    assert num_frames(first, seconds=2.1) == 25
    assert num_frames(first, replace(later, seconds=1.1)) == 25
    assert num_frames(first, Card(at=2, picture=still(0))) == 25
    assert num_frames(first, later) == 33
    assert num_frames(first, later, options={"seconds": 2.1}) == 25
    assert num_frames(first, later, options={"num_frames": 25}) == 25
    with pytest.raises(InputError, match="how long the last card, at 5 s, holds"):
        num_frames(first, Card(at=5, text="b"))
    with pytest.raises(InputError, match="leave out seconds"):
        num_frames(first, seconds=2.1, options={"seconds": 3.0})


def test_a_long_storyboard_rolls_and_keeps(pipe: Pipeline) -> None:
    cards = [Card(at=0, text="red ball"), Card(at=3, picture=still(50)), Card(at=6, text="blue cube")]
    clip = pipe.storyboard(Storyboard(cards=cards, seconds=8), window=5, **SMALL)
    assert clip.num_frames == 97
    assert np.array_equal(clip.frames[36], still(50).frames[0])


def test_texts_too_short_to_be_seen_are_refused(models: Models) -> None:
    cards = [Card(at=0, text="a"), Card(at=1, text="b"), Card(at=1.1, text="c")]
    with pytest.raises(InputError, match="text at 1 s holds for less than a latent frame"):
        film_of(models, *cards, seconds=2)
    with pytest.raises(InputError, match="less than a latent frame"):
        timeline.film_of(Storyboard.from_prompt("a, then b, then c, then d, then e, then f", 0.5), Desk(models, {}))


def test_the_parts_of_a_prompt_always_sum_to_one(models: Models) -> None:
    board = Storyboard.from_prompt("a red ball rolls left, then it hits a blue cube. Finally it stops.", 6)
    weights = spoken(timeline.film_of(board, Desk(models, {"size": (48, 32)})))
    assert torch.allclose(sum(weights.values(), torch.zeros(())), torch.ones(19))
    assert all(float(weight.max()) == 1 for weight in weights.values())
