"""Whether two frames can be explained by a camera that stays where it is and only turns and zooms: then nothing of depth is seen."""

from __future__ import annotations

import numpy as np

from diorama.geometry.cameras import Floats
from diorama.geometry.matches import Matches

__all__ = ["turning_share"]

FOCALS = np.geomspace(0.5, 4.0, 9)
"""Focal lengths to try, in longer sides of the frame: fields of view from 90 to 14 degrees."""
THRESHOLD = 3.0
"""Pixels within which a match is explained, as for the fundamental matrix it is compared with."""


def turning_share(matches: Matches, size: tuple[float, float]) -> float:
    """Return the share of matches that the best turning and zooming camera explains, 0 to 1.

    Tries focal lengths and zooms; for each the rotation between the two bundles of rays is solved robustly.

    Args:
        matches: In pixels of the frames, at least 3.
        size: Width and height of the frames in the same pixels.

    Source: for a camera that only turns and zooms, points map by K' R K^-1: Hartley and Zisserman, "Multiple View Geometry", 8.4.
    """
    if len(matches) < 3:
        return 0.0
    middle = np.array(size) / 2
    first, second = matches.first - middle, matches.second - middle
    best = 0.0
    spread = np.median(np.linalg.norm(first - np.median(first, 0), axis=1)), np.median(np.linalg.norm(second - np.median(second, 0), axis=1))
    zoom = float(spread[1] / spread[0]) if spread[0] > 1e-6 else 1.0
    for focal in FOCALS * max(size):
        for factor in {1.0, zoom}:
            best = max(best, _explained(first, second, focal, focal * factor))
    return best


def _explained(first: Floats, second: Floats, focal: float, other: float) -> float:
    """Return the share explained with the focal lengths of the two frames given."""
    rays, targets = _rays(first, focal), _rays(second, other)
    weight = np.ones(len(rays))
    share = 0.0
    for _ in range(8):
        u, _, vt = np.linalg.svd((targets * weight[:, None]).T @ rays)
        rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
        turned = rays @ rotation.T
        ahead = np.maximum(turned[:, 2:], 1e-6)
        error = np.linalg.norm(turned[:, :2] / ahead * other - second, axis=1)
        share = max(share, float((error < THRESHOLD).mean()))
        # Cauchy weights, from wide to narrow, find the rotation that many agree on
        width = max(THRESHOLD, float(np.median(error)))
        weight = 1 / (1 + (error / width) ** 2)
    return share


def _rays(points: Floats, focal: float) -> Floats:
    rays = np.concatenate([points, np.full((len(points), 1), focal)], axis=1)
    unit: Floats = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit
