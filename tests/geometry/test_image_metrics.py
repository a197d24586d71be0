from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diorama.errors import InputError
from diorama.geometry.image_metrics import psnr, ssim, ssim_map, window


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (*shape, 3), dtype=np.uint8)


def test_psnr_of_a_known_error() -> None:
    a = picture(2, 16, 20)
    assert psnr(a, a + np.uint8(5)) == pytest.approx(-10 * math.log10((5 / 255) ** 2))
    assert psnr(a, a) == math.inf


def test_only_masked_pixels_count() -> None:
    a = picture(16, 20)
    b = a.copy()
    b[:8] += np.uint8(50)
    mask = np.zeros((16, 20), np.bool_)
    mask[8:] = True
    assert psnr(a, b, mask) == math.inf
    assert psnr(a, b, ~mask) == pytest.approx(-20 * math.log10(50 / 255))
    assert math.isnan(psnr(a, b, np.zeros_like(mask)))
    with pytest.raises(InputError, match="mask"):
        psnr(a, b, mask[1:])


def test_float_and_uint8_say_the_same() -> None:
    a, b = picture(24, 32), np.flip(picture(24, 32), 0)
    x, y = torch.from_numpy(a.copy()).float() / 255, torch.from_numpy(b.copy()).float() / 255
    assert psnr(x, y) == pytest.approx(psnr(a, b), rel=1e-5)
    assert ssim(x, y) == pytest.approx(ssim(a, b), rel=1e-5)


def test_ssim_follows_its_definition_at_one_place() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.random((11, 11)), rng.random((11, 11))
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weight = np.outer(bell, bell) / bell.sum() ** 2
    mx, my = (weight * x).sum(), (weight * y).sum()
    vx, vy, cov = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum(), (weight * (x - mx) * (y - my)).sum()
    expected = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    found = ssim_map(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None])
    assert found.shape == (1, 1, 1, 1)
    assert float(found) == pytest.approx(expected)
    np.testing.assert_allclose(window(), bell / bell.sum(), rtol=1e-6)


def test_a_window_that_reaches_over_the_edge_sees_black_there() -> None:
    a = torch.rand(1, 2, 14, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b = a.flip(-1)
    whole = ssim_map(a, b, padding=5)
    assert whole.shape == a.shape
    torch.testing.assert_close(whole[..., 5:-5, 5:-5], ssim_map(a, b))
    torch.testing.assert_close(whole, ssim_map(*(torch.nn.functional.pad(picture, (5, 5, 5, 5)) for picture in (a, b))))


def test_ssim_knows_equal_from_noisy_and_is_differentiable() -> None:
    a = torch.rand(1, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b = a.flip(-1)
    assert float(ssim_map(a, a).mean()) == pytest.approx(1)
    assert float(ssim_map(a, b).mean()) < 0.5
    assert torch.autograd.gradcheck(lambda v: ssim_map(a[..., :12, :12], v).mean(), b[..., :12, :12].clone().requires_grad_())


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="one shape"):
        psnr(picture(16, 16), picture(16, 17))
    with pytest.raises(InputError, match="one shape"):
        ssim(np.zeros((16, 16)), np.zeros((16, 16)))
    with pytest.raises(InputError, match="11 pixels"):
        ssim(picture(10, 16), picture(10, 16))
    with pytest.raises(InputError, match="uint8 or float"):
        psnr(np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 3), np.int64))
