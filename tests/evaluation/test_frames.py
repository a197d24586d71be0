"""Known values and symmetries of the frame measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diorama.errors import InputError
from diorama.evaluation.frames import as_video, difference, flicker, judder, psnr, ssim


def _noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_both_forms_agree() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), dtype=np.uint8)
    floats = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    assert torch.allclose(as_video(frames), as_video(floats), atol=1e-6)


def test_psnr_of_a_known_error() -> None:
    a = torch.zeros(2, 3, 2, 12, 12)
    b = a + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1, 1)
    assert torch.allclose(psnr(a, b), torch.tensor([20.0, 40.0]), atol=1e-3)
    assert math.isinf(float(psnr(a, a)[0]))


def test_ssim_is_one_on_itself_and_falls_with_noise() -> None:
    a = _noise(0, 1, 3, 2, 24, 24) * 0.5
    small, large = (ssim(a, a + amount * _noise(1, *a.shape)) for amount in (0.05, 0.5))
    assert float(ssim(a, a)) == pytest.approx(1.0, abs=1e-6)
    assert float(large) < float(small) < 1.0


def test_ssim_of_flat_images_is_the_luminance_term() -> None:
    a, b = torch.full((1, 3, 1, 16, 16), -0.6), torch.full((1, 3, 1, 16, 16), 0.2)  # 0.2 and 0.6 in [0, 1]
    assert float(ssim(a, b)) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), abs=1e-5)


def test_ssim_matches_a_direct_sum() -> None:
    x, y = (np.random.default_rng(seed).random((11, 11)) for seed in (0, 1))
    g = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    w = np.outer(g, g) / g.sum() ** 2
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy, c = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
    want = (2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    clips = [torch.from_numpy(v).float().expand(1, 3, 1, 11, 11) * 2 - 1 for v in (x, y)]
    assert float(ssim(*clips)) == pytest.approx(want, abs=1e-6)


def test_steady_change_is_no_flicker() -> None:
    ramp = torch.linspace(-1, 1, 9).view(1, 1, 9, 1, 1).expand(1, 3, 9, 8, 8)
    blink = torch.tensor([-1.0, 1.0] * 4).view(1, 1, 8, 1, 1).expand(1, 3, 8, 8, 8)
    assert float(difference(ramp)) == pytest.approx(255 / 8, rel=1e-4)
    assert float(flicker(ramp)) == pytest.approx(0.0, abs=1e-3)
    assert float(flicker(blink)) == pytest.approx(255.0, rel=1e-4)
    assert float(flicker(ramp[:, :, :2])) == 0.0
    assert float(difference(ramp[:, :, :1])) == 0.0


def test_wrong_forms_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be graded"):
        as_video(torch.zeros(2, 2))
    with pytest.raises(InputError, match="different sizes"):
        psnr(torch.zeros(1, 3, 1, 12, 12), torch.zeros(1, 3, 1, 12, 13))
    with pytest.raises(InputError, match="at least 11"):
        ssim(torch.zeros(1, 3, 1, 8, 8), torch.zeros(1, 3, 1, 8, 8))


def test_jerks_are_judder() -> None:
    even = torch.linspace(-1, 1, 13)[None, None, :, None, None].expand(1, 3, 13, 4, 4)
    held = even[:, :, [0, 1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9]]
    smeared = 0.5 * even + 0.5 * held
    assert float(judder(even, 4)) == pytest.approx(1.0, rel=1e-3)
    assert float(judder(smeared, 4)) == pytest.approx(5.0, rel=1e-3)  # 4 / 2 + 1 / 2 beside 1 / 2
    assert judder(torch.cat([even, smeared]), 4).shape == (2,)
    for still in (even[:, :, :5], even[:, :, :1], held):
        assert torch.isnan(judder(still, 4))
