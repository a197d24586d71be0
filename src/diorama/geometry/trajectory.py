"""How far found cameras are from known ones, after the freedom that no picture can settle: where the world's origin is, its turn and scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diorama.errors import InputError
from diorama.geometry.cameras import Cameras, Floats

__all__ = ["Similarity", "TrajectoryError", "align", "compare_trajectories"]


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """A map of worlds: X to ``scale * rotation @ X + translation``."""

    rotation: Floats
    """``[3, 3]``."""
    translation: Floats
    """``[3]``."""
    scale: float

    def apply(self, points: Floats) -> Floats:
        """Return points ``[..., 3]`` in the other world."""
        moved: Floats = self.scale * points @ self.rotation.T + self.translation
        return moved


@dataclass(frozen=True, kw_only=True)
class TrajectoryError:
    """Found cameras against true ones."""

    similarity: Similarity
    """From the found world to the true one."""
    extent: float
    """Largest distance between two true cameras, the true world's unit."""
    ate: float
    """Absolute trajectory error: root mean square distance of aligned cameras, as a share of the extent."""
    rpe_translation: float
    """Relative pose error: root mean square error of the step from each camera to the next, as a share of the extent."""
    rpe_rotation: float
    """Root mean square error of the turn from each camera to the next, radians."""
    focal: float
    """Mean found over true focal length, less 1."""


def align(source: Floats, target: Floats) -> Similarity:
    """Return the similarity that brings points nearest to their partners in the sum of squares.

    Args:
        source: ``[N, 3]``, at least 3, not all in one place.
        target: ``[N, 3]``.

    Raises:
        InputError: there are too few points or they are all in one place.

    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns".
    """
    if source.shape != target.shape or len(source) < 3:
        raise InputError(f"two paths of {len(source)} and {len(target)} cameras cannot be aligned; give the same number of at least 3")
    middle_source, middle_target = source.mean(0), target.mean(0)
    centred_source, centred_target = source - middle_source, target - middle_target
    variance = float((centred_source**2).sum())
    if variance < 1e-24:
        raise InputError("the found cameras are all in one place, so their path has no scale to align by; give cameras that move")
    u, stretch, vt = np.linalg.svd(centred_target.T @ centred_source)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float((stretch * sign).sum() / variance)
    return Similarity(rotation=rotation, translation=middle_target - scale * rotation @ middle_source, scale=scale)


def compare_trajectories(found: Cameras, true: Cameras) -> TrajectoryError:
    """Align found cameras with the true ones of the same frames and measure what is left.

    Args:
        found: R cameras.
        true: The true cameras of the same frames (``Cameras.select(reconstruction.registered)``), of any size in pixels.

    Raises:
        InputError: there are fewer than 3, or they do not move.
    """
    similarity = align(found.centers, true.centers)
    centers = similarity.apply(found.centers)
    gaps = np.linalg.norm(true.centers[:, None] - true.centers[None], axis=-1)
    extent = float(gaps.max())
    if extent < 1e-12:
        raise InputError("the true cameras are all in one place, so errors have no extent to be a share of; give cameras that move")
    distance = np.linalg.norm(centers - true.centers, axis=1)
    moved = found.moved(similarity.rotation, similarity.translation, similarity.scale)
    steps, true_steps = _steps(moved), _steps(true)
    turns = np.einsum("tij,tkj->tik", steps[:, :3, :3], true_steps[:, :3, :3])
    # the sine from the skew part is exact for small angles, where the cosine from the trace is not
    skew = np.stack([turns[:, 2, 1] - turns[:, 1, 2], turns[:, 0, 2] - turns[:, 2, 0], turns[:, 1, 0] - turns[:, 0, 1]], axis=1)
    angles = np.arctan2(np.linalg.norm(skew, axis=1) / 2, (np.trace(turns, axis1=1, axis2=2) - 1) / 2)
    shifts = np.linalg.norm(steps[:, :3, 3] - true_steps[:, :3, 3], axis=1)
    focal = found.intrinsics[:, 0, 0] / found.width / (true.intrinsics[:, 0, 0] / true.width)
    return TrajectoryError(
        similarity=similarity,
        extent=extent,
        ate=float(np.sqrt((distance**2).mean())) / extent,
        rpe_translation=float(np.sqrt((shifts**2).mean())) / extent,
        rpe_rotation=float(np.sqrt((angles**2).mean())),
        focal=float(focal.mean()) - 1.0,
    )


def _steps(cameras: Cameras) -> Floats:
    """Return the maps ``[T - 1, 4, 4]`` from each camera's axes to the next one's."""
    steps: Floats = cameras.world_to_camera[1:] @ np.linalg.inv(cameras.world_to_camera[:-1])
    return steps
