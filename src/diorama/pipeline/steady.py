"""Generated frames that move as evenly as the given ones beside them.

What is decoded moves in jerks: of the four frames of a latent frame the first goes too far and the last not far enough, since what
is least certain of a motion is drawn where it was. Beside given frames, which do not, that is a jump at every join. Here every place
of the generated frames is moved along its own path, by fractions of a pixel, to where that path bends less; given frames are fixed
ends of it. A path that turns, as that of a ball on the floor, is left as it is.

Source: the path is smoothed as by Whittaker 1923, "On a new method of graduation", with squared second differences.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.media import Pixels
from diorama.ops.box import box_mean
from diorama.ops.optical_flow import brought, flow_between, slope_products, slopes

__all__ = ["steady"]

_STIFFNESS = 2.0
"""Weight of squared bends of a path over squared displacements: jerks within a latent frame's four go. Stiffer paths are evener, but coded
clips are farther from their originals then (64: by 0.5 dB and more; 2: by less than 0.1 dB nearer or farther)."""
_REACH = 5
"""Frames on either side whose bends move a frame; farther ones have next to no weight."""
_TURN = 0.5
"""Pixels a frame: a path that changes by more than this and its speed together turns, and is left."""
_LEAST = 0.02
"""Pixels: a place that would move by less stays bit-equal, since nobody sees it move and reading between pixels blurs."""
_ALIKE = 8.0
"""Levels of 255 by which the same thing may be drawn differently in the next frame, at the size at which motion is found; noise differs by 20."""
_NEAR = 5
"""Side in pixels of the neighbourhood that bends together, at the size at which motion is found."""
_SIDE = 256
"""Pixels of a picture's shorter side at which motion is found, about; small pictures are halved, for finer than that coded ones say little."""


def steady(frames: Pixels, before: Pixels, after: Pixels, *, pace: float = 1.0) -> Pixels:
    """Even the motion of generated frames between given ones.

    Args:
        frames: Generated, ``[T, H, W, 3]`` uint8.
        before: The last given frames before them, at most two ``[0 to 2, H, W, 3]``.
        after: The first given frames behind them, at most two.
        pace: What a step of the generated frames takes of the time between two given ones.

    Returns:
        ``[T, H, W, 3]`` uint8.
    """
    if not len(frames) or not (len(before) or len(after)) or min(frames.shape[1:3]) < 4:
        return frames
    path = _Path(np.concatenate([before, frames, after]), (len(before), len(before) + len(frames)), pace)
    return np.stack([path.moved(frame) for frame in range(*path.made)])


class _Path:
    """Frames, the flow between them, and where their paths bend; flows that are passed are forgotten.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        made: The first generated frame and the one behind the last.
        pace: As in ``steady``.
    """

    def __init__(self, frames: Pixels, made: tuple[int, int], pace: float) -> None:
        self.made = made
        self._frames, self._pace = frames, pace
        self._shrunk = max(2, round(min(frames.shape[1:3]) / _SIDE))
        self._flows: dict[tuple[int, int], Tensor] = {}
        self._bends: dict[int, Tensor] = {}

    def moved(self, frame: int) -> Pixels:
        """Return a generated frame ``[H, W, 3]``, each place of it where its path bends less."""
        for old in [pair for pair in self._flows if min(pair) < frame - _REACH - 1]:
            del self._flows[old]
        for bent in [known for known in self._bends if known < frame - _REACH]:
            del self._bends[bent]
        weights = _weights(frame, self.made, len(self._frames))
        shift = sum(weights[k] * bend for k, bend in self._seen_from(frame) if k in weights)
        assert isinstance(shift, Tensor)
        shift = shift * (shift.norm(dim=1, keepdim=True) > _LEAST / self._shrunk)
        wide = self._shrunk * functional.interpolate(shift, self._frames.shape[1:3], mode="bilinear", align_corners=False)
        levels = brought(_planes(self._frames[frame]), -wide, "bicubic")[0].round().clamp(0, 255).byte()
        moved: Pixels = levels.permute(1, 2, 0).contiguous().numpy()
        return moved

    def _seen_from(self, frame: int) -> Iterator[tuple[int, Tensor]]:
        """Yield every bend in reach, at the places that a frame's own have come from or go to."""
        yield frame, self._bend(frame)
        for way in (-1, 1):
            place = torch.zeros_like(self._bend(frame))
            for k in range(frame + way, frame + way * (_REACH + 1), way):
                if not 0 <= k < len(self._frames):
                    break
                place = place + brought(self._flow(k - way, k), place)
                yield k, brought(self._bend(k), place)

    def _bend(self, frame: int) -> Tensor:
        """Return the change of velocity at a frame ``[1, 2, h, w]``, nothing at the first and last and where it is a turn or not known."""
        if frame not in self._bends:
            picture = self._small(frame)
            if not 0 < frame < len(self._frames) - 1:
                return picture.new_zeros(1, 2, *picture.shape[2:])
            ways = {way: self._flow(frame, frame + way) for way in (-1, 1)}
            ahead, back = (flow * self._steps(frame, way) for way, flow in ((1, ways[1]), (-1, ways[-1])))
            bend = ahead + back
            fastest = torch.maximum(ahead.norm(dim=1, keepdim=True), back.norm(dim=1, keepdim=True))
            trust = torch.exp(-((bend.norm(dim=1, keepdim=True) / (fastest + _TURN / self._shrunk)) ** 4))
            for way, flow in ways.items():
                error = box_mean((brought(self._small(frame + way), flow) - picture).abs().mean(1, keepdim=True), _NEAR)
                trust = trust * torch.exp(-((error / _ALIKE) ** 2))
            steep = slope_products(*slopes(picture))[:, [0, 2]].sum(1, keepdim=True) + 1
            self._bends[frame] = box_mean(steep * trust * bend, _NEAR) / box_mean(steep, _NEAR)
        return self._bends[frame]

    def _steps(self, frame: int, way: int) -> float:
        """Return by what a flow is multiplied to be that of one step."""
        first, end = self.made
        return self._pace if max(frame, frame + way) < first or min(frame, frame + way) >= end else 1.0

    def _flow(self, frame: int, other: int) -> Tensor:
        pair = (frame, other)
        if pair not in self._flows:
            self._flows[pair] = flow_between(self._small(frame), self._small(other))
        return self._flows[pair]

    def _small(self, frame: int) -> Tensor:
        return functional.avg_pool2d(_planes(self._frames[frame]), self._shrunk)


def _weights(frame: int, made: tuple[int, int], count: int) -> dict[int, float]:
    """Return how far a frame is moved by a bend of one pixel at every frame in reach.

    Args:
        frame: Which.
        made: The first frame that may move and the one behind the last.
        count: Frames in all.
    """
    first, end = max(0, frame - 2 * _REACH), min(count, frame + 2 * _REACH + 1)
    bends = torch.zeros(end - first, end - first, dtype=torch.double)
    for k in range(1, end - first - 1):
        bends[k, k - 1 : k + 2] = torch.tensor([1.0, -2.0, 1.0], dtype=torch.double)
    start, stop = max(first, made[0]), min(end, made[1])
    bends = bends[:, start - first : stop - first]
    stiff = torch.eye(stop - start, dtype=torch.double) + _STIFFNESS * bends.T @ bends
    row = torch.linalg.solve(stiff, -_STIFFNESS * bends.T)[frame - start]
    return {k: float(row[k - first]) for k in range(max(first, frame - _REACH), min(end, frame + _REACH + 1))}


def _planes(frame: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
