"""Text, logos and watermarks: what was laid over a picture afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diorama.curation.cuts import cv2_library
from diorama.media import Pixels

__all__ = ["mark_area", "subtitle_share", "text_boxes", "text_share", "watermark_strength"]

Mask = NDArray[np.uint8]
_PASSING = 0.4  # constancy of a quarter of the strong edges above which the picture itself stands still


def text_boxes(frame: Pixels) -> list[tuple[int, int, int, int]]:
    """Return boxes (left, top, right, bottom) of lines that look like text.

    Letters are strokes of high contrast in both directions, close together in a row of constant height; their edges fill their box
    about half. The measure is a detector of lines of print and captions, not of text in a scene at an angle.

    Args:
        frame: ``[h, w, 3]`` uint8, sides up to about 256.
    """
    cv2 = cv2_library()
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    if min(height, width) < 24:
        return []
    strokes = cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    bright = cv2.morphologyEx(gray, cv2.MORPH_TOPHAT, np.ones((7, 7), np.uint8))
    dark = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, np.ones((7, 7), np.uint8))
    thin = cv2.max(bright, dark)
    mask = ((thin >= 60) & (strokes >= 60)).astype(np.uint8)
    joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((1, max(5, width // 24)), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    boxes = []
    for label in range(1, count):
        x, y, w, h, _ = (int(value) for value in stats[label])
        if not (4 <= h <= height // 5 and w >= 3 * h and w >= 16):
            continue
        inner = mask[y : y + h, x : x + w]
        fill, turns = float(inner.mean()), _turns(inner)
        if 0.18 <= fill <= 0.75 and turns >= 0.6 * w / h:
            boxes.append((x, y, x + w, y + h))
    return boxes


def _turns(mask: Mask) -> float:
    """Return the median number of strokes that a line through the box crosses."""
    rows = mask[len(mask) // 4 : max(len(mask) // 4 + 1, 3 * len(mask) // 4)]
    return float(np.median((np.diff(rows.astype(np.int8), axis=1) == 1).sum(axis=1)))


def text_share(frames: Sequence[Pixels]) -> float:
    """Return the median over frames of the share of the picture under text, 0 to 1."""
    shares = [sum((right - left) * (bottom - top) for left, top, right, bottom in text_boxes(f)) / (f.shape[0] * f.shape[1]) for f in frames]
    return float(np.median(shares)) if shares else 0.0


def subtitle_share(frames: Sequence[Pixels]) -> float:
    """Return the share of frames with a centred line of text in their lower third, 0 to 1."""
    if not frames:
        return 0.0
    found = 0
    for frame in frames:
        height, width = frame.shape[:2]
        centred = [
            (left, right)
            for left, top, right, _ in text_boxes(frame)
            if top > 2 * height / 3 and abs((left + right) / 2 - width / 2) < 0.12 * width and right - left > 0.12 * width
        ]
        found += bool(centred)
    return found / len(frames)


def _gradients(frames: Sequence[Pixels]) -> NDArray[np.float32]:
    """Return ``[n, 2, h, w]`` gradients of the fine detail of luma; soft shading is left out."""
    cv2: Any = cv2_library()
    out = []
    for frame in frames:
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        gray -= cv2.GaussianBlur(gray, (0, 0), 2)
        out.append(np.stack([cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)]))
    return np.stack(out)


def _held(frames: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return the strength of edges that stay and how constant they are, 0 to 1; None if the picture itself stays.

    Only where the camera moves does what was laid over a picture differ from what is in it: then most edges pass by and those of a
    mark remain.
    """
    if len(frames) < 6 or min(frames[0].shape[:2]) < 24:
        return None
    gradients = _gradients(frames)
    strength = np.sqrt((gradients.mean(axis=0) ** 2).sum(axis=0))
    whole = np.sqrt((gradients**2).sum(axis=1)).mean(axis=0)
    constancy = strength / (whole + 1e-3)
    edges = whole > max(20.0, float(np.quantile(whole, 0.85)))
    if edges.sum() < 100 or float(np.quantile(constancy[edges], 0.25)) > _PASSING:
        return None
    return strength, constancy


def mark_area(frames: Sequence[Pixels]) -> float:
    """Return the share of the picture under marks with sharp edges that stay while the camera moves, 0 to 1.

    Args:
        frames: At least 6 sampled frames of one shot, else the answer is 0.
    """
    held = _held(frames)
    if held is None:
        return 0.0
    strength, constancy = held
    cv2 = cv2_library()
    mask = ((strength > 80) & (constancy > 0.9)).astype(np.uint8)
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    areas = [int(stats[label][4]) for label in range(1, count) if stats[label][4] >= 12]
    return sum(areas) / mask.size


def watermark_strength(frames: Sequence[Pixels]) -> float:
    """Return the share of the picture with faint edges that stay while the camera moves, 0 to 1.

    A watermark is translucent: its edges are weak in each frame and equal in all, so that they stand out of the mean of the gradients.

    Args:
        frames: At least 6 sampled frames of one shot, else the answer is 0.
    """
    held = _held(frames)
    if held is None:
        return 0.0
    strength, constancy = held
    return float(((strength > 16) & (constancy > 0.7)).mean())
