from __future__ import annotations

import math

import numpy as np
import pytest

from diorama.geometry.cameras import Cameras, Capture
from diorama.geometry.image_metrics import psnr, ssim
from diorama.geometry.views import Views, grade, mean

RENDERS = np.random.default_rng(1).integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)


def capture(masks: np.ndarray | None = None) -> Capture:
    cameras = Cameras(intrinsics=np.tile(np.eye(3), (2, 1, 1)), world_to_camera=np.tile(np.eye(4), (2, 1, 1)), width=20, height=16)
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)
    return Capture(frames=frames, cameras=cameras, points=np.zeros((0, 3)), colors=np.zeros((0, 3), np.uint8), masks=masks)


def views(signal: tuple[float, ...], likeness: tuple[float, ...]) -> Views:
    return Views(held_out=(), psnr=signal, ssim=likeness, train_psnr=0.0, steps=0, seconds=0.0, renders=RENDERS)


def test_without_masks_every_frame_has_the_metrics() -> None:
    truth = capture()
    signal, likeness = grade(truth, RENDERS)
    assert signal == pytest.approx([psnr(a, b) for a, b in zip(truth.frames, RENDERS, strict=True)])
    assert likeness == pytest.approx([ssim(a, b) for a, b in zip(truth.frames, RENDERS, strict=True)])


def test_only_the_rigid_scene_counts() -> None:
    masks = np.ones((2, 16, 20), np.bool_)
    masks[0, :, 10:], masks[1] = False, False
    truth = capture(masks)
    renders = truth.frames.copy()
    renders[0, :, 15:] += np.uint8(100)
    signal, likeness = grade(truth, renders)
    assert signal[0] == math.inf
    assert likeness[0] == pytest.approx(1)
    assert math.isnan(signal[1])
    assert math.isnan(likeness[1])


def test_means_leave_out_what_could_not_be_graded() -> None:
    found = views((20.0, math.inf, math.nan), (0.5, math.nan, 1.0))
    assert (found.mean_psnr, found.mean_ssim) == (40.0, 0.75)
    assert (views((), ()).mean_psnr, views((), ()).mean_ssim) == (0.0, 0.0)
    assert math.isnan(mean([math.nan]))
