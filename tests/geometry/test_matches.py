from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from diorama.geometry.matches import NORMAL_AREA, Features, extract, match, normal_scale


def textured(width: int, height: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def test_every_size_is_brought_to_one_area() -> None:
    for width, height in ((256, 256), (854, 480), (1920, 1080)):
        scale = normal_scale(width, height)
        assert width * scale * height * scale == pytest.approx(NORMAL_AREA)


def test_a_shifted_picture_matches_by_its_shift() -> None:
    big = textured(280, 240)
    a, b = extract(big[:, :240]), extract(big[:, 20:260])
    scale = normal_scale(240, 240)
    found = match(a, b)
    assert len(found) > 200
    shift = (found.first - found.second) / scale
    assert np.median(np.abs(shift - [20, 0]), axis=0) == pytest.approx([0, 0], abs=0.05)
    assert found.ratio.max() < 0.85


def test_features_lie_where_the_picture_says() -> None:
    frame = np.zeros((96, 96, 3), np.uint8)
    y, x = np.mgrid[:96, :96] + 0.5
    frame[:] = (220 * np.exp(-((x - 30.0) ** 2 + (y - 60.0) ** 2) / (2 * 3.0**2)))[..., None]
    points = extract(frame).points / normal_scale(96, 96)
    assert np.linalg.norm(points - [30.0, 60.0], axis=1).min() < 0.05


def test_a_plain_picture_has_none_and_matches_nothing() -> None:
    plain = extract(np.zeros((64, 64, 3), np.uint8))
    assert len(plain) == 0
    assert len(match(plain, plain)) == 0
    assert len(match(extract(textured(64, 64)), plain)) == 0


def test_matching_in_blocks_is_the_exhaustive_search() -> None:
    rng = np.random.default_rng(0)
    descriptors = rng.integers(0, 180, (1100, 128)).astype(np.float32)
    noisy = np.clip(descriptors[:150] + rng.normal(0, 6, (150, 128)), 0, 255).astype(np.float32)
    a = Features(points=rng.random((1100, 2)), descriptors=descriptors)
    b = Features(points=rng.random((150, 2)), descriptors=noisy)
    found = match(a, b)
    distance = np.stack([np.linalg.norm(descriptors - row, axis=1) for row in noisy], axis=1)
    two = np.sort(distance, axis=1)[:, :2]
    clear = two[:, 0] < 0.85 * two[:, 1]
    np.testing.assert_array_equal(found.first, a.points[clear])
    np.testing.assert_array_equal(found.second, b.points[distance.argmin(1)[clear]])
    np.testing.assert_allclose(found.ratio, (two[:, 0] / two[:, 1])[clear], rtol=1e-3)


def test_a_mask_keeps_the_features_inside_it() -> None:
    features = extract(textured(120, 80))
    mask = np.zeros((80, 120), np.bool_)
    mask[:, 60:] = True
    kept, rest = features.within(mask), features.within(~mask)
    assert len(kept) + len(rest) == len(features)
    assert (kept.points[:, 0] / normal_scale(120, 80) >= 60).all()
    assert (rest.points[:, 0] / normal_scale(120, 80) < 60).all()
