"""Bars are cropped to the pixel or a little more, and dark pictures are not taken for bars."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation.borders import agree, crop_bars, find_bars, inside
from diorama.curation.cuts import Shot
from diorama.curation.manifest import Row
from diorama.curation.sources import Source
from diorama.curation.trace import TraceConfig, trace_source

ROW = Row(source="a", width=128, height=96, end=1.0)


@pytest.mark.parametrize("bars", [(0, 12, 0, 12), (16, 0, 16, 0), (8, 10, 6, 14), (0, 0, 0, 0), (0, 20, 0, 0)])
def test_bars_are_found(bars: tuple[int, int, int, int]) -> None:
    frames = pan(0, 6).copy()
    left, top, right, bottom = bars
    frames[:, :top] = 0
    frames[:, 96 - bottom :] = 4
    frames[:, :, :left] = 0
    frames[:, :, 128 - right :] = 0
    assert find_bars(list(frames)) == (bars, True)


def test_a_dark_picture_is_no_bar() -> None:
    frames = (pan(0, 6) * np.linspace(0.01, 0.5, 96)[None, :, None, None]).astype(np.uint8)
    assert find_bars(list(frames)) == ((0, 0, 0, 0), False)
    assert find_bars([np.zeros((96, 128, 3), np.uint8)]) == ((0, 0, 0, 0), False)


def test_the_box_is_even_and_in_source_pixels() -> None:
    frames = pan(0, 6).copy()
    frames[:, :13] = 0
    row, certain = crop_bars(dataclasses.replace(ROW, width=256, height=192), Shot(first=0, times=[0.0], medium=list(frames)))
    assert certain
    assert row.box == (0, 28, 256, 192)
    assert inside(row, frames[0]).min() > 0


def test_uncertain_pieces_take_the_box_of_the_others() -> None:
    rows = [dataclasses.replace(ROW, top=10, right=128, bottom=86, end=3.0), dataclasses.replace(ROW, right=128, bottom=96), ROW]
    assert [row.box for row in agree(rows, [True, False, False])] == [(0, 10, 128, 86), (0, 10, 128, 86), (0, 0, 128, 96)]
    assert agree(rows, [False, False, False]) == rows


@pytest.mark.parametrize(
    ("name", "expected"),
    [("moviepy__chaplin.mp4", (72, 0, 568, 360)), ("cosmos-curate__test_video_30s.mp4", (0, 58, 854, 422)), ("flutter__bee.mp4", (0, 0, 1280, 720))],
)
def test_bars_of_real_films_are_cropped(shared: Path, name: str, expected: tuple[int, int, int, int]) -> None:
    path = shared / "video" / name
    rows = trace_source(Source(name=name, address=str(path), bytes=-1, facts={}), TraceConfig())
    boxes = {row.box for row in rows if not row.fate}
    assert len(boxes) == 1
    assert np.abs(np.subtract(boxes.pop(), expected)).max() <= 6
