"""The cloud that training starts from: the sparse points of a reconstruction, and guesses where it has none."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from diorama.geometry.cameras import Bools, Capture, project
from diorama.geometry.gaussians import Gaussians
from diorama.geometry.rasterise_plain import SH_C0

__all__ = ["distances", "initialise"]

_CELL = 16
"""Pixels: a cell of this size in which no point is seen is empty, as sky and plain walls are."""
_FAR = 30.0
"""Distance of the sky, in units of the distance that most points are within."""
_OPACITY = 0.1
_NEIGHBOURS = 3
_BESIDE, _SKY = 0.5, 0.25
"""Shares of the guesses that take the depth of a point seen beside them, as in the middle of a plain thing whose edges have points, and that
are as far as the sky."""


def initialise(capture: Capture, *, max_points: int, guesses: int, generator: torch.Generator) -> Gaussians:
    """Return round Gaussians at the points of a capture and, behind them, in the parts of its frames where no point is seen.

    Args:
        capture: Frames to learn from, none held out.
        max_points: If there are more points than this, so many are drawn.
        guesses: How many Gaussians to place on rays through empty cells, or anywhere if no cell is empty; never through what a mask leaves out.
            Some take the depth of a point seen beside them, some are as far as the sky, and the rest is between, evenly in inverse distance.
        generator: A generator on the CPU.
    """
    count = len(capture.points)
    chosen = torch.randperm(count, generator=generator)[:max_points].sort().values.numpy()
    points, colors = capture.points[chosen], capture.colors[chosen].astype(np.float64) / 255
    frames, pixels = _draw(_empty(capture), guesses, generator)
    depth = _depths(capture, frames, pixels, generator)
    placed = _unproject(capture, frames, pixels, depth)
    x, y = pixels.astype(np.int64).T
    points = np.concatenate([points, placed])
    colors = np.concatenate([colors, capture.frames[frames, y, x].astype(np.float64) / 255])
    means = torch.from_numpy(points).float()
    sh = torch.zeros(len(means), 4, 3)
    sh[:, 0] = (torch.from_numpy(colors).float() - 0.5) / SH_C0
    sizes = torch.cat([_spacing(means[: len(chosen)]), _spacing(means[len(chosen) :])])
    return Gaussians(
        means=means,
        log_scales=sizes.log()[:, None].repeat(1, 3),
        quaternions=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(means), 1),
        logits=torch.full((len(means),), math.log(_OPACITY / (1 - _OPACITY))),
        sh=sh,
    )


def distances(capture: Capture) -> tuple[float, float]:
    """Return the median depth of a capture's points and the depth to put the sky at, both above 0."""
    if not len(capture.points):
        spread = float(np.linalg.norm(capture.cameras.centers - capture.cameras.centers.mean(0), axis=1).max())
        near = spread if spread > 0 else 1.0
        return near, _FAR * near
    _, depth = project(capture.points, capture.cameras)
    depth = depth[depth > 0]
    if not len(depth):
        return 1.0, _FAR
    return float(np.median(depth)), _FAR * float(np.quantile(depth, 0.9))


def _empty(capture: Capture) -> Bools:
    """Return which cells of which frames are rigid and show no point, ``[T, rows, columns]``; all rigid ones if none is empty."""
    cameras = capture.cameras
    rows, columns = -(-cameras.height // _CELL), -(-cameras.width // _CELL)
    empty = np.ones((len(cameras), rows, columns), dtype=np.bool_)
    for frame in range(len(cameras)):
        pixels, depth = project(capture.points, cameras.select([frame]))
        cells = np.floor(pixels[0][depth[0] > 0] / _CELL)
        inside = ((cells >= 0) & (cells < [columns, rows])).all(-1)
        x, y = cells[inside].astype(np.int64).T
        empty[frame, y, x] = False
    if capture.masks is not None:
        padded = np.pad(capture.masks, ((0, 0), (0, rows * _CELL - cameras.height), (0, columns * _CELL - cameras.width)), constant_values=True)
        rigid: Bools = np.asarray(padded.reshape(len(cameras), rows, _CELL, columns, _CELL).all((2, 4)), dtype=np.bool_)
        empty = empty & rigid if (empty & rigid).any() else rigid
    return empty if empty.any() else np.ones_like(empty)


def _draw(cells: Bools, count: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw frames ``[count]`` and places in pixels ``[count, 2]`` in the chosen cells."""
    frames, rows, columns = np.nonzero(cells)
    drawn = torch.randint(len(frames), (count,), generator=generator).numpy()
    offsets = torch.rand(count, 2, generator=generator).double().numpy()
    return frames[drawn], (np.stack([columns[drawn], rows[drawn]], -1) + offsets) * _CELL


def _depths(capture: Capture, frames: np.ndarray, pixels: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Draw a depth for each place: that of one of the points seen nearest to it, the sky's, or one between the typical depth and the sky."""
    near, far = distances(capture)
    even = torch.rand(len(frames), generator=generator).double().numpy()
    depth: np.ndarray = 1 / (1 / far + even * (1 / near - 1 / far))
    kind = torch.rand(len(frames), generator=generator).numpy()
    beside = kind < _BESIDE
    depth[kind >= 1 - _SKY] = far
    pick = torch.randint(_NEIGHBOURS, (len(frames),), generator=generator).numpy()
    for frame in np.unique(frames[beside]):
        seen, ahead = (values[0] for values in project(capture.points, capture.cameras.select([frame])))
        shown = (ahead > 0) & (seen >= 0).all(-1) & (seen < [capture.cameras.width, capture.cameras.height]).all(-1)
        if shown.sum() < _NEIGHBOURS:
            continue
        chosen = np.flatnonzero(beside & (frames == frame))
        distance = torch.cdist(torch.from_numpy(pixels[chosen]), torch.from_numpy(seen[shown]))
        nearest = distance.topk(_NEIGHBOURS, largest=False).indices.numpy()
        depth[chosen] = ahead[shown][nearest[np.arange(len(chosen)), pick[chosen]]]
    return depth


def _unproject(capture: Capture, frames: np.ndarray, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
    cameras = capture.cameras
    np.minimum(pixels, [cameras.width - 0.5, cameras.height - 0.5], out=pixels)
    intrinsics = cameras.intrinsics[frames]
    local = np.stack([(pixels[:, axis] - intrinsics[:, axis, 2]) / intrinsics[:, axis, axis] for axis in (0, 1)] + [np.ones(len(frames))], -1)
    rays = np.einsum("nji,nj->ni", cameras.world_to_camera[frames, :3, :3], local * depth[:, None])
    placed: np.ndarray = cameras.centers[frames] + rays
    return placed


def _spacing(points: Tensor) -> Tensor:
    """Return the mean distance of each point to its three nearest neighbours, ``[N]``, above 0."""
    if len(points) <= _NEIGHBOURS:
        return torch.full((len(points),), 0.1)
    nearest = torch.cat([torch.cdist(part, points).topk(_NEIGHBOURS + 1, largest=False).values for part in torch.split(points, 1024)])
    spacing = nearest[:, 1:].square().mean(-1).sqrt()
    return spacing.clamp(min=1e-3 * float(spacing.median()) + 1e-9)
