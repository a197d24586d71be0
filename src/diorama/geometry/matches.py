"""Points that two frames share: SIFT features and their matches, at one normal size whatever the video's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diorama.geometry.cameras import Bools, Floats
from diorama.geometry.frames import opencv
from diorama.media import Pixels

__all__ = ["NORMAL_AREA", "RATIO", "Features", "Matches", "extract", "match", "normal_scale"]

NORMAL_AREA = 854 * 480
"""Pixels of a frame when features are found, so that errors in pixels compare between videos. Source: VBench-2.0's Dense_match."""
RATIO = 0.85
"""Nearest over second nearest descriptor distance. Source: arXiv 2402.17403."""
CONTRAST = 0.015
"""OpenCV's threshold; its usual 0.04 finds too little in smooth rendered scenes."""
MAX_FEATURES = 1500
"""The strongest are kept: more cost time, and those of each part of the picture take in waves and clouds (docs/log.md)."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """SIFT features of a frame."""

    points: Floats
    """``[N, 2]`` pixels of the normal size; the centre of the first pixel is at (0.5, 0.5)."""
    descriptors: NDArray[np.float32]
    """``[N, 128]``."""

    def __len__(self) -> int:
        return len(self.points)

    def within(self, mask: Bools) -> Features:
        """Return the features on True pixels of a mask ``[H, W]`` of the frame's own size."""
        height, width = mask.shape
        x, y = np.floor(self.points / normal_scale(width, height)).astype(int).T
        chosen = mask[y.clip(0, height - 1), x.clip(0, width - 1)]
        return Features(points=self.points[chosen], descriptors=self.descriptors[chosen])


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Points that two frames share, row by row."""

    first: Floats
    """``[M, 2]`` pixels of the normal size."""
    second: Floats
    """``[M, 2]``."""
    ratio: Floats
    """``[M]`` nearest over second nearest descriptor distance; the smaller the surer."""

    def __len__(self) -> int:
        return len(self.first)

    def select(self, chosen: Bools) -> Matches:
        """Return the matches where ``chosen`` ``[M]`` is True."""
        return Matches(first=self.first[chosen], second=self.second[chosen], ratio=self.ratio[chosen])


def normal_scale(width: int, height: int) -> float:
    """Return the factor that brings a frame to ``NORMAL_AREA`` pixels."""
    return math.sqrt(NORMAL_AREA / (width * height))


def extract(frame: Pixels) -> Features:
    """Find SIFT features of a frame at the normal size.

    Args:
        frame: ``[H, W, 3]`` uint8 of any size.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = opencv()
    height, width = frame.shape[:2]
    scale = normal_scale(width, height)
    size = (round(width * scale), round(height * scale))
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    sift = cv2.SIFT_create(nfeatures=MAX_FEATURES, contrastThreshold=CONTRAST, enable_precise_upscale=True)
    found, descriptors = sift.detectAndCompute(grey, None)
    if not found:
        return Features(points=np.zeros((0, 2)), descriptors=np.zeros((0, 128), np.float32))
    points = np.array([point.pt for point in found], dtype=np.float64) + 0.5
    return Features(points=points, descriptors=np.asarray(descriptors, dtype=np.float32))


def match(a: Features, b: Features, ratio: float = RATIO) -> Matches:
    """Pair each feature of ``a`` with its nearest in ``b`` where that is clearly nearer than the second nearest.

    The search is exact; where the papers' approximate one finds the nearest, the result is theirs.

    Args:
        a: Features of the first frame.
        b: Features of the second frame.
        ratio: Nearest over second nearest distance, below this.
    """
    if len(a) == 0 or len(b) < 2:
        return Matches(first=np.zeros((0, 2)), second=np.zeros((0, 2)), ratio=np.zeros(0))
    # SIFT descriptors are whole numbers below 256 of norm about 512: a float32 product is exact enough to rank them
    squares = (b.descriptors**2).sum(1)
    rows, columns, shares = [], [], []
    for start in range(0, len(a), 1024):
        block = a.descriptors[start : start + 1024]
        distance = squares - 2.0 * block @ b.descriptors.T + (block**2).sum(1, keepdims=True)
        two = np.argpartition(distance, 1, axis=1)[:, :2]
        near = np.take_along_axis(distance, two, axis=1)
        order = np.argsort(near, axis=1)
        near, two = np.take_along_axis(near, order, axis=1).clip(0), np.take_along_axis(two, order, axis=1)
        share = np.sqrt(near[:, 0] / np.maximum(near[:, 1], 1e-9), dtype=np.float64)
        clear = share < ratio
        rows.append(np.flatnonzero(clear) + start)
        columns.append(two[clear, 0])
        shares.append(share[clear])
    return Matches(first=a.points[np.concatenate(rows)], second=b.points[np.concatenate(columns)], ratio=np.concatenate(shares))
