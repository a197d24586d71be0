from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.errors import InputError
from diorama.shapes import MAX_SECONDS, Stride, VideoShape, num_frames_for, parse_size

STRIDE = Stride(time=4, space=16)


def test_parse_size() -> None:
    assert parse_size("1280x720") == (1280, 720)
    assert parse_size(" 96 X 176 ") == (96, 176)


@pytest.mark.parametrize("text", ["", "128", "128x", "axb", "-16x16", "16x16x16", "1.5x2", "9999999x16"])
def test_bad_size_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match="width x height"):
        parse_size(text)


@pytest.mark.parametrize(
    ("width", "height", "frames", "message"),
    [
        (100, 96, 33, "nearest size is 96x96"),
        (0, 16, 33, "nearest size is 16x16"),
        (512, 128, 33, "4.00:1"),
        (128, 128, 34, "nearest number is 33"),
        (128, 128, 0, "nearest number is 1"),
    ],
)
def test_off_grid_is_refused_with_the_nearest(width: int, height: int, frames: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        VideoShape(num_frames=frames, height=height, width=width).check(STRIDE)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 50))
def test_latent_shape_inverts_the_grid(w: int, h: int, k: int) -> None:
    shape = VideoShape(num_frames=1 + 4 * k, height=16 * h, width=16 * w)
    if max(w / h, h / w) <= 3:
        assert shape.check(STRIDE) is shape
    assert shape.latent(STRIDE) == (1 + k, h, w)


@given(st.floats(0.01, MAX_SECONDS), st.floats(1, 60))
def test_num_frames_is_on_the_grid_and_near_the_duration(seconds: float, fps: float) -> None:
    frames = num_frames_for(seconds, fps, STRIDE)
    assert frames >= 1
    assert (frames - 1) % 4 == 0
    assert abs(frames - seconds * fps) <= 2 + 1e-6 or frames == 1


def test_default_clip_is_33_frames() -> None:
    assert num_frames_for(2.75, 12, STRIDE) == 33


@pytest.mark.parametrize("seconds", [0, -1, MAX_SECONDS + 1, math.nan, math.inf])
def test_bad_seconds(seconds: float) -> None:
    with pytest.raises(InputError, match="seconds cannot be made"):
        num_frames_for(seconds, 12, STRIDE)


def test_bad_fps() -> None:
    with pytest.raises(InputError, match="frames per second"):
        num_frames_for(1, 0, STRIDE)
