"""The desk: what was given comes to the grid with a note, what was asked for becomes a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diorama.errors import DioramaError, InputError, MediaError
from diorama.media import Clip
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Given, Made
from diorama.pipeline.items import Guide
from diorama.pipeline.load import Models
from diorama.pipeline.request import Request


def clip(width: int, height: int, num_frames: int = 5, fps: float = 12.0) -> Clip:
    frames = np.random.default_rng(width).integers(0, 256, (num_frames, height, width, 3), np.uint8)
    return Clip(frames, fps)


@pytest.mark.parametrize(
    ("size", "seen", "fit"),
    [((128, 128), (128, 128), "stretch"), ((160, 90), (176, 96), "stretch"), ((90, 160), (96, 176), "stretch"), ((500, 50), (240, 80), "crop")],
)
def test_input_keeps_its_shape_as_nearly_as_the_grid_allows(models: Models, size: tuple[int, int], seen: tuple[int, int], fit: str) -> None:
    desk = Desk(models, {})
    source = desk.open(clip(*size))
    assert (source.placement.target, source.placement.fit, source.fps) == (seen, fit, 12.0)
    canvas = desk.canvas(desk.request("", 2, source), source)
    if fit == "stretch":
        assert (canvas.width, canvas.height) == size
    assert bool(desk.notes) == (size != seen)


@pytest.mark.parametrize(("fit", "used"), [(None, "crop"), ("crop", "crop"), ("pad", "pad"), ("stretch", "stretch")])
def test_a_size_asked_for_is_taken(models: Models, fit: Any, used: str) -> None:
    for size in ((64, 48), [64, 48]):
        desk = Desk(models, {"size": size, "fps": 8.0}, fit=fit)  # type: ignore[typeddict-item]
        source = desk.open(clip(100, 50, fps=24.0))
        assert (source.placement.target, source.placement.fit, source.fps) == ((64, 48), used, 8.0)
        assert [note.split()[1] for note in desk.notes] == ["100x50", "of"]
        assert "24 frames per second seen at 8" in desk.notes[1]
    exact = Desk(models, {"size": (64, 48)}, fit=fit)
    exact.open(clip(64, 48))
    assert exact.notes == []


@pytest.mark.parametrize("fit", [None, "crop", "pad", "stretch"])
@pytest.mark.parametrize("options", [{}, {"size": (64, 48)}], ids=str)
@pytest.mark.parametrize("scale", ["original", "model"])
def test_a_second_input_stands_as_the_first(models: Models, fit: Any, options: Any, scale: str) -> None:
    desk = Desk(models, options, fit=fit, scale=scale)
    first = desk.open(clip(101, 64))
    second = desk.open(clip(40, 90, fps=24.0), first)
    assert second.placement.target == first.placement.target
    canvas = desk.canvas(desk.request("", 2, first), first)
    # What stands in the result is what the model sees of it: of its own size, or at the model's.
    shown = second.shown(replace(canvas, fps=24.0))
    assert shown.shape == (5, canvas.height, canvas.width, 3)
    assert np.array_equal(shown, second.clip.frames if scale == "original" else second.seen(second.clip.frames))
    assert any("as the first one" in note for note in desk.notes)
    assert any("24 frames per second" in note for note in desk.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fps": 0.0}, "frames per second"),
        ({"fps": float("nan")}, "frames per second"),
        ({"fps": float("inf")}, "frames per second"),
        ({"size": (100, 50)}, "off the grid"),
        ({"size": (512, 16)}, "3:1 to 1:3"),
        ({"size": "large"}, "not understood"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(models: Models, options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Desk(models, options).open("not-there.mp4")
    assert "\n" not in str(caught.value)


def test_bad_scales_fits_and_inputs_are_refused(models: Models) -> None:
    with pytest.raises(InputError, match="allowed: original, model"):
        Desk(models, {}, scale="orginal")
    with pytest.raises(MediaError, match="did you mean 'pad'"):
        Desk(models, {}, fit="pads").open(clip(50, 50))  # type: ignore[arg-type]
    for media in ("not-there.mp4", clip(1, 1)):
        with pytest.raises(DioramaError):
            Desk(models, {}).open(media)


@pytest.mark.parametrize(("seconds", "frames"), [(1.0, 3), (2.0, 6), (0.01, 1), (1 / 3, 1), (1.34, 4), (60.0, 180)])
def test_seconds_become_latent_frames(models: Models, seconds: float, frames: int) -> None:
    assert Desk(models, {}).frames(seconds) == frames
    assert Desk(models, {"fps": 24.0}).frames(seconds / 2) == frames


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_no_time_or_too_much_is_refused(models: Models, seconds: float) -> None:
    with pytest.raises(InputError, match="seconds cannot be made"):
        Desk(models, {}).frames(seconds)


def test_encoding_gives_latents_of_the_grid(models: Models) -> None:
    desk = Desk(models, {"size": (48, 32)})
    source = desk.open(clip(48, 32, 9))
    assert desk.encode(source.head(9)).shape == (4, 3, 2, 3)
    held = desk.encode_held(source.head(1))
    assert held.shape == (4, 1, 2, 3)
    assert held.device.type == "cpu"
    assert held.dtype == torch.float32


def test_requests_take_size_from_the_input_and_length_from_the_mode(models: Models) -> None:
    desk = Desk(models, {"seed": 5, "steps": 3, "fps": 8.0})
    source = desk.open(clip(64, 64))
    assert desk.request("a ball", 4, source) == Request(prompt="a ball", num_frames=13, seed=5, steps=3, fps=8.0)
    assert desk.request("a ball", 1, source, steps=7, size=(32, 32)).steps == 7
    assert desk.request("a ball") == Request(prompt="a ball", num_frames=21, seed=5, steps=3, fps=8.0)
    for length in ({"seconds": 2.0}, {"num_frames": 9}):
        timed = Desk(models, length)  # type: ignore[arg-type]
        assert timed.request("a ball").num_frames in (25, 9)
        with pytest.raises(InputError, match="leave out seconds and num_frames"):
            timed.request("a ball", 4)
    with pytest.raises(InputError, match="limit of 600 seconds"):
        desk.request("a ball", 10_000)


def test_the_prompt_is_the_users_or_the_clips_own(models: Models) -> None:
    desk = Desk(models, {})
    made = desk.open(replace(clip(64, 64), metadata={"diorama": '{"prompt": "a ball"}'}))
    assert desk.prompt("", made) == "a ball"
    assert desk.prompt("a cube", made) == "a cube"
    assert desk.prompt("", desk.open(clip(64, 64))) == desk.prompt("") == ""


@pytest.mark.parametrize("scale", ["original", "model"])
def test_a_film_of_one_shot_has_the_canvas_of_its_scale(models: Models, scale: str) -> None:
    desk = Desk(models, {}, scale=scale)
    source = desk.open(clip(100, 60, fps=24.0))
    request = desk.request("a ball", 3, source)
    film = desk.film(request, [Guide(prompt="a ball")], [Given(source=source), Made(first=1)], source=source)
    wanted = (100, 60, 24.0) if scale == "original" else (request.width, request.height, 12.0)
    assert (film.canvas.width, film.canvas.height, film.canvas.fps) == wanted
    assert film.notes == tuple(desk.notes) != ()
    assert film.shots[0].request == request
    free = desk.film(request, [Guide(prompt="a ball")])
    assert (free.canvas.width, free.canvas.fps, free.pieces) == (request.width, 12.0, (Made(),))
