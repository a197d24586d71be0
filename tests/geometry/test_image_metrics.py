from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diorama.errors import InputError
from diorama.geometry.image_metrics import psnr, ssim


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


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="one shape"):
        psnr(picture(16, 16), picture(16, 17))
    with pytest.raises(InputError, match="one shape"):
        ssim(np.zeros((16, 16)), np.zeros((16, 16)))
    with pytest.raises(InputError, match="11 pixels"):
        ssim(picture(10, 16), picture(10, 16))
    with pytest.raises(InputError, match="uint8 or float"):
        psnr(np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 3), np.int64))
