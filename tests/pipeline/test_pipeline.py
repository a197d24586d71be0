"""The public class, end to end on a tiny model folder with random weights."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

import diorama
from diorama.errors import InputError
from diorama.pipeline import Pipeline
from diorama.pipeline.load import Models
from diorama.pipeline.request import Options

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


def test_image_is_one_frame_and_the_first_of_nothing_else(pipe: Pipeline) -> None:
    clip = pipe.image("a red ball", size=(32, 32), steps=2)
    assert clip.frames.shape == (1, 32, 32, 3)
    with pytest.raises(InputError, match="no length"):
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
