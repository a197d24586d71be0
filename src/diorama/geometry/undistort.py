"""Reconstructions to captures: frames as a pinhole camera would have seen them, with their cameras, points and colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diorama.geometry.cameras import Bools, Capture, Floats
from diorama.geometry.frames import opencv
from diorama.geometry.matches import Features, normal_scale
from diorama.geometry.sfm import Reconstruction
from diorama.media import Pixels

__all__ = ["capture_of", "distorted", "straighten", "undistorted"]

NEGLIGIBLE = 0.1
"""Pixels: frames bent by less stay as they are."""


def distorted(points: Floats, reconstruction: Reconstruction) -> Floats:
    """Return where the frames as given show what undistorted frames show at ``points`` ``[..., 2]``, pixels."""
    middle = np.array([reconstruction.width, reconstruction.height]) / 2
    rays = (points - middle) / (reconstruction.focal * reconstruction.zoom)
    bent: Floats = rays * (1 + reconstruction.radial * (rays**2).sum(-1, keepdims=True)) * reconstruction.focal + middle
    return bent


def undistorted(points: Floats, reconstruction: Reconstruction) -> Floats:
    """Return where undistorted frames show what the frames as given show at ``points`` ``[..., 2]``, pixels."""
    middle = np.array([reconstruction.width, reconstruction.height]) / 2
    seen = (points - middle) / reconstruction.focal
    bent = np.linalg.norm(seen, axis=-1, keepdims=True)
    radius = bent.copy()
    for _ in range(12):  # Newton's steps towards r (1 + k r^2) = bent
        slope = 1 + 3 * reconstruction.radial * radius**2
        radius -= (radius * (1 + reconstruction.radial * radius**2) - bent) / np.where(np.abs(slope) < 0.1, 0.1, slope)
    stretch = np.where(bent > 1e-12, radius / np.maximum(bent, 1e-12), 1.0)
    straight: Floats = seen * stretch * reconstruction.focal * reconstruction.zoom + middle
    return straight


def straighten(features: Sequence[Features], reconstruction: Reconstruction) -> list[Features]:
    """Return the features of the registered frames where undistorted frames show them."""
    scale = normal_scale(reconstruction.width, reconstruction.height)
    chosen = [features[number] for number in reconstruction.registered]
    return [Features(points=undistorted(f.points / scale, reconstruction) * scale, descriptors=f.descriptors) for f in chosen]


def capture_of(reconstruction: Reconstruction, frames: Pixels, masks: Bools | None = None) -> Capture:
    """Return the registered frames, undistorted, with their cameras and points.

    Args:
        reconstruction: One that did not fail.
        frames: uint8 ``[T, H, W, 3]``, all that were attempted.
        masks: ``[T, H, W]``, True where a pixel belongs to the rigid scene.

    Raises:
        InputError: the reconstruction failed.
    """
    cameras = reconstruction.cameras
    numbers = list(reconstruction.registered)
    chosen = frames[numbers]
    kept = None if masks is None else masks[numbers]
    y, x = np.mgrid[: cameras.height, : cameras.width]
    places = np.stack([x, y], axis=-1) + 0.5
    sources = distorted(places, reconstruction)
    if np.abs(sources - places).max() >= NEGLIGIBLE:
        cv2 = opencv()
        # OpenCV counts pixels from the centre of the first one
        across, down = (np.ascontiguousarray(sources[..., axis] - 0.5, dtype=np.float32) for axis in (0, 1))
        chosen = np.stack([cv2.remap(f, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for f in chosen])
        if kept is not None:
            bent = [cv2.remap(m.astype(np.uint8), across, down, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) for m in kept]
            kept = np.stack(bent) > 0
    return Capture(frames=chosen, cameras=cameras, points=reconstruction.points, colors=_colors(reconstruction, frames), masks=kept)


def _colors(reconstruction: Reconstruction, frames: Pixels) -> Pixels:
    """Return the mean colour of each point over where it is seen, ``[P, 3]``."""
    x, y = np.floor(reconstruction.seen_pixels).astype(int).T
    seen = frames[reconstruction.seen_frames, y.clip(0, frames.shape[1] - 1), x.clip(0, frames.shape[2] - 1)]
    total = np.zeros((len(reconstruction.points), 3))
    np.add.at(total, reconstruction.seen_points, seen)
    count = np.bincount(reconstruction.seen_points, minlength=len(total))
    return np.round(total / np.maximum(count, 1)[:, None]).astype(np.uint8)
