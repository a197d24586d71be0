"""Every mode on a tiny model: what was given stays, what was asked for is there, what cannot be is refused in a sentence."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.errors import InputError, MediaError
from diorama.media import Audio, Clip
from diorama.pipeline import Pipeline, modes
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Given, Made
from diorama.pipeline.given import LED
from diorama.pipeline.items import Guide, Keep
from diorama.pipeline.load import Models

FAST = {"steps": 2, "seed": 1, "guidance_scale": 1.0}


def moving(num_frames: int, width: int, height: int, fps: float = 12.0, *, sound: bool = False) -> Clip:
    """Return a clip whose every frame is another."""
    rows = np.linspace(0, 200, height)[:, None, None] + np.linspace(0, 40, width)[None, :, None] * np.array([1.0, 0.5, 0.2])
    frames = np.stack([(rows + 3 * i) % 256 for i in range(num_frames)]).astype(np.uint8)
    rate = 8000
    audio = Audio(samples=np.full((1, round(num_frames / fps * rate)), 0.5, np.float32), rate=rate) if sound else None
    return Clip(frames, fps, audio=audio)


@pytest.fixture
def pipe(models: Models) -> Pipeline:
    return Pipeline(models)


def test_every_mode_is_documented_and_takes_a_desk_first() -> None:
    assert list(modes.MODES) == modes.__all__
    for name, function in modes.MODES.items():
        first, *others = inspect.signature(function).parameters
        assert first == "desk", name
        assert function.__doc__, name
        assert all(f"{parameter}:" in function.__doc__ for parameter in others), name


def test_text_and_image_are_their_prompt(pipe: Pipeline, models: Models) -> None:
    film = modes.text(Desk(models, {"size": (48, 32), "num_frames": 5}), "a ball")
    assert film.shots[0].items == (Guide(prompt="a ball"),)
    assert film.pieces == (Made(),)
    still = pipe.image("a ball", size=(48, 32), **FAST)  # type: ignore[arg-type]
    assert still.frames.shape == (1, 32, 48, 3)
    with pytest.raises(InputError, match="leave out seconds"):
        pipe.run("image", "a ball", seconds=2.0)


def test_a_picture_is_the_frame_it_was_given_for(pipe: Pipeline) -> None:
    picture, other = moving(1, 90, 60), replace(moving(1, 60, 60), frames=moving(4, 60, 60).frames[3:])
    clip = pipe.animate(picture, "red ball", num_frames=17, also=[(other, 8 / 12), (picture, 16 / 12)], **FAST)
    assert clip.frames.shape == (17, 60, 90, 3)
    assert clip.fps == 12
    assert np.array_equal(clip.frames[0], picture.frames[0])
    assert np.array_equal(clip.frames[16], picture.frames[0])
    assert not np.array_equal(clip.frames[8], clip.frames[7])
    late = pipe.animate(picture, "red ball", at=8 / 12, num_frames=9, **FAST)
    assert np.array_equal(late.frames[8], picture.frames[0])
    for moment, said in ((9.0, "outside the clip"), (-1.0, "outside the clip"), (float("nan"), "outside the clip")):
        with pytest.raises(InputError, match=said):
            pipe.animate(picture, at=moment, **FAST)
    with pytest.raises(InputError, match="same time"):
        pipe.animate(picture, also=[(other, 0.01)], num_frames=9, **FAST)


@pytest.mark.parametrize(("num_frames", "fps"), [(33, 12.0), (30, 24.0), (50, 29.97), (3, 12.5), (1, 12.0), (2, 60.0)])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_extending_leaves_every_given_frame_as_it_was(pipe: Pipeline, num_frames: int, fps: float, direction: str) -> None:
    given = moving(num_frames, 50, 38, fps)
    clip = pipe.extend(given, "red ball", more=1.0, direction=direction, **FAST)
    rate = 12.0 if num_frames == 1 else fps
    added = round(12 / 12 * rate)
    before = added if direction in ("backward", "both") else 0
    assert clip.fps == rate
    assert clip.num_frames == num_frames + added * (2 if direction == "both" else 1)
    assert np.array_equal(clip.frames[before : before + num_frames], given.frames)
    with pytest.raises(InputError, match="leave out seconds"):
        pipe.extend(given, seconds=2.0, **FAST)
    with pytest.raises(InputError, match="forward, backward, both"):
        pipe.extend(given, direction="up", **FAST)


def test_extending_goes_on_by_itself_with_prompt_sound_and_metadata(pipe: Pipeline) -> None:
    first = pipe.generate("red ball", size=(48, 32), num_frames=5, **FAST)  # type: ignore[arg-type]
    again = pipe.extend(first, more=0.4, **FAST)
    assert json.loads(again.metadata["diorama"])["prompt"] == "red ball"
    assert json.loads(again.metadata["diorama"])["mode"] == "extend"
    sounding = pipe.extend(moving(12, 48, 32, sound=True), more=1.0, direction="backward", **FAST)
    assert sounding.audio is not None
    assert sounding.audio.samples.shape == (1, 16000)
    assert not sounding.audio.samples[:, :7900].any()
    assert (sounding.audio.samples[:, 8000:] == 0.5).all()


def test_a_long_extension_rolls_and_keeps(pipe: Pipeline) -> None:
    given = moving(17, 32, 32)
    clip = pipe.extend(given, "red ball", more=6.0, **FAST)
    assert clip.num_frames == 17 + 72
    assert np.array_equal(clip.frames[:17], given.frames)


def test_a_loop_of_a_prompt_has_no_first_frame(pipe: Pipeline) -> None:
    clip = pipe.loop("red ball", size=(48, 32), num_frames=17, **FAST)
    assert clip.num_frames == 16
    with pytest.raises(InputError, match="too short"):
        pipe.loop("red ball", num_frames=5, **FAST)
    with pytest.raises(MediaError, match="missing"):
        pipe.loop("missing.mp4", **FAST)
    assert pipe.loop("球" * 300, size=(32, 32), num_frames=9, **FAST).num_frames == 8


@pytest.mark.parametrize("num_frames", [17, 19, 1])
def test_a_loop_of_a_clip_keeps_it_and_comes_back_to_it(pipe: Pipeline, num_frames: int) -> None:
    given = moving(num_frames, 48, 32)
    clip = pipe.loop(given, "red ball", more=1.0, **FAST)
    assert np.array_equal(clip.frames[:num_frames], given.frames)
    assert clip.num_frames == num_frames + 12 + 3


def test_connecting_begins_and_ends_with_what_was_given(pipe: Pipeline) -> None:
    first, second = moving(20, 50, 38, 24.0), moving(15, 50, 38, 24.0)
    clip = pipe.connect(first, second, "red ball", passage=1.0, **FAST)
    assert np.array_equal(clip.frames[:20], first.frames)
    assert np.array_equal(clip.frames[-15:], second.frames)
    assert clip.num_frames == 35 + (12 + 3) * 2
    mixed = pipe.connect(first, moving(15, 30, 60, 12.0), "", passage=1.0, **FAST)
    assert mixed.frames.shape[1:] == (38, 50, 3)
    assert mixed.fps == 24


def test_inserting_keeps_all_of_the_clip_around_the_new_part(pipe: Pipeline) -> None:
    given = moving(24, 48, 32, sound=True)
    clip = pipe.insert(given, "red ball", at=0.75, more=1.0, **FAST)
    assert np.array_equal(clip.frames[:9], given.frames[:9])
    assert np.array_equal(clip.frames[-15:], given.frames[9:])
    assert clip.num_frames == 24 + 12 + 3
    assert clip.audio is not None
    for moment in (0.0, 2.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="no moment inside"):
            pipe.insert(given, at=moment, **FAST)
    with pytest.raises(InputError, match="animate it"):
        pipe.insert(moving(1, 48, 32), at=0.01, **FAST)


def test_connecting_without_a_prompt_goes_from_one_prompt_to_the_other(models: Models) -> None:
    first, second = (replace(moving(17, 48, 32), metadata={"diorama": json.dumps({"prompt": prompt})}) for prompt in ("red ball", "blue cube"))
    items = modes.connect(Desk(models, {}), first, second).shots[0].items
    one, two = (item for item in items if isinstance(item, Guide))
    assert (one.prompt, two.prompt) == ("red ball", "blue cube")
    assert one.weight is not None
    assert two.weight is not None
    assert torch.equal(one.weight + two.weight, torch.ones(len(one.weight)))
    assert float(one.weight[0]) == 1
    assert float(two.weight[-1]) == 1
    assert bool((two.weight.diff() >= 0).all())


def test_blending_is_one_clip_then_the_other(pipe: Pipeline) -> None:
    first, second = moving(33, 48, 32), Clip(255 - moving(33, 48, 32).frames, 12.0)
    clip = pipe.blend(first, second, "red ball", **FAST)
    assert clip.num_frames == 33
    assert np.array_equal(clip.frames[:5], first.frames[:5])
    assert np.array_equal(clip.frames[-5:], second.frames[-5:])
    assert not np.array_equal(clip.frames[16], first.frames[16])
    for curve in ("", "x", "0:2", "0.5", "0:0 1:nan"):
        with pytest.raises(InputError, match="curve"):
            pipe.blend(first, second, curve=curve, **FAST)
    with pytest.raises(InputError, match="no time to change"):
        pipe.blend(first, second, curve="0.5:0 0.5:1", **FAST)


def test_strength_zero_is_the_input_and_one_is_text_to_video(pipe: Pipeline) -> None:
    given = moving(17, 48, 32)
    same = pipe.edit(given, "blue cube", strength=0.0, **FAST)
    assert np.array_equal(same.frames, given.frames)
    size = modes.edit(Desk(pipe.models, {}), given, "blue cube").shots[0].request
    whole = pipe.edit(given, "blue cube", strength=1.0, scale="model", size=(size.width, size.height), **FAST)
    text = pipe.generate("blue cube", size=(size.width, size.height), num_frames=17, **FAST)  # type: ignore[arg-type]
    assert np.array_equal(whole.frames, text.frames)
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="strength"):
            pipe.edit(given, "blue cube", strength=strength, **FAST)


def test_an_edit_stays_inside_its_region(pipe: Pipeline) -> None:
    given = moving(15, 96, 64, 24.0)
    clip = pipe.edit(given, "blue cube", strength=1.0, region="0,0,48,64", **FAST)
    assert np.array_equal(clip.frames[:, :, 60:], given.frames[:, :, 60:])
    assert not np.array_equal(clip.frames[:, :, :40], given.frames[:, :, :40])
    mild, strong = (modes.remix(Desk(pipe.models, {}), given, "x", how=how).shots[0].items[1] for how in ("mild", "strong"))  # type: ignore[arg-type]
    assert mild.strength < strong.strength  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="subtle, mild, strong"):
        pipe.remix(given, "x", how="wild", **FAST)


def test_recutting_keeps_the_good_part(pipe: Pipeline) -> None:
    given = moving(48, 48, 32, 24.0)
    clip = pipe.recut(given, (0.5, 1.25), "red ball", **FAST)
    assert clip.num_frames == 8 + 18 + 16
    assert np.array_equal(clip.frames[8:26], given.frames[12:30])
    only = modes.recut(Desk(pipe.models, {}), given, (0.0, 1.0), after=0.5)
    assert [type(piece) for piece in only.pieces] == [Given, Made]
    for keep in ((1.0, 0.5), (0.0, 9.0), (-1.0, 1.0)):
        with pytest.raises(InputError, match="no part"):
            pipe.recut(given, keep, **FAST)
    for wrong in ({"before": float("nan")}, {"after": -1.0}):
        with pytest.raises(InputError, match="out of range"):
            pipe.recut(given, (0.0, 1.0), **wrong, **FAST)
    with pytest.raises(InputError, match="out of range"):
        pipe.recut(given, (0.0, float("inf")), **FAST)
    with pytest.raises(InputError, match="whole clip"):
        pipe.recut(given, (0.0, 2.0), **FAST)


@pytest.mark.parametrize(("aspect", "shape"), [("1:1", (80, 80)), ("1:2", None), ("3:1", None)])
def test_outpainting_keeps_the_picture_inside(pipe: Pipeline, aspect: str, shape: tuple[int, int] | None) -> None:
    given = moving(9, 80, 48)
    clip = pipe.outpaint(given, "red ball", aspect=aspect, **FAST)
    wanted = eval(aspect.replace(":", "/"))
    assert clip.width / clip.height == pytest.approx(wanted, rel=0.12)
    places = [
        (top, left)
        for top in range(clip.height - 48 + 1)
        for left in range(clip.width - 80 + 1)
        if np.array_equal(clip.frames[0, top : top + 48, left : left + 80], given.frames[0])
    ]
    assert len(places) == 1
    ((top, left),) = places
    assert np.array_equal(clip.frames[:, top : top + 48, left : left + 80], given.frames)
    for bad in ("wide", "1", "9:1", "1:0", "5:3"):
        with pytest.raises(InputError):
            pipe.outpaint(given, aspect=bad, **FAST)


def test_a_draft_is_finished_at_full_size(pipe: Pipeline) -> None:
    small = pipe.draft("red ball", size=(96, 64), num_frames=5, **FAST)
    assert small.frames.shape == (5, 32, 48, 3)
    film = modes.finish(Desk(pipe.models, {}), small)
    assert (film.shots[0].request.width, film.shots[0].request.height) == (96, 64)
    assert film.shots[0].request.prompt == "red ball"
    assert pipe.finish(small, size=(96, 64), **FAST).frames.shape == (5, 64, 96, 3)
    for size in ((0, 0), "big", (97, 64)):
        with pytest.raises(InputError):
            pipe.draft("red ball", size=size, **FAST)


def test_files_of_every_kind_are_taken(pipe: Pipeline, tmp_path: Path) -> None:
    given = moving(9, 48, 32, 10.0)
    for name in ("a.gif", "a.webm", "a.mp4", "frames/"):
        path = given.save(f"{tmp_path}/{name}")
        clip = pipe.extend(path, "red ball", more=0.5, **FAST)
        assert clip.num_frames == 9 + 3
    with pytest.raises(MediaError):
        pipe.extend(tmp_path / "absent.mp4", **FAST)


def test_notes_tell_what_was_done_to_the_input(models: Models) -> None:
    film = modes.extend(Desk(models, {}), moving(30, 100, 60, 24.0))
    assert any("100x60 stretched" in note for note in film.notes)
    assert any("24 frames per second seen at 12" in note for note in film.notes)
    cropped = modes.extend(Desk(models, {"size": (64, 64)}), moving(30, 100, 60, 24.0))
    assert any("cropped" in note for note in cropped.notes)
    assert (cropped.canvas.width, cropped.canvas.height) == (60, 60)


def test_what_is_given_is_kept_in_the_latent_too(models: Models) -> None:
    film = modes.extend(Desk(models, {}), moving(17, 48, 32))
    keep, led = (item for item in film.shots[0].items if isinstance(item, Keep))
    assert (keep.frame, keep.latent.shape[1], keep.noise) == (0, 5, 0)
    assert (led.frame, led.latent.shape[1]) == (5, 1)
    assert led.noise > 0


@pytest.mark.parametrize(("num_frames", "led"), [(17, [4]), (19, []), (1, [])], ids=["on the grid", "last frame repeated", "still"])
def test_a_loop_goes_on_as_its_clip_moves(models: Models, num_frames: int, led: list[int]) -> None:
    film = modes.loop(Desk(models, {}), moving(num_frames, 48, 32), more=1.0)
    kept = [item for item in film.shots[0].items if isinstance(item, Keep)]
    # the ring has no first latent frame: the one behind the clip's five is the fifth
    assert [item.frame for item in kept if item.noise == LED and item.frame > 0] == led
    assert [item.frame for item in kept if item.frame == -1] == [-1]
