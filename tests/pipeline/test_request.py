"""A request is checked before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest

from diorama.errors import InputError
from diorama.pipeline.request import Request, make_request
from diorama.shapes import Stride


def test_defaults_are_on_the_grid() -> None:
    request = make_request("a ball", {}, Stride())
    assert (request.width, request.height, request.num_frames, request.fps) == (128, 128, 33, 12.0)


def test_keywords_become_a_request() -> None:
    request = make_request("a ball", {"size": (176, 96), "seconds": 2.0, "fps": 8.0, "seed": 7, "solver": "heun"}, Stride())
    assert request == Request(prompt="a ball", width=176, height=96, num_frames=17, fps=8.0, seed=7, solver="heun")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (100, 128)}, "multiples of 16; the nearest size is 96x128"),
        ({"size": (512, 128)}, "3:1 to 1:3"),
        ({"size": (0, 0)}, "off the grid"),
        ({"size": "128x128"}, "for example (176, 96)"),
        ({"num_frames": 32}, "nearest number is 33"),
        ({"seconds": 0.0}, "above 0 and at most"),
        ({"seconds": 1e9}, "above 0 and at most"),
        ({"seconds": 1.0, "num_frames": 9}, "give one of them"),
        ({"fps": 0.0}, "frames per second"),
        ({"fps": float("nan"), "num_frames": 5}, "frames per second"),
        ({"num_frames": 100_001}, "limit of 600 seconds"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"steps": 0}, "0 steps"),
        ({"solver": "eulr"}, "did you mean 'euler'"),
        ({"guidance_scale": -1.0}, "guidance scale"),
        ({"guidance_interval": (0.9, 0.1)}, "guidance interval"),
        ({"negative_prompt": "x" * 30_000}, "negative prompt has 30000 characters"),
        ({"window": 1}, "window of 1 latent frames cannot roll; give at least 2"),
        ({"window": -3}, "window of -3"),
        ({"anchor": -1}, "an anchor of -1 latent frames cannot be shown; allowed is 0 (none) or more"),
        ({"guidance_scale_2": -1.0}, "guidance scale -1.0"),
        ({"cache_threshold": 1.5}, "cache threshold 1.5 is out of range"),
        ({"cache_threshold": float("nan")}, "cache threshold nan"),
        ({"guidance": 3.0}, "unknown option 'guidance'; did you mean"),
    ],
)
def test_wrong_values_get_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        make_request("a ball", options, Stride())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_second_expert_is_steered_like_the_first_unless_told() -> None:
    request = make_request("a ball", {"guidance_scale": 1.0, "guidance_rescale": 0.5}, Stride())
    assert request.late_guidance == request.guidance
    assert not request.guided
    other = make_request("a ball", {"guidance_scale": 1.0, "guidance_rescale": 0.5, "guidance_scale_2": 3.0}, Stride())
    assert (other.guidance, other.late_guidance.scale, other.late_guidance.rescale) == (request.guidance, 3.0, 0.5)
    assert other.guided
    defaults = {"guidance_scale": 4.0, "guidance_scale_2": 3.0}
    assert make_request("a ball", {}, Stride(), defaults).late_guidance.scale == 3
    assert make_request("a ball", {"guidance_scale": 6.0}, Stride(), defaults).late_guidance.scale == 6


def test_a_window_is_the_models_own_unless_given() -> None:
    assert make_request("a ball", {}, Stride()).window is None
    assert make_request("a ball", {"window": 2}, Stride()).window == 2
