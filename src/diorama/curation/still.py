"""Where nothing moves: how much of a shot stands still, and long stretches of it as pieces of their own.

Only samples are compared, so what moves and is back in its place half a second later is not seen.
"""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np

from diorama.curation.cuts import Shot, cv2_library
from diorama.media.scan import Luma

__all__ = ["divide_still", "static_share", "still_steps"]

_STILL = 1.0  # mean change of luma levels below which two samples show the same picture
_BLOCK = 4  # side of the blocks whose mean change counts, pixels: the noise of a camera averages out in them
_FIELDS = 6  # a change counts where it is largest, in one of this many fields along each side


def still_steps(luma: Luma) -> list[bool]:
    """Return, for every step between samples ``[n, h, w]``, whether next to nothing changes in it.

    The change counts where it is largest, so that a small thing that moves before a still wall is motion.
    """
    cv2 = cv2_library()
    found = []
    for before, after in pairwise(luma):
        change = after.astype(np.float32) - before
        blocks = max(_FIELDS, change.shape[1] // _BLOCK), max(_FIELDS, change.shape[0] // _BLOCK)
        coarse = np.abs(cv2.resize(change, blocks, interpolation=cv2.INTER_AREA))
        fields = cv2.resize(coarse, (_FIELDS, _FIELDS), interpolation=cv2.INTER_AREA)
        found.append(bool(fields.max() < 2 * _STILL and fields.mean() < _STILL))
    return found


def static_share(luma: Luma) -> float | None:
    """Return the share of steps between samples ``[n, h, w]`` in which next to nothing changes, 0 to 1; None for a single sample."""
    steps = still_steps(luma)
    return sum(steps) / len(steps) if steps else None


def divide_still(shot: Shot, longest: float) -> list[Shot]:
    """Return the pieces of a shot in order: stretches in which nothing moves for longer than ``longest``, and what is between them.

    Args:
        shot: A shot; gaps and fades are returned as they are.
        longest: Seconds.
    """
    if shot.gap or shot.fade or len(shot.medium) < 2 or shot.times[-1] - shot.times[0] < longest:
        return [shot]
    cv2 = cv2_library()
    steps = still_steps(np.stack([cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in shot.medium]))
    edges = {0, shot.num_frames}
    for still, group in groupby(range(len(steps)), key=lambda i: steps[i]):
        run = list(group)
        first, last = run[0], run[-1]
        start, stop = shot.sampled[first], shot.sampled[last + 1]
        if still and shot.times[stop] - shot.times[start] > longest:
            edges |= {start if first else 0, stop if last + 2 < len(shot.sampled) else shot.num_frames}
    times = [*shot.times, shot.end_time]
    parts = []
    for a, b in pairwise(sorted(edges)):
        begins, ends = shot.begins if a == 0 else "still", shot.ends if b == shot.num_frames else "still"
        parts.append(shot.part(a, b, times[b], begins, ends))
    return parts
