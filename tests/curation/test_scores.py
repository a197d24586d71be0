"""Figures follow what they claim to measure."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from tests.curation.conftest import pan
from tests.curation.test_cuts import scanned

from diorama.curation.cuts import CutConfig, Shot, shots
from diorama.curation.manifest import Row
from diorama.curation.scores import flow_figures, score, sharpness
from diorama.media import Pixels


def shot_of(frames: Pixels) -> Shot:
    (shot,) = shots(scanned(frames), CutConfig(), gap=1 / 24)
    return shot


def row_of(frames: Pixels) -> Row:
    row = Row(source="a", kind="video", num_frames=len(frames), fps=24.0, width=frames.shape[2], height=frames.shape[1], end=len(frames) / 24)
    return score(row, shot_of(frames))


def test_motion_is_in_heights_per_second() -> None:
    slow, fast = (row_of(pan(0, 48, speed=speed)) for speed in (1, 3))
    assert slow.motion == pytest.approx(24 / 96, rel=0.3)
    assert fast.motion == pytest.approx(3 * 24 / 96, rel=0.3)
    assert slow.jitter is not None
    assert slow.jitter < 0.1


def test_a_still_is_static_and_a_small_thing_that_moves_is_not() -> None:
    still = np.repeat(pan(0, 1), 48, axis=0)
    assert row_of(still).static == 1.0
    moving = still.copy()
    for i in range(48):
        moving[i, 40:52, 2 * i : 2 * i + 12] = 255
    assert row_of(moving).static == 0.0


def test_a_camera_that_trembles_has_jitter() -> None:
    rng = np.random.default_rng(0)
    wide = pan(0, 1, size=(160, 128))[0]
    shaken = np.stack([wide[y : y + 96, x : x + 128] for y, x in rng.integers(0, 7, (48, 2))])
    steady, trembling = row_of(pan(0, 48)).jitter, row_of(shaken).jitter
    assert steady is not None
    assert trembling is not None
    assert trembling > 4 * steady + 0.2


def test_exposure() -> None:
    dark = row_of(pan(0, 24) // 10)
    bright = row_of(255 - pan(0, 24) // 10)
    assert dark.brightness is not None
    assert bright.brightness is not None
    assert dark.brightness < 0.1 < 0.9 < bright.brightness


def test_blur_takes_sharpness_and_a_wall_has_none() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128)).astype(np.uint8)
    sharp, soft = sharpness(noise), sharpness(cv2.GaussianBlur(noise, (0, 0), 4))
    assert sharp is not None
    assert soft is not None
    assert sharp > 2 * soft
    assert sharpness(np.full((64, 64), 90, np.uint8)) is None


def test_the_users_head_is_asked_inside_the_box() -> None:
    frames = pan(0, 24)
    row = dataclasses.replace(row_of(frames), left=0, top=16, right=128, bottom=80)
    assert score(row, shot_of(frames), aesthetic=lambda seen: float(seen[0].shape[0])).aesthetic == 64
    assert row_of(frames).aesthetic is None


def test_a_picture_has_no_motion() -> None:
    frames = pan(0, 1)
    row = score(Row(source="a", kind="image", num_frames=1, fps=1.0, width=128, height=96), shot_of(frames))
    assert row.motion is row.static is row.jitter is None
    assert row.brightness is not None
    assert flow_figures([], 24.0) == (None, None)
