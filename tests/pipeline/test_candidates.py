"""Several first frames are drawn, the best is kept, and where nothing is to be chosen nothing changes."""

from __future__ import annotations

import dataclasses
import math
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.captioners import tiny_captioner

from diorama.errors import InputError
from diorama.pipeline.candidates import (
    best_first,
    candidates,
    decided,
    fitness,
    num_candidates,
    num_takes,
    sketch_steps,
    still_steps,
    told_apart,
)
from diorama.pipeline.generate import _decode_raw, _follow, _num_decoded_at_once, denoise, prepare
from diorama.pipeline.items import Guide, Item, Keep
from diorama.pipeline.load import Models, load_models, save_models
from diorama.pipeline.request import Request
from diorama.pipeline.state import Cue, LatentState, blank, half_made, side_by_side, with_first_frame
from diorama.text import Captioner, Grammar

REQUEST = Request(prompt="red ball", width=48, height=32, num_frames=9, steps=2, seed=5)
GUIDE: list[Item] = [Guide(prompt="red ball")]


@pytest.fixture(scope="module")
def choosy(models: Models) -> Models:
    """Return the tiny model with a captioner, three candidates and a still first."""
    scheduler = dataclasses.replace(models.scheduler, still_first=True, candidates=3)
    return dataclasses.replace(models, captioner=tiny_captioner(), scheduler=scheduler)


def made(models: Models, request: Request, items: Sequence[Item] = GUIDE) -> torch.Tensor:
    return denoise(models, request, prepare(models, request, items))[0]


def test_how_many_are_drawn(models: Models, choosy: Models) -> None:
    assert num_candidates(choosy, REQUEST) == 3
    assert num_candidates(choosy, dataclasses.replace(REQUEST, candidates=5)) == 5
    assert num_candidates(models, REQUEST) == 1
    assert num_candidates(dataclasses.replace(choosy, captioner=None), REQUEST) == 1
    with pytest.raises(InputError, match="no captioner"):
        num_candidates(models, dataclasses.replace(REQUEST, candidates=2))
    for number in (0, 65):
        with pytest.raises(InputError, match=f"{number} candidates cannot be drawn: allowed is 1 to 64"):
            dataclasses.replace(REQUEST, candidates=number)
        with pytest.raises(InputError, match=f"{number} takes cannot be drawn: allowed is 1 to 64"):
            dataclasses.replace(REQUEST, takes=number)


def test_how_many_takes_are_sketched_and_how_roughly(models: Models, choosy: Models) -> None:
    assert num_takes(choosy, REQUEST) == 1
    assert num_takes(choosy, dataclasses.replace(REQUEST, takes=4)) == 4
    usual = dataclasses.replace(choosy.scheduler, takes=6)
    assert num_takes(dataclasses.replace(choosy, scheduler=usual), REQUEST) == 6
    assert num_takes(dataclasses.replace(models, scheduler=usual), REQUEST) == 1
    with pytest.raises(InputError, match="4 takes were asked for and this model has no captioner"):
        num_takes(models, dataclasses.replace(REQUEST, takes=4))
    assert [sketch_steps(steps) for steps in (2, 8, 24, 50)] == [2, 8, 8, 17]
    assert [still_steps(steps) for steps in (2, 9, 24, 50)] == [2, 8, 12, 25]
    assert [decided(steps) for steps in (2, 8, 17)] == [0, 3, 6]


def test_noises_differ_and_the_first_is_the_requests_own() -> None:
    state = blank(4, (1, 2, 3), seed=7, fps=12.0)
    noises = [candidate.noise for candidate in candidates(state, 7, 4)]
    assert torch.equal(noises[0], state.noise)
    following = blank(4, (1, 2, 3), seed=8, fps=12.0)
    everything = [*noises, *(candidate.noise for candidate in candidates(following, 8, 4))]
    assert len({tuple(noise.flatten().tolist()) for noise in everything}) == 8


def test_a_still_is_the_best_of_those_drawn_and_a_clip_begins_with_it(choosy: Models) -> None:
    alone = dataclasses.replace(REQUEST, num_frames=1, candidates=1)
    state = prepare(choosy, alone, GUIDE)
    stills = [denoise(choosy, alone, candidate)[0] for candidate in candidates(state, REQUEST.seed, 3)]
    still = made(choosy, dataclasses.replace(alone, candidates=None))
    assert sum(torch.allclose(still, one, atol=1e-4) for one in stills) == 1
    assert torch.equal(made(choosy, alone), stills[0])
    clip = made(choosy, REQUEST)
    assert torch.equal(clip[:, :1], still)
    assert torch.equal(clip, made(choosy, dataclasses.replace(REQUEST, candidates=1), [*GUIDE, Keep(latent=still)]))


def gone_on(models: Models, request: Request, take: LatentState, steps_left: int) -> torch.Tensor:
    """Return a clip of nine steps as it goes on from the third of eight steps of its sketch."""
    points: list[torch.Tensor] = []
    _follow(models, dataclasses.replace(request, steps=8), take, passed=points.append)
    time = float(models.scheduler.schedule(8, 18)[3])
    return denoise(models, dataclasses.replace(request, steps=steps_left), half_made(take, points[2], time))[0]


def test_a_clip_is_the_best_take_made_whole_from_where_its_sketch_had_decided(choosy: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    request = dataclasses.replace(REQUEST, steps=9, takes=4)
    alone = dataclasses.replace(request, num_frames=1, candidates=1, steps=still_steps(9))
    stills = [denoise(choosy, alone, candidate)[0] for candidate in candidates(prepare(choosy, alone, GUIDE), request.seed, 3)]
    shown: list[list[tuple[int, ...]]] = []

    def ranked(_: Models, clips: Sequence[np.ndarray], __: Sequence[Cue]) -> list[int]:
        shown.append([clip.shape for clip in clips])
        return [2, 0, 1] if len(shown) == 1 else [1, 0, 2, 3]

    monkeypatch.setattr(sys.modules[denoise.__module__], "best_first", ranked)
    told: list[tuple[str, int, int]] = []
    clip, _ = denoise(choosy, request, prepare(choosy, request, GUIDE), lambda *stage: told.append(stage))
    assert shown == [[(1, 32, 48, 3)] * 3, [(9, 32, 48, 3)] * 4]
    assert [step for step in told if step[0] == "takes"][-1] == ("takes", 32, 32)
    # Three of eight steps are done at a progress of 0.625, six of nine are left from there.
    assert [step for step in told if step[0] == "denoise"][-1] == ("denoise", 6, 6)
    # The takes begin with the two best stills in turn; the second take is the second candidate's noise behind the second best still.
    noises = list(candidates(prepare(choosy, request, GUIDE), request.seed, 2))
    first, second = with_first_frame(noises[0], stills[2]), with_first_frame(noises[1], stills[0])
    torch.testing.assert_close(clip, gone_on(choosy, request, second, 6), atol=1e-4, rtol=1e-4)
    # What was begun roughly comes near to what is made finely from the first step on.
    whole, other = (denoise(choosy, request, take)[0] for take in (second, first))
    assert (clip - whole).norm() < 0.2 * (clip - other).norm()


def test_a_clip_that_is_half_made_is_where_it_was() -> None:
    still = torch.randn(4, 1, 2, 3)
    take = with_first_frame(blank(4, (3, 2, 3), seed=7, fps=12.0), still)
    point = torch.randn(4, 3, 2, 3)
    begun = half_made(take, point, 0.75)
    torch.testing.assert_close(begun.point[:, 1:], point[:, 1:])
    assert torch.equal(begun.point[:, :1], still)
    assert begun.start[0].eq(0).all()
    assert begun.start[1:].eq(0.75).all()


def test_small_sketches_are_decoded_side_by_side_in_their_order(choosy: Models, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    request = dataclasses.replace(REQUEST, takes=3)
    module = sys.modules[denoise.__module__]
    own, threads, shown = _decode_raw, set[str](), list[list[np.ndarray]]()

    def decoded(models: Models, latent: torch.Tensor, fps: float, *others: Any, **named: Any) -> np.ndarray:
        if latent.shape[1] > 1:
            threads.add(threading.current_thread().name)
        return own(models, latent, fps, *others, **named)

    def ranked(_: Models, clips: Sequence[np.ndarray], __: Sequence[Cue]) -> list[int]:
        shown.append(list(clips))
        return list(range(len(clips)))

    monkeypatch.setattr(module, "_decode_raw", decoded)
    monkeypatch.setattr(module, "best_first", ranked)
    made(choosy, request)
    assert threading.current_thread().name not in threads
    threads.clear()
    torch.set_num_threads(1)
    made(choosy, request)
    assert threads == {threading.current_thread().name}
    for together, alone in zip(shown[1], shown[3], strict=True):
        assert np.abs(together.astype(int) - alone).mean() < 2  # other threads, other rounding
    torch.set_num_threads(2)
    assert [_num_decoded_at_once(choosy, *asked) for asked in ((3, 100), (1, 100), (3, 20_000))] == [2, 1, 1]


def test_of_a_long_clip_the_first_window_is_sketched(choosy: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[tuple[int, ...]]] = []

    def ranked(_: Models, clips: Sequence[np.ndarray], cues: Sequence[Cue]) -> list[int]:
        shown.append([clip.shape for clip in clips])
        assert all(len(cue.weight) == 1 + (len(clips[0]) - 1) // 4 for cue in cues)
        return list(range(len(clips)))[::-1]

    monkeypatch.setattr(sys.modules[denoise.__module__], "best_first", ranked)
    short, long = (dataclasses.replace(REQUEST, takes=2, window=2, num_frames=number) for number in (5, 13))
    first = made(choosy, short)
    assert shown[1] == [(5, 32, 48, 3)] * 2
    whole = made(choosy, long)
    assert shown[3] == shown[1]
    torch.testing.assert_close(whole[:, :2], first, atol=1e-5, rtol=1e-5)


def test_nothing_is_chosen_where_something_is_given(choosy: Models) -> None:
    given: list[Item] = [*GUIDE, Keep(latent=torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(0)))]
    stages: list[str] = []
    denoise(choosy, dataclasses.replace(REQUEST, takes=3), prepare(choosy, REQUEST, given), lambda stage, *_: stages.append(stage))
    assert set(stages) == {"denoise"}


def test_progress_counts_the_steps_of_all_groups(choosy: Models) -> None:
    told: list[tuple[str, int, int]] = []
    denoise(choosy, REQUEST, prepare(choosy, REQUEST, GUIDE), lambda *stage: told.append(stage))
    stills = [(done, total) for stage, done, total in told if stage == "still"]
    assert stills[-1] == (2, 2)
    told.clear()
    rescaled = dataclasses.replace(REQUEST, guidance_rescale=0.5)  # looks at the spread of one still
    denoise(choosy, rescaled, prepare(choosy, rescaled, GUIDE), lambda *stage: told.append(stage))
    stills = [(done, total) for stage, done, total in told if stage == "still"]
    assert stills[-1] == (6, 6)
    assert stills == sorted(stills)
    assert {total for _, total in stills} == {6}


@pytest.mark.parametrize("change", [{}, {"guidance_interval": (0.0, 0.5)}, {"solver": "heun"}])
def test_stills_side_by_side_are_those_drawn_one_by_one(choosy: Models, change: dict[str, Any]) -> None:
    alone = dataclasses.replace(REQUEST, num_frames=1, candidates=1, **change)
    items = [*GUIDE, Guide(prompt="blue cube")]
    every = list(candidates(prepare(choosy, alone, items), REQUEST.seed, 3))
    together, _ = denoise(choosy, alone, side_by_side(every))
    torch.testing.assert_close(together, torch.cat([denoise(choosy, alone, one)[0] for one in every], dim=1), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together[:, 0], together[:, 1], atol=0.1)


def test_words_that_are_unlikely_of_every_picture_do_not_count() -> None:
    known = torch.tensor([[0.9, 0.1], [0.1, 0.1], [0.5, 0.1]]).log()
    strange = torch.tensor([[1e-9], [1e-3], [1e-6]]).log()
    assert told_apart(known).argmax() == 0
    torch.testing.assert_close(told_apart(torch.cat([known, strange], 1)), told_apart(known))
    assert told_apart(strange).tolist() == [0, 0, 0]


def test_cues_count_by_their_weight(choosy: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    choosy = dataclasses.replace(choosy, grammar=None)
    pictures = [np.full((1, 32, 48, 3), value, np.uint8) for value in (0, 100, 200)]

    def see(_: Captioner, clips: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.tensor([int(clip[0, 0, 0, 0]) for clip in clips])[:, None, None]

    def likelihood(_: Captioner, seen: torch.Tensor, text: str) -> torch.Tensor:
        wanted = {"red ball": 100, "blue cube": 200}[text]
        return torch.where(seen[:, :, 0] == wanted, -0.01, -20.0)

    monkeypatch.setattr(Captioner, "see", see)
    monkeypatch.setattr(Captioner, "likelihood", likelihood)
    monkeypatch.setattr(Captioner, "write", lambda _, seen: ["ball"] * len(seen))
    red, blue = Cue("red ball", torch.tensor([1.0, 0.0])), Cue("blue cube", torch.tensor([0.0, 1.0]))
    assert best_first(choosy, pictures, [red]) == [1, 0, 2]
    assert best_first(choosy, pictures, [dataclasses.replace(blue, weight=torch.ones(2))]) == [2, 0, 1]
    assert best_first(choosy, pictures, [red, dataclasses.replace(blue, weight=torch.full((2,), 2.0))])[0] == 2
    silent = [dataclasses.replace(cue, weight=torch.zeros(1)) for cue in (red, blue)]
    assert best_first(choosy, pictures, silent) == [0, 1, 2]


def test_the_nearer_meaning_wins_where_no_word_is_known(choosy: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [np.full((1, 32, 48, 3), value, np.uint8) for value in (0, 100, 200)]
    monkeypatch.setattr(Captioner, "likelihood", lambda _, seen, text: torch.full((len(seen), 2), -9.0))
    monkeypatch.setattr(Captioner, "write", lambda _, seen: ["cube", "red ball", "blue"])
    assert best_first(choosy, pictures, [Cue("red ball", torch.ones(1))])[0] == 1


def test_the_captioner_travels_with_the_model(choosy: Models, models: Models, tmp_path: Path) -> None:
    save_models(choosy, tmp_path / "m")
    again = load_models(tmp_path / "m", "cpu")
    assert again.captioner is not None
    assert again.captioner_2 is None
    assert again.scheduler.candidates == 3
    assert again.hash != models.hash
    save_models(dataclasses.replace(choosy, captioner_2=tiny_captioner()), tmp_path / "two")
    both = load_models(tmp_path / "two", "cpu")
    assert both.captioner_2 is not None
    assert both.hash != again.hash


GRAMMAR = Grammar(
    words={
        "color": {"red": ("red",), "blue": ("blue",)},
        "shape": {"sphere": ("ball",), "box": ("cube",)},
        "motion": {"roll": ("rolls",), "fall": ("falls",)},
    },
    paraphrases={},
)


def test_two_captioners_judge_together(choosy: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    both = dataclasses.replace(choosy, captioner_2=tiny_captioner())
    likings = {id(both.captioner): [-3.0, -1.0, 0.0], id(both.captioner_2): [0.0, -4.0, -1.0]}
    monkeypatch.setattr(Captioner, "likelihood", lambda self, seen, _: torch.tensor(likings[id(self)]).clamp(min=-5)[:, None])
    monkeypatch.setattr(Captioner, "write", lambda _, seen: ["ball"] * len(seen))
    for length in (5, 1):
        clips, cues = [np.zeros((length, 32, 48, 3), np.uint8)] * 3, [Cue("red ball", torch.ones(2))]
        found = fitness(both, clips, cues)
        torch.testing.assert_close(found - found[2], torch.tensor([-1.0, -2.0, 0.0]))
        assert best_first(both, clips, cues) == [2, 0, 1]
        alone = fitness(choosy, clips, cues)
        torch.testing.assert_close(alone - alone[2], torch.tensor([-3.0, -1.0, 0.0]))


def test_what_is_named_is_set_against_what_is_not(choosy: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = dataclasses.replace(choosy, grammar=GRAMMAR)
    asked: list[str] = []

    def totals(_: Captioner, seen: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        asked.extend(texts)
        # The second picture is called an odd name, and is nothing else; the first might be a cube as well.
        likely = {"red ball rolls": [-1.0, -5.0], "red cube rolls": [-1.0, -30.0], "blue ball rolls": [-30.0, -30.0], "red ball falls": [-30.0, -5.0]}
        return torch.tensor([likely[text][int(seen[0, 0, 0])] for text in texts])

    monkeypatch.setattr(Captioner, "see", lambda _, clips: torch.stack([torch.full((2, 4), float(clip.max())) for clip in clips]))
    monkeypatch.setattr(Captioner, "totals", totals)
    monkeypatch.setattr(Captioner, "likelihood", lambda _, seen, __: torch.zeros(len(seen), 1))
    monkeypatch.setattr(Captioner, "write", lambda _, seen: ["ball"] * len(seen))
    stills = [np.full((1, 32, 48, 3), value, np.uint8) for value in (0, 1)]
    found = fitness(reads, stills, [Cue("red ball rolls", torch.ones(1))])
    assert float(found[1] - found[0]) == pytest.approx(3 * math.log(2), rel=1e-3)
    assert set(asked) == {"red ball rolls", "red cube rolls", "blue ball rolls"}  # a still does not move
    clips = [np.full((5, 32, 48, 3), value, np.uint8) for value in (0, 1)]
    found = fitness(reads, clips, [Cue("red ball rolls", torch.ones(2))])
    assert float(found[1] - found[0]) == pytest.approx(0, abs=1e-3)  # the second one might fall
    assert "red ball falls" in asked
