"""The public class, end to end on a tiny model folder with random weights."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diorama
from diorama.errors import InputError
from diorama.interop.lora import Change, Lora, save_lora
from diorama.interop.quantise import WeightOnlyLinear
from diorama.interop.settings import Settings
from diorama.pipeline import Pipeline, modes
from diorama.pipeline.film import Film, Made
from diorama.pipeline.items import Guide
from diorama.pipeline.load import Models
from diorama.pipeline.request import Options, Request
from diorama.pipeline.source import Canvas

QUICK: Options = {"size": (48, 32), "num_frames": 5, "steps": 2}


@pytest.fixture(scope="module")
def pipe(models: Models) -> Pipeline:
    return Pipeline(models)


def test_the_package_gives_the_class_and_its_version() -> None:
    assert diorama.Pipeline is Pipeline
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert diorama.__version__ == project["project"]["version"]
    with pytest.raises(AttributeError, match="Pipline"):
        _ = diorama.Pipline


def test_same_seed_same_frames_from_two_loads(folder: Path) -> None:
    one, two = (Pipeline.load(folder, "cpu").generate("a red ball", seed=7, **QUICK) for _ in range(2))
    assert np.array_equal(one.frames, two.frames)
    assert one.metadata == two.metadata


def test_settings_and_loras_are_given_in_python_too(folder: Path, tmp_path: Path) -> None:
    rounded = Pipeline.load(folder, "cpu", settings=Settings(quantise="int8", tile=32))
    assert rounded.models.tile == 32
    assert any(isinstance(module, WeightOnlyLinear) for module in rounded.models.transformer.modules())
    generator = torch.Generator().manual_seed(0)
    change = Change(down=torch.randn(2, 32, generator=generator), up=torch.randn(32, 2, generator=generator))
    file = save_lora(Lora(changes={"blocks.1.attn1.to_v": change}), tmp_path / "a.safetensors")
    assert Pipeline.load(folder, "cpu", loras=[f"{file}:0.5"]).hash != Pipeline.load(folder, "cpu").hash
    with pytest.raises(InputError, match=r"dtype torch\.float32 is given beside settings or LoRAs"):
        Pipeline.load(folder, "cpu", torch.float32, settings=Settings())


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (48, 48)])
def test_landscape_portrait_and_square(pipe: Pipeline, size: tuple[int, int]) -> None:
    clip = pipe.generate("a red ball", size=size, seconds=1.0, fps=8.0, steps=1)
    assert (clip.width, clip.height, clip.num_frames, clip.fps) == (*size, 9, 8.0)


def test_seed_prompt_negative_prompt_and_rate_matter(pipe: Pipeline) -> None:
    base = pipe.generate("a red ball", **QUICK).frames
    changes: list[tuple[str, Options]] = [
        ("a blue cube", {}),
        ("a red ball", {"seed": 1}),
        ("a red ball", {"negative_prompt": "a blue cube"}),
        ("a red ball", {"fps": 24.0}),
        ("a red ball", {"guidance_scale": 8.0}),
    ]
    for prompt, change in changes:
        assert not np.array_equal(base, pipe.generate(prompt, **{**QUICK, **change}).frames), (prompt, change)


def test_image_is_one_frame(pipe: Pipeline) -> None:
    clip = pipe.image("a red ball", size=(32, 32), steps=2)
    assert clip.frames.shape == (1, 32, 32, 3)
    with pytest.raises(InputError, match="leave out seconds"):
        pipe.image("a red ball", seconds=2.0)


def test_variations_equal_the_single_clips(pipe: Pipeline) -> None:
    several = list(pipe.variations("a red ball", 2, seed=3, **QUICK))
    for seed, clip in zip((3, 4), several, strict=True):
        assert np.array_equal(clip.frames, pipe.generate("a red ball", seed=seed, **QUICK).frames)
    with pytest.raises(InputError, match="at least 1"):
        next(pipe.variations("a red ball", 0))


def test_metadata_says_how_it_was_made(pipe: Pipeline) -> None:
    made = json.loads(pipe.generate("a red ball", negative_prompt="cube", seed=5, **QUICK).metadata["diorama"])
    assert made["prompt"] == "a red ball"
    assert made["negative_prompt"] == "cube"
    assert (made["seed"], made["steps"], made["width"]) == (5, 2, 48)
    assert made["model"] == pipe.hash
    assert made["version"] == diorama.__version__


def test_options_are_checked(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="off the grid"):
        pipe.generate("a red ball", size=(100, 100))
    with pytest.raises(InputError, match="did you mean 'seed'"):
        pipe.generate("a red ball", sed=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("mode", "given", "keywords", "said"),
    [
        ("extnd", (), {}, "unknown mode 'extnd'; did you mean 'extend'"),
        ("zzz", (), {}, "allowed: animate, "),
        ("extend", ("a.mp4",), {"directon": "both"}, "unknown option 'directon' of extend; did you mean 'direction'"),
        ("extend", (), {}, "extend missing a required argument: 'clip'; it takes clip, prompt"),
        ("extend", ("a.mp4", "b", "c"), {}, "too many positional arguments"),
        ("extend", ("a.mp4",), {"clip": "b.mp4"}, "multiple values for argument 'clip'"),
        ("text", ("a ball",), {"scale": "big"}, "allowed: original, model"),
    ],
)
def test_a_wrong_call_gets_one_sentence(pipe: Pipeline, mode: str, given: tuple[str, ...], keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        pipe.film(mode, *given, **keywords)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mode_is_a_method(pipe: Pipeline) -> None:
    for name, function in modes.MODES.items():
        assert name in dir(pipe)
        assert callable(getattr(pipe, name))
        if name not in vars(Pipeline):
            assert getattr(pipe, name).__doc__ == function.__doc__
    with pytest.raises(AttributeError, match="no 'extnd'"):
        _ = pipe.extnd


def test_a_film_is_planned_without_being_made(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipe.models.transformer, "forward", None)
        film = pipe.film("text", "a red ball", **QUICK)
    clip = pipe.shoot(film, mode="text")
    assert np.array_equal(clip.frames, pipe.generate("a red ball", **QUICK).frames)


def test_several_shots_are_made_in_order_with_their_notes_once(pipe: Pipeline) -> None:
    shot = pipe.film("text", "red ball " * 50, **QUICK).shots[0]
    other = dataclasses.replace(shot, request=dataclasses.replace(shot.request, seed=1))
    canvas = Canvas(width=48, height=32, fps=12.0)
    film = Film(shots=(shot, other), pieces=(Made(shot=1), Made(shot=0)), canvas=canvas, notes=("a note",))
    stages: list[str] = []
    clip = pipe.shoot(film, progress=lambda stage, done, total: stages.append(stage) if done == total else None)
    assert stages == ["denoise", "decode"] * 2
    one, two = (pipe.shoot(dataclasses.replace(film, pieces=(Made(shot=i),))).frames for i in range(2))
    assert not np.array_equal(one, two)
    assert np.array_equal(clip.frames, np.concatenate([two, one]))
    notes = json.loads(clip.metadata["diorama"])["notes"]
    assert notes[0] == "a note"
    assert len(notes) == len(set(notes)) == 2


def test_items_of_ones_own_make_a_clip(pipe: Pipeline) -> None:
    request = Request(prompt="a red ball", width=48, height=32, num_frames=5, steps=2)
    clip = pipe.make(request, [Guide(prompt="a red ball")])
    assert np.array_equal(clip.frames, pipe.generate("a red ball", **QUICK).frames)
    assert clip.fps == 12.0
    assert json.loads(clip.metadata["diorama"])["mode"] == "film"


def test_rewrite_uses_the_words_of_the_model(pipe: Pipeline) -> None:
    dense = pipe.rewrite("a crimson orb", seed=1)
    assert "red ball" in dense
    assert "camera" in dense
    assert dense == pipe.rewrite("a crimson orb", seed=1)
    with pytest.raises(InputError, match="no grammar"):
        Pipeline(dataclasses.replace(pipe.models, grammar=None)).rewrite("a ball")


def test_save_and_load(pipe: Pipeline, tmp_path: Path) -> None:
    pipe.save(tmp_path / "model")
    again = Pipeline.load(tmp_path / "model", "cpu")
    assert again.hash == pipe.hash
    assert again.models.grammar == pipe.models.grammar
