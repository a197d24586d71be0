"""The loop on a tiny model: kept parts, cues, progress, memory."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diorama import runtime
from diorama.autoencoder import decode_evenly
from diorama.errors import InputError, TooLargeError
from diorama.flow import Window, roll
from diorama.media import Clip, to_tensor
from diorama.pipeline.generate import _around, decode, denoise, encode, encode_held, generate, memory_needed, prepare
from diorama.pipeline.items import Guide, Item, Keep, Region, Ring, StartFrom
from diorama.pipeline.load import Models
from diorama.pipeline.request import Request

REQUEST = Request(prompt="red ball", width=48, height=32, num_frames=9, steps=3)


def known(models: Models) -> torch.Tensor:
    return torch.randn(models.autoencoder.config.latent_channels, 3, 2, 3, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("solver", ["euler", "heun", "multistep"])
def test_kept_parts_come_out_bit_equal(models: Models, solver: str) -> None:
    given = known(models)
    request = Request(prompt="red ball", width=48, height=32, num_frames=9, steps=2, solver=solver)  # type: ignore[arg-type]
    first = denoise(models, request, prepare(models, request, [Guide(prompt="red ball"), Keep(latent=given[:, :1])]))[0]
    assert torch.equal(first[:, :1], given[:, :1])
    assert not torch.equal(first[:, 1:], given[:, 1:])
    mask = torch.zeros(2, 3)
    mask[0, 0] = 1
    region = [StartFrom(latent=given, strength=0.7), Region(mask=mask), Guide(prompt="red ball")]
    inside = denoise(models, request, prepare(models, request, region))[0]
    assert torch.equal(inside[..., 1:], given[..., 1:])
    assert torch.equal(inside[:, :, 1], given[:, :, 1])
    assert (inside[:, :, 0, 0] != given[:, :, 0, 0]).all()


def test_strength_zero_is_the_input_and_one_is_the_prompt_alone(models: Models) -> None:
    given, guide = known(models), Guide(prompt="red ball")
    none = denoise(models, REQUEST, prepare(models, REQUEST, [StartFrom(latent=given, strength=0.0), guide]))[0]
    assert torch.equal(none, given)
    whole = denoise(models, REQUEST, prepare(models, REQUEST, [StartFrom(latent=given, strength=1.0), guide]))[0]
    assert torch.equal(whole, denoise(models, REQUEST, prepare(models, REQUEST, [guide]))[0])


def test_a_cue_of_no_weight_says_nothing(models: Models) -> None:
    both = [Guide(prompt="red ball"), Guide(prompt="blue cube", weight=torch.zeros(3))]
    alone = denoise(models, REQUEST, prepare(models, REQUEST, both[:1]))[0]
    torch.testing.assert_close(denoise(models, REQUEST, prepare(models, REQUEST, both))[0], alone, atol=0.02, rtol=0.02)
    other = denoise(models, REQUEST, prepare(models, REQUEST, [both[0], Guide(prompt="blue cube")]))[0]
    assert not torch.allclose(other, alone, atol=0.02)


def test_with_and_without_the_prompt_are_evaluated_side_by_side(models: Models, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set[str]()
    own = models.transformer.forward
    monkeypatch.setattr(models.transformer, "forward", lambda *given: (names.add(threading.current_thread().name), own(*given))[1])
    state = prepare(models, REQUEST, [Guide(prompt="red ball")])
    shared = denoise(models, REQUEST, state)[0]
    assert threading.current_thread().name not in names
    assert torch.equal(denoise(models, REQUEST, state)[0], shared)
    names.clear()
    torch.set_num_threads(1)
    torch.testing.assert_close(denoise(models, REQUEST, state)[0], shared, atol=0.02, rtol=0.02)
    assert names == {threading.current_thread().name}


def test_guidance_one_ignores_the_negative_prompt(models: Models) -> None:
    def latent(scale: float, negative: str) -> torch.Tensor:
        request = Request(prompt="red ball", negative_prompt=negative, width=32, height=32, num_frames=5, steps=2, guidance_scale=scale)
        return denoise(models, request, prepare(models, request, [Guide(prompt="red ball")]))[0]

    assert torch.equal(latent(1.0, "ball"), latent(1.0, "cube"))
    assert not torch.equal(latent(4.0, "ball"), latent(4.0, "cube"))


def test_streamed_decode_is_the_whole_as_it_is_shown(models: Models) -> None:
    given = known(models)
    with torch.inference_mode(), runtime.autocast(models.device):
        whole = decode_evenly(models.autoencoder, given[None])
        raw = models.autoencoder.decode(given[None])
    frames = decode(models, given, 12.0)
    assert frames.shape == (9, 32, 48, 3)
    assert abs(frames.astype(int) - whole[0].add(1).mul(127.5).permute(1, 2, 3, 0).numpy()).max() <= 2
    assert abs(frames.astype(int) - raw[0].add(1).mul(127.5).permute(1, 2, 3, 0).numpy()).max() > 2


def test_progress_names_both_stages(models: Models) -> None:
    calls: list[tuple[str, int, int]] = []
    generate(models, REQUEST, [Guide(prompt="red ball")], progress=lambda *step: calls.append(step))
    assert calls == [("denoise", i, 3) for i in range(4)] + [("decode", i, 3) for i in range(4)]


def test_too_long_a_prompt_is_noted(models: Models) -> None:
    assert generate(models, REQUEST, [Guide(prompt="red ball")])[1] == []
    assert "left out" in generate(models, REQUEST, [Guide(prompt="red ball " * 50)])[1][0]


def test_off_the_grid_is_refused(models: Models) -> None:
    with pytest.raises(InputError, match="nearest size is 32x32"):
        generate(models, Request(prompt="", width=40, height=32), [])


def test_no_prompt_at_all_is_a_bug_of_the_mode(models: Models) -> None:
    with pytest.raises(AssertionError, match="Guide"):
        generate(models, REQUEST, [])


def test_memory_grows_with_the_request_and_is_checked_first(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Request(prompt="", width=1920, height=1088, num_frames=481)
    assert memory_needed(models, large) > memory_needed(models, REQUEST)
    monkeypatch.setattr(runtime, "available_memory", lambda device: 10_000_000)
    with pytest.raises(TooLargeError, match="ask for less than 481 frames of 1920x1088"):
        generate(models, large, [Guide(prompt="red ball")])


@pytest.mark.parametrize("num_frames", [1, 5, 17, 21, 33])
def test_chunked_encoding_is_the_whole(models: Models, num_frames: int) -> None:
    frames = np.random.default_rng(num_frames).integers(0, 256, (num_frames, 32, 48, 3), np.uint8)
    with torch.inference_mode(), runtime.autocast(models.device):
        whole = models.autoencoder.encode(to_tensor(Clip(frames, 1.0)))[0]
    latent = encode(models, frames)
    assert latent.shape == (4, 1 + (num_frames - 1) // 4, 2, 3)
    assert latent.dtype == torch.float32
    assert not latent.is_inference()
    torch.testing.assert_close(latent, whole.float(), atol=0.02, rtol=0.02)


def test_a_held_frame_is_a_later_one_of_a_clip_that_stands_still(models: Models) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    held, still = encode_held(models, frame), encode(models, np.repeat(frame, 41, axis=0))
    assert held.shape == (4, 1, 2, 3)
    later, first = still[:, 3:], still[:, :1]
    torch.testing.assert_close(held.expand(4, 8, 2, 3), later, atol=0.1 * float(later.std()), rtol=0.0)
    assert (held - later).abs().max() < (held - first).abs().max()


@pytest.mark.parametrize("num_latents", [1, 2, 7, 15])
def test_a_ring_decodes_alike_wherever_it_is_cut(models: Models, num_latents: int) -> None:
    latent = torch.randn(4, num_latents, 2, 3, generator=torch.Generator().manual_seed(3))
    frames = decode(models, latent, 12.0, ring=True)
    assert frames.shape == (4 * num_latents, 32, 48, 3)
    assert len(np.unique(frames)) > 100
    for turn in range(num_latents):
        turned = decode(models, latent.roll(turn, dims=1), 12.0, ring=True)
        assert np.abs(turned.astype(int) - np.roll(frames, 4 * turn, axis=0)).max() <= 1
    calls: list[tuple[str, int, int]] = []
    decode(models, latent, 12.0, lambda *step: calls.append(step), ring=True)
    assert calls == [("decode", i, num_latents) for i in range(num_latents + 1)]


@pytest.mark.parametrize(("num_frames", "window"), [(1, 2), (2, 9), (4, 9), (8, 9), (9, 9), (20, 9), (8, 3), (7, 2), (13, 100)])
@pytest.mark.parametrize("both", [True, False])
def test_every_frame_of_a_ring_comes_home(num_frames: int, window: int, both: bool) -> None:
    x = torch.arange(num_frames, dtype=torch.float32)[None, :, None, None].expand(2, num_frames, 1, 1)
    borders: set[int] = set()

    def pair(shown: Tensor, times: Tensor, both: bool, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        assert len(frames) <= max(2, window)
        assert torch.equal(shown[0, :, 0, 0], frames.float())
        assert torch.equal(times, shown[0] / 100)
        # A run without a break, the end before the beginning.
        assert ((frames[1:] - frames[:-1]) % num_frames).eq(1 % num_frames).all()
        borders.add(int(frames[1]))
        return shown, -shown if both else None

    velocity = _around(pair, num_frames, window)
    for _ in range(24):
        conditional, negative = velocity(x, x[0] / 100, both)
        assert torch.equal(conditional, x)
        assert (negative is not None) == both
        assert negative is None or torch.equal(negative, -x)
    # The cuts are everywhere, so that no place is special.
    assert borders == set(range(num_frames))


def test_a_ring_is_sampled_alike_wherever_it_begins() -> None:
    x = torch.randn(3, 8, 2, 2, generator=torch.Generator().manual_seed(0))

    def neighbours(shown: Tensor, times: Tensor, both: bool, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        return shown + torch.cat([torch.zeros_like(shown[:, :1]), shown[:, :-1]], dim=1), None

    times = torch.ones(8, 2, 2)
    answer = _around(neighbours, 8, 9)(x, times, False)[0]
    torch.testing.assert_close(answer, x + x.roll(1, dims=1))


def sees(models: Models, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of frames of every look of the model."""
    looks: list[int] = []
    pack = models.transformer.pack

    def recorded(clips: list[Tensor], *given: Any, **named: Any) -> Any:
        looks.append(clips[0].shape[1])
        return pack(clips, *given, **named)

    monkeypatch.setattr(models.transformer, "pack", recorded)
    return looks


@pytest.mark.parametrize(("ring", "window", "limit"), [(True, None, 9), (True, 4, 4), (False, None, 9), (False, 4, 4), (False, 2, 2), (True, 2, 2)])
def test_a_long_clip_is_seen_through_a_window_and_keeps_what_was_given(
    models: Models, monkeypatch: pytest.MonkeyPatch, ring: bool, window: int | None, limit: int
) -> None:
    num_latents = 14 - ring
    request = Request(prompt="red ball", width=32, height=32, num_frames=53, steps=2, window=window)
    given = torch.randn(4, num_latents, 2, 2, generator=torch.Generator().manual_seed(5))
    keeps: list[Item] = [Keep(latent=given[:, :2]), Keep(latent=given[:, -1:], frame=-1), Keep(latent=given[:, 6:7, :1], frame=6)]
    guide = Guide(prompt="red ball", weight=torch.ones(num_latents))
    state = prepare(models, request, [*([Ring()] if ring else []), guide, *keeps])
    looks, calls = sees(models, monkeypatch), list[tuple[str, int, int]]()
    latent = denoise(models, request, state, lambda *step: calls.append(step))[0]
    assert max(looks) == limit
    kept = (state.start == 0).expand_as(latent)
    assert torch.equal(latent[kept], given[kept])
    assert (latent[~kept] != state.noise[~kept]).all()
    assert latent.isfinite().all()
    assert [done for _, done, _ in calls] == list(range(calls[0][2] + 1))


def test_a_clip_that_fits_the_window_is_sampled_at_once(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(prompt="red ball", width=32, height=32, num_frames=33, steps=2)
    looks = sees(models, monkeypatch)
    state = prepare(models, request, [Guide(prompt="red ball")])
    latents = [denoise(models, dataclasses.replace(request, window=window), state)[0] for window in (None, 9, 100)]
    assert set(looks) == {9}
    assert all(torch.equal(latent, latents[0]) for latent in latents)
    free = dataclasses.replace(models, scheduler=dataclasses.replace(models.scheduler, window=None))
    long = dataclasses.replace(request, num_frames=53)
    denoise(free, long, prepare(free, long, [Guide(prompt="red ball")]))
    assert looks[-1] == 14


@pytest.mark.parametrize(
    ("items", "asked", "shown"),
    [
        ([], None, 2),
        ([], 1, 1),
        ([], 0, 0),
        ([Keep(latent=torch.zeros(4, 3, 2, 2))], None, 2),
        ([Keep(latent=torch.zeros(4, 1, 2, 2), frame=-1)], None, 0),  # an end is given
        ([Guide(prompt="blue cube", weight=torch.arange(14.0))], 2, 0),  # another prompt takes over
    ],
)
def test_a_long_clip_is_anchored_where_it_goes_on_as_it_began(
    models: Models, monkeypatch: pytest.MonkeyPatch, items: list[Item], asked: int | None, shown: int
) -> None:
    anchored = dataclasses.replace(models, scheduler=dataclasses.replace(models.scheduler, anchor=2))
    request = Request(prompt="red ball", width=32, height=32, num_frames=53, steps=1, anchor=asked)
    windows: list[Window] = []

    def recorded(velocity: Any, x: Tensor, start: Tensor, visited: Tensor, window: Window, **named: Any) -> Tensor:
        windows.append(window)
        return roll(velocity, x, start, visited, window, **named)

    monkeypatch.setattr(sys.modules[denoise.__module__], "roll", recorded)
    denoise(anchored, request, prepare(anchored, request, [Guide(prompt="red ball", weight=torch.ones(14)), *items]))
    assert [window.anchor for window in windows] == [shown]


def test_context_noise_leaves_given_frames_as_they_are(models: Models) -> None:
    noisy = dataclasses.replace(models, scheduler=dataclasses.replace(models.scheduler, context_noise=0.1))
    request = Request(prompt="red ball", width=32, height=32, num_frames=53, steps=2)
    given = torch.randn(4, 5, 2, 2, generator=torch.Generator().manual_seed(5))
    state = prepare(models, request, [Guide(prompt="red ball"), Keep(latent=given)])
    one, again, without = (denoise(parts, request, state)[0] for parts in (noisy, noisy, models))
    assert torch.equal(one[:, :5], given)
    assert torch.equal(one, again)
    assert not torch.equal(one, without)


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("num_frames", [9, 53])
def test_nothing_to_do_is_not_done(models: Models, monkeypatch: pytest.MonkeyPatch, ring: bool, num_frames: int) -> None:
    def never(*given: Any) -> Iterator[Tensor]:
        raise AssertionError("the transformer was called")

    monkeypatch.setattr(models.transformer, "forward", never)
    request = Request(prompt="red ball", width=48, height=32, num_frames=num_frames, steps=2)
    num_latents = 1 + (num_frames - 1) // 4 - ring
    given = torch.randn(4, num_latents, 2, 3, generator=torch.Generator().manual_seed(5))
    items = [*([Ring()] if ring else []), Guide(prompt="red ball", weight=torch.ones(num_latents)), StartFrom(latent=given, strength=0.0)]
    assert torch.equal(denoise(models, request, prepare(models, request, items))[0], given)


def test_a_ring_comes_out_four_frames_to_a_latent(models: Models) -> None:
    request = Request(prompt="red ball", width=32, height=32, num_frames=17, steps=2)
    items = [Ring(), Guide(prompt="red ball", weight=torch.ones(4))]
    frames, notes = generate(models, request, items)
    assert frames.shape == (16, 32, 32, 3)
    assert notes == []
    assert np.array_equal(frames, generate(models, request, items)[0])


def test_memory_grows_with_the_window_not_with_the_length(models: Models) -> None:
    def needed(num_frames: int, window: int | None = None) -> int:
        return memory_needed(models, Request(prompt="", width=256, height=256, num_frames=num_frames, window=window))

    frame = 256 * 256 * 3
    # What a longer clip takes is its frames alone, 10 bytes a value at most.
    for window in (None, 4, 20):
        assert 0 < needed(401, window) - needed(201, window) <= 200 * frame * 10
    assert needed(401, 90) - needed(401, 30) > 2 * (needed(401, 30) - needed(401, 20))
    assert needed(17, 9) == needed(17, 50) == needed(17)


def test_a_still_is_made_first_and_then_animated(models: Models) -> None:
    guide: list[Item] = [Guide(prompt="red ball")]
    both = [dataclasses.replace(REQUEST, still_first=wanted) for wanted in (False, True)]
    together, first = (denoise(models, request, prepare(models, request, guide))[0] for request in both)
    request = dataclasses.replace(REQUEST, num_frames=1)
    one = denoise(models, request, prepare(models, request, guide))[0]
    assert torch.equal(first[:, :1], one)
    assert not torch.equal(together[:, :1], one)
    animated = denoise(models, REQUEST, prepare(models, REQUEST, [*guide, Keep(latent=one)]))[0]
    assert torch.equal(first, animated)


def test_the_scheduler_says_whether_a_still_comes_first(models: Models) -> None:
    guide: list[Item] = [Guide(prompt="red ball")]
    prefers = dataclasses.replace(models, scheduler=dataclasses.replace(models.scheduler, still_first=True))
    asked = dataclasses.replace(REQUEST, still_first=True)
    assert torch.equal(denoise(prefers, REQUEST, prepare(prefers, REQUEST, guide))[0], denoise(models, asked, prepare(models, asked, guide))[0])
    stages: set[str] = set()
    given: list[Item] = [*guide, Keep(latent=known(models)[:, :1])]
    denoise(prefers, REQUEST, prepare(prefers, REQUEST, given), lambda stage, *_: stages.add(stage))
    assert stages == {"denoise"}


def skipped(notes: list[str]) -> tuple[int, int]:
    (note,) = notes
    words = note.split()
    return int(words[words.index("in") + 1]), int(words[words.index("of") + 1])


@pytest.mark.parametrize(("num_frames", "window"), [(9, None), (33, 4)])
def test_residual_caching_leaves_out_blocks_of_one_request(models: Models, num_frames: int, window: int | None) -> None:
    """No skip changes no bit; a large threshold skips, also from window to window; and no request knows of the one before."""
    request = Request(prompt="red ball", width=32, height=32, num_frames=num_frames, steps=6, window=window)
    guide: list[Item] = [Guide(prompt="red ball")]

    def made(request: Request, threshold: float) -> tuple[Tensor, list[str]]:
        request = dataclasses.replace(request, cache_threshold=threshold)
        return denoise(models, request, prepare(models, request, guide))

    plain, none = made(request, 0.0)
    assert none == []
    never, notes = made(request, 1e-12)
    assert torch.equal(never, plain)
    total = skipped(notes)[1]
    assert skipped(notes) == (0, total)
    much, notes = made(request, 1.0)
    assert not torch.equal(much, plain)
    # Every window begins with an evaluation of its own.
    assert total // 2 <= skipped(notes)[0] < total
    made(dataclasses.replace(request, seed=1, prompt="blue cube"), 1.0)
    again, told = made(request, 1.0)
    assert torch.equal(again, much)
    assert told == notes


def test_a_scale_for_a_second_expert_needs_one(models: Models) -> None:
    request = dataclasses.replace(REQUEST, guidance_scale_2=2.0)
    with pytest.raises(InputError, match="leave it out"):
        denoise(models, request, prepare(models, request, [Guide(prompt="red ball")]))


def test_residual_caching_keeps_given_parts_and_leaves_a_ring_whole(models: Models) -> None:
    request = dataclasses.replace(REQUEST, steps=6, cache_threshold=1.0)
    given = known(models)[:, :1]
    items: list[Item] = [Guide(prompt="red ball"), Keep(latent=given)]
    latent, notes = denoise(models, request, prepare(models, request, items))
    assert torch.equal(latent[:, :1], given)
    assert skipped(notes)[0] > 0
    ring: list[Item] = [Ring(), Guide(prompt="red ball", weight=torch.ones(2))]
    cached, whole = (denoise(models, one, prepare(models, one, ring)) for one in (request, dataclasses.replace(request, cache_threshold=0.0)))
    assert torch.equal(cached[0], whole[0])
    assert cached[1] == []
