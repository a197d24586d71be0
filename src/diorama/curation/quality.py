"""Quality without a reference: how far a picture is from the statistics of undistorted ones, in the manner of NIQE.

Locally normalised luma of natural pictures is nearly Gaussian, and products of neighbours follow a known family; compression, noise and
blur bend both. 36 parameters of these distributions are compared with those of undistorted patches, whose mean and covariance lie in
``statistics.npz``, fitted by ``benchmarks/curation.py --fit`` on sharp patches of real videos.

Source: Mittal, Soundararajan, Bovik, "Making a completely blind image quality analyzer", 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from math import gamma

import numpy as np
from numpy.typing import NDArray

from diorama.curation.cuts import cv2_library
from diorama.media.scan import Luma

__all__ = ["NUM_FEATURES", "patch_features", "quality", "statistics"]

NUM_FEATURES = 36
_PATCH = 80  # side of a patch, pixels
_MOST = 4  # frames of a piece that are looked at
Array = NDArray[np.float64]


@cache
def statistics() -> dict[str, Array]:
    """Return the fitted numbers: ``quality_mean`` [36], ``quality_covariance`` [36, 36] and ``orientation`` of ``orientation.py``."""
    with resources.files("diorama.curation").joinpath("statistics.npz").open("rb") as file, np.load(file) as arrays:
        return {name: arrays[name].astype(np.float64) for name in arrays.files}


@cache
def _shapes() -> tuple[Array, Array]:
    """Return shape parameters of generalised Gaussians and the moment ratio that each has."""
    shapes = np.arange(0.2, 10.0, 0.005)
    ratios = np.array([gamma(2 / a) ** 2 / (gamma(1 / a) * gamma(3 / a)) for a in shapes])
    return shapes, ratios


def _shape_of(ratio: Array) -> Array:
    shapes, ratios = _shapes()
    found: Array = shapes[np.clip(np.searchsorted(ratios, ratio), 0, len(shapes) - 1)]
    return found


def _normalised(luma: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    cv2 = cv2_library()
    mean = cv2.GaussianBlur(luma, (7, 7), 7 / 6)
    deviation = np.sqrt(np.abs(cv2.GaussianBlur(luma * luma, (7, 7), 7 / 6) - mean * mean))
    return (luma - mean) / (deviation + 1.0), deviation


def _blocks(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return ``[n, side * side]`` blocks."""
    rows, columns = values.shape[0] // side, values.shape[1] // side
    cut = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, side * side)


def _gaussian(x: NDArray[np.float32]) -> list[Array]:
    square = (x.astype(np.float64) ** 2).mean(axis=1) + 1e-9
    return [_shape_of(np.abs(x).mean(axis=1) ** 2 / square), square]


def _asymmetric(x: NDArray[np.float32]) -> list[Array]:
    values = x.astype(np.float64)
    left = np.sqrt((np.minimum(values, 0) ** 2).sum(axis=1) / np.maximum((values < 0).sum(axis=1), 1)) + 1e-6
    right = np.sqrt((np.maximum(values, 0) ** 2).sum(axis=1) / np.maximum((values > 0).sum(axis=1), 1)) + 1e-6
    skew = left / right
    ratio = np.abs(values).mean(axis=1) ** 2 / ((values**2).mean(axis=1) + 1e-9)
    shape = _shape_of(ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2)
    mean = (right - left) * np.array([gamma(2 / a) / np.sqrt(gamma(1 / a) * gamma(3 / a)) for a in shape])
    return [shape, mean, left**2, right**2]


def patch_features(piece: Luma) -> tuple[Array, Array]:
    """Return ``[n, 36]`` features of the patches of a piece of luma, and ``[n]`` how sharp each is.

    Args:
        piece: ``[y, x]`` uint8 at full resolution; without a whole patch there are none.
    """
    cv2 = cv2_library()
    luma = piece.astype(np.float32)
    if min(luma.shape) < _PATCH:
        return np.empty((0, NUM_FEATURES)), np.empty(0)
    columns: list[Array] = []
    sharp = np.empty(0)
    for scale in (1, 2):
        normal, deviation = _normalised(luma)
        side = _PATCH // scale
        columns += _gaussian(_blocks(normal, side))
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            columns += _asymmetric(_blocks(normal * np.roll(normal, (-dy, -dx), (0, 1)), side))
        if scale == 1:
            sharp = _blocks(deviation, side).mean(axis=1).astype(np.float64)
            count = len(sharp)
            luma = cv2.resize(luma, (luma.shape[1] // 2, luma.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.stack([column[:count] for column in columns], axis=1), sharp


def quality(pieces: Sequence[Luma]) -> float | None:
    """Return the distance of pieces of luma from undistorted pictures, lower is better; None without a patch that shows anything.

    Args:
        pieces: ``[y, x]`` uint8 from the middles of frames, at full resolution.
    """
    chosen = [pieces[i] for i in sorted({round(i) for i in np.linspace(0, len(pieces) - 1, min(len(pieces), _MOST))})]
    found = [patch_features(piece) for piece in chosen]
    features, sharp = np.concatenate([f for f, _ in found]), np.concatenate([s for _, s in found])
    features = features[sharp > 1.0]
    if not len(features):
        return None
    known = statistics()
    covariance = known["quality_covariance"]
    if len(features) > 1:
        covariance = (covariance + np.cov(features, rowvar=False)) / 2
    apart = features.mean(axis=0) - known["quality_mean"]
    return float(np.sqrt(max(0.0, apart @ np.linalg.pinv(covariance) @ apart)))
