from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diorama.errors import ConfigError, InputError
from diorama.geometry.cameras import Cameras, Capture
from diorama.geometry.gaussians import Gaussians
from diorama.geometry.image_metrics import psnr
from diorama.geometry.splat import SplatConfig, learn, render

SIZE = 40
FAST = SplatConfig(steps=120, seconds=600, max_gaussians=400, guesses=40, densify_every=20, device="cpu")


def arc(count: int) -> Cameras:
    """Cameras on an arc about the origin, three units away."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    for index, angle in enumerate(np.linspace(-0.4, 0.4, count)):
        matrices[index, :3, :3] = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
        matrices[index, 2, 3] = 3.0
    intrinsics = np.tile(np.array([[1.3 * SIZE, 0, SIZE / 2], [0, 1.3 * SIZE, SIZE / 2], [0, 0, 1.0]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=SIZE, height=SIZE)


def scene(count: int = 12, scale: float = 1.0) -> Capture:
    """Frames of a cloud of coloured balls before a grey sky, and points near their middles."""
    generator = torch.Generator().manual_seed(4)
    balls = Gaussians(
        means=scale * (1.6 * torch.rand(60, 3, generator=generator) - 0.8),
        log_scales=torch.full((60, 3), math.log(0.12 * scale)),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).repeat(60, 1),
        logits=torch.full((60,), 4.0),
        sh=3 * torch.rand(60, 1, 3, generator=generator) - 1.5,
    )
    cameras = arc(count)
    matrices = cameras.world_to_camera.copy()
    matrices[:, :3, 3] *= scale
    cameras = replace(cameras, world_to_camera=matrices)
    frames = render(balls, torch.tensor([0.6, 0.6, 0.7]), cameras)
    noise = 0.03 * scale * torch.randn(60, 3, generator=generator)
    colors = (255 * (0.5 + 0.2821 * balls.sh[:, 0]).clamp(0, 1)).byte().numpy()
    return Capture(frames=frames, cameras=cameras, points=(balls.means + noise).double().numpy(), colors=colors)


def test_frames_never_seen_are_shown() -> None:
    capture = scene()
    calls: list[int] = []
    result = learn(capture, FAST, lambda done, total: calls.append(done) if total == 1000 else None)
    assert result.views.held_out == tuple(np.flatnonzero(capture.held_out).tolist())
    truth = capture.frames[capture.held_out]
    assert result.views.renders.shape == truth.shape
    assert result.views.psnr == tuple(psnr(picture, frame) for picture, frame in zip(result.views.renders, truth, strict=True))
    flat = psnr(np.broadcast_to(capture.frames.mean((0, 1, 2)).astype(np.uint8), truth.shape), truth)
    assert result.views.mean_psnr > flat + 12
    assert result.views.mean_ssim > 0.9
    assert result.views.train_psnr > result.views.mean_psnr - 3
    assert result.views.steps == 120
    assert 100 < len(result.gaussians) <= FAST.max_gaussians
    assert calls == sorted(calls)
    assert calls[-1] == 1000
    again = render(result.gaussians, torch.tensor(result.background), capture.cameras.select(capture.held_out))
    assert np.array_equal(again, result.views.renders)


def test_one_seed_is_one_cloud() -> None:
    config = replace(FAST, steps=30)
    first, second = learn(scene(), config), learn(scene(), config)
    assert np.array_equal(first.views.renders, second.views.renders)
    other = learn(scene(), replace(config, seed=1))
    assert not np.array_equal(first.views.renders, other.views.renders)


def test_the_unit_of_length_does_not_matter() -> None:
    config = replace(FAST, steps=40)
    small, large = (learn(scene(scale=scale), config).views.mean_psnr for scale in (1.0, 50.0))
    assert small == pytest.approx(large, abs=0.5)


def test_what_moves_is_not_learned() -> None:
    """A white block wanders through the training frames; where masks name it, it leaves no trace."""
    clean = scene()
    frames, masks = clean.frames.copy(), np.ones(clean.frames.shape[:3], np.bool_)
    for index in np.flatnonzero(~clean.held_out):
        column = 2 * int(index)
        frames[index, 8:30, column : column + 14] = 255
        masks[index, 8:30, column : column + 14] = False
    dirty = replace(clean, frames=frames)
    masked, unmasked = learn(replace(dirty, masks=masks), FAST), learn(dirty, FAST)
    assert masked.views.mean_psnr > unmasked.views.mean_psnr + 3


def test_masked_pixels_of_held_out_frames_are_not_graded() -> None:
    clean = scene()
    frames, masks = clean.frames.copy(), np.ones(clean.frames.shape[:3], np.bool_)
    frames[clean.held_out, :20] = 255
    masks[clean.held_out, :20] = False
    graded = learn(replace(clean, frames=frames, masks=masks), FAST)
    whole = learn(replace(clean, frames=frames), FAST)
    assert np.array_equal(graded.views.renders, whole.views.renders)
    assert graded.views.mean_psnr > whole.views.mean_psnr + 8
    assert graded.views.mean_ssim > whole.views.mean_ssim + 0.1


def test_time_runs_out() -> None:
    result = learn(scene(), replace(FAST, steps=10**6, seconds=0.5))
    assert 0 < result.views.steps < 10**5
    assert result.views.psnr


def test_odd_input_is_refused_in_a_sentence() -> None:
    capture = scene()
    with pytest.raises(InputError, match="2 frames"):
        learn(capture.select([0, 1]), FAST)
    with pytest.raises(InputError, match="no pixel"):
        learn(replace(capture, masks=np.zeros(capture.frames.shape[:3], np.bool_)), FAST)
    with pytest.raises(InputError, match="11 pixels"):
        learn(replace(capture, frames=capture.frames[:, :8, :8], cameras=replace(capture.cameras, width=8, height=8)), FAST)


@pytest.mark.parametrize("field", ["steps", "seconds", "max_gaussians", "guesses", "ssim_weight", "mean_rate"])
def test_settings_are_checked(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        SplatConfig(**{field: -1})
