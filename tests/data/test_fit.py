"""Clips are brought to the grid without making up frames or stretching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.data.fit import GRID, Shape, fit, fitted
from diorama.data.shards import SampleInfo
from diorama.errors import DataError


def info(num_frames: int = 33, height: int = 96, width: int = 128, fps: float = 12.0) -> SampleInfo:
    return SampleInfo(
        key="k", kind="mp4", offset=0, size=0, record_offset=0, record_size=0, height=height, width=width, num_frames=num_frames, fps=fps
    )


def shape_of(clip: SampleInfo, *, area: int | None = None, fps: float | None = None, num_frames: int | None = None) -> Shape:
    return fitted(clip, area=area, fps=fps, num_frames=num_frames, name="a.tar:k")


def test_what_is_on_the_grid_stays_as_it_is() -> None:
    assert shape_of(info()) == Shape(num_frames=33, height=96, width=128, fps=12.0)
    assert shape_of(info(), area=20000, fps=30.0, num_frames=99) == shape_of(info())
    frames = np.random.default_rng(0).integers(0, 256, (33, 96, 128, 3), dtype=np.uint8)
    assert np.array_equal(fit(frames, 12.0, shape_of(info())), frames)


def test_a_camera_clip_of_any_kind_becomes_a_small_one() -> None:
    assert shape_of(info(77, 480, 640, 30.0), area=16384, fps=12.0, num_frames=33) == Shape(num_frames=29, height=112, width=144, fps=12.0)
    assert shape_of(info(109, 480, 640, 30.0), area=16384, fps=12.0, num_frames=33).num_frames == 33
    assert shape_of(info(1, 481, 641, 1.0), area=16384) == Shape(num_frames=1, height=112, width=144, fps=1.0)


@given(st.integers(1, 400), st.floats(1, 120), st.floats(1, 60), st.integers(8, 2000), st.integers(8, 2000))
def test_every_clip_fits_the_grid(num_frames: int, fps: float, wanted: float, height: int, width: int) -> None:
    shape = shape_of(info(num_frames, height, width, fps), area=16384, fps=wanted, num_frames=49)
    assert shape.num_frames % 4 == 1
    assert 1 <= shape.num_frames <= min(num_frames, 49)
    assert shape.height % GRID == shape.width % GRID == 0
    assert shape.fps == min(fps, wanted)
    assert (shape.num_frames - 1) / shape.fps <= (num_frames - 1) / fps + 1e-6  # no longer than it was


def test_frames_keep_their_times() -> None:
    frames = np.arange(61, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3)
    shape = shape_of(info(61, 32, 32, 30.0), fps=12.0)
    shown = fit(frames, 30.0, shape)[:, 0, 0, 0]
    assert shape.num_frames == 25
    assert np.abs(shown / 30.0 - np.arange(25) / 12.0).max() <= 0.5 / 30.0 + 1e-6


def test_sides_are_cropped_in_the_middle_not_stretched() -> None:
    y, x = np.mgrid[:480, :640]
    disc = ((y - 240) ** 2 + (x - 320) ** 2 < 200**2).astype(np.uint8)[None, ..., None].repeat(3, 3) * 255
    shown = fit(disc, 1.0, shape_of(info(1, 480, 640, 1.0), area=16384))[0, ..., 0] > 127
    assert abs(int(shown.any(0).sum()) - int(shown.any(1).sum())) <= 1


def test_a_size_off_the_grid_is_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"a\.tar:k is 641x480.*data\.encode\.area"):
        shape_of(info(1, 480, 641))
