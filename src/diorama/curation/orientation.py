"""Whether a picture stands on its head: light comes from above, skies are smooth, floors have texture.

A linear judge over differences between the upper and the lower half: turned over, every feature changes its sign, so the judge has no
leaning of its own. Its weights lie in ``statistics.npz``, fitted by ``benchmarks/curation.py --fit``; how often it is right on clips it
has not seen is in docs/curation.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diorama.curation.cuts import cv2_library
from diorama.curation.quality import statistics
from diorama.media import Pixels

__all__ = ["orientation_features", "upside_down"]

Array = NDArray[np.float64]


def orientation_features(frame: Pixels) -> Array:
    """Return features of a frame ``[h, w, 3]`` that change their sign, and nothing else, when it is turned over."""
    cv2 = cv2_library()
    image = cv2.resize(np.ascontiguousarray(frame), (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = image.max(axis=2) - image.min(axis=2)
    blue = image[..., 2] - (image[..., 0] + image[..., 1]) / 2
    green = image[..., 1] - (image[..., 0] + image[..., 2]) / 2
    down = np.diff(luma, axis=0)[:, :-1]
    across = (np.diff(luma, axis=1)[:-1] + np.diff(luma, axis=1)[1:]) / 2
    texture = np.log(np.sqrt(down**2 + across**2) + 0.02)
    level = np.log((np.abs(down) + 0.01) / (np.abs(across) + 0.01))
    values = [_halves(channel, 8) for channel in (luma, saturation, blue, green)] + [_halves(channel, 7) for channel in (texture, level)]
    values.append(_halves(luma[:, 20:44].mean(axis=1, keepdims=True) - luma.mean(axis=1, keepdims=True), 8))
    skew = [float((piece**3).mean() / (np.abs(piece) ** 3).mean().clip(1e-6)) for piece in (down, down[:, 16:48])]
    return np.concatenate([*values, np.array(skew)]).astype(np.float64)


def _halves(channel: NDArray[np.float32], bands: int) -> Array:
    """Return the means of bands of rows, each less the mean of the band that lies as far from the other edge."""
    rows = channel.reshape(bands, -1).mean(axis=1)
    apart: Array = (rows - rows[::-1])[: bands // 2].astype(np.float64)
    return apart


def upside_down(frames: Sequence[Pixels]) -> float:
    """Return how sure it is that the frames of a piece stand on their head, 0 to 1.

    Args:
        frames: ``[h, w, 3]`` uint8 each.
    """
    mean = np.mean([orientation_features(frame) for frame in frames], axis=0)
    return float(1 / (1 + np.exp(statistics()["orientation"] @ mean)))
