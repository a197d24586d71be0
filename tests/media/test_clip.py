from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diorama.errors import MediaError
from diorama.media import Clip, read_clip


def test_sizes_come_from_the_frames() -> None:
    clip = Clip(np.zeros((6, 16, 32, 3), np.uint8), 12.0)
    assert (clip.num_frames, clip.height, clip.width, clip.seconds) == (6, 16, 32, 0.5)


@pytest.mark.parametrize("frames", [np.zeros((0, 4, 4, 3), np.uint8), np.zeros((1, 4, 4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.float32)])
def test_other_frames_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"\[T, H, W, 3\]"):
        Clip(frames, 12.0)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), 1e6])
def test_impossible_rates_are_refused(fps: float) -> None:
    with pytest.raises(MediaError, match="frames a second"):
        Clip(np.zeros((1, 4, 4, 3), np.uint8), fps)


def test_save_writes_a_file(tmp_path: Path) -> None:
    path = Clip(np.full((5, 16, 16, 3), 90, np.uint8), 12.0).save(tmp_path / "clip.mp4", quality=90)
    assert read_clip(path).num_frames == 5
