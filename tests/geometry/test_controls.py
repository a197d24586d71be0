"""Every control keeps the clip's shape and breaks it where it says, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from diorama.errors import InputError
from diorama.geometry.controls import CONTROLS, bent, mixed, negatives, noise, outlier, patched, repeated


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (7, 24, 40, 3)).astype(np.uint8)


@pytest.fixture
def other() -> np.ndarray:
    return np.full((3, 30, 30, 3), 250, np.uint8)


def test_all_five_have_the_clips_shape_and_differ_from_it(frames: np.ndarray, other: np.ndarray) -> None:
    before = frames.copy()
    made = negatives(frames, other)
    assert tuple(made) == CONTROLS
    for control in made.values():
        assert control.shape == frames.shape
        assert control.dtype == np.uint8
        assert (control != frames).any()
    assert (frames == before).all()


def test_noise_has_the_statistics_of_the_clip_and_no_two_frames_alike(frames: np.ndarray) -> None:
    made = noise(frames)
    assert np.abs(made.mean((0, 1, 2)) - frames.mean((0, 1, 2))).max() < 4
    assert np.abs(np.corrcoef(made[0].ravel().astype(float), made[1].ravel())[0, 1]) < 0.1
    assert (noise(frames) == made).all()
    assert (noise(frames, seed=1) != made).any()


def test_a_repeated_frame_is_the_middle_one(frames: np.ndarray) -> None:
    assert (repeated(frames) == frames[3]).all()


def test_an_outlier_touches_one_frame(frames: np.ndarray, other: np.ndarray) -> None:
    changed = (outlier(frames, other) != frames).any((1, 2, 3))
    assert changed.tolist() == [False, False, False, True, False, False, False]
    assert (outlier(frames, other)[3] == 250).all()
    with pytest.raises(InputError, match="at least 3"):
        outlier(frames[:2], other)


def test_a_patch_covers_the_middle_quarter_of_every_frame(frames: np.ndarray, other: np.ndarray) -> None:
    changed = (patched(frames, other) != frames).any(3)
    assert changed[:, 6:18, 10:30].all()
    assert changed.sum() == 7 * 12 * 20


def test_every_second_frame_is_mixed_in(frames: np.ndarray, other: np.ndarray) -> None:
    made = mixed(frames, other)
    assert (made[::2] == frames[::2]).all()
    assert (made[1::2] == 250).all()


def test_a_short_other_scene_plays_forward_and_back(frames: np.ndarray) -> None:
    other = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 24, 40, 3), np.uint8)
    assert mixed(frames, other)[1::2, 0, 0, 0].tolist() == [1, 1, 1]
    assert patched(frames, other)[:, 12, 20, 0].tolist() == [0, 1, 2, 1, 0, 1, 2]


def test_bending_moves_a_ramp_by_what_was_asked() -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 3, 64, 0).repeat(3, 2)[None].repeat(12, 0)
    assert (bent(ramp, pixels=0.0) == ramp).all()
    moved = (bent(ramp, pixels=16.0)[:, 16:48, 16:48].astype(float) - ramp[:, 16:48, 16:48]) / 3
    assert 1.5 < moved.std() < 4.5  # 16 pixels for a side of 256 are 4 here; between its nodes the field is smaller
    assert (bent(ramp)[0] != bent(ramp)[1]).any()
