"""The clip of a piece shows that piece, without its bars, in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation.frames import piece_clip
from diorama.curation.manifest import Row
from diorama.errors import MediaError
from diorama.media import resize

ROW = Row(source="a", kind="video", start=0.5, end=1.5, num_frames=24, fps=24.0, width=128, height=96)


def test_frames_are_those_of_the_span(films: Callable[..., Path]) -> None:
    frames = np.concatenate([pan(0, 12), pan(1, 24), pan(2, 12)])
    clip = piece_clip(ROW, films("three.mp4", frames), fps=4.0)
    assert (clip.num_frames, clip.fps) == (4, 4.0)
    assert np.abs(clip.frames.astype(int) - frames[[12, 18, 24, 30]]).mean() < 9


def test_bars_are_left_out_and_frames_are_small(films: Callable[..., Path]) -> None:
    frames = pan(0, 36)
    row = Row(source="a", kind="video", end=1.5, num_frames=36, fps=24.0, width=128, height=96, left=0, top=16, right=128, bottom=80)
    clip = piece_clip(row, films("bars.mp4", frames), longest=64, max_frames=2)
    assert clip.frames.shape[1:] == (32, 64, 3)
    assert clip.num_frames <= 2
    assert np.abs(clip.frames[0].astype(int) - resize(frames[:1, 16:80], (64, 32))[0]).mean() < 6


def test_a_picture_is_one_frame(films: Callable[..., Path]) -> None:
    frames = pan(3, 1)
    clip = piece_clip(Row(source="a", kind="image", width=128, height=96), films("one.png", frames))
    np.testing.assert_array_equal(clip.frames, frames)


def test_a_span_past_the_end_is_refused(films: Callable[..., Path]) -> None:
    with pytest.raises(MediaError):
        piece_clip(Row(source="a", kind="video", start=90.0, end=91.0, fps=24.0, width=128, height=96), films("bars.mp4", pan(0, 36)))
