"""What frames the picture: black bars to crop, and marks and subtitles that lie over it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diorama.curation.cuts import Shot
from diorama.curation.manifest import Row
from diorama.curation.overlays import subtitle_share, mark_area, watermark_strength
from diorama.media import Pixels

__all__ = ["crop_bars", "find_bars", "inside"]

_BLACK = 20.0  # mean luma that a bar may have, compression noise included
_SPREAD = 8.0  # standard deviation along a row or column of a bar
_MOST = 0.42  # share of a side that a bar may take on each edge


def crop_bars(row: Row, shot: Shot) -> Row:
    """Return the row with the box that black bars leave, in pixels of the source, and with what lies over the picture.

    Args:
        row: A piece.
        shot: Its samples.
    """
    if not shot.medium:
        return row
    height, width = shot.medium[0].shape[:2]
    bars = find_bars(shot.medium)
    scale_x, scale_y = row.width / width, row.height / height
    # A bar's last row is mixed with the picture when it was scaled down, so the edge lies up to one sample further in.
    left, top, right, bottom = (
        _even(edge * scale, scale) if edge else 0 for edge, scale in zip(bars, (scale_x, scale_y, scale_x, scale_y), strict=True)
    )
    box = (left, top, row.width - right, row.height - bottom)
    frames = [frame[bars[1] : height - bars[3], bars[0] : width - bars[2]] for frame in shot.medium]
    return dataclasses.replace(
        row,
        left=box[0],
        top=box[1],
        right=box[2],
        bottom=box[3],
        logo_area=mark_area(frames),
        subtitles=subtitle_share(frames),
        watermark=watermark_strength(frames),
    )


def _even(edge: float, scale: float) -> int:
    """Return an edge rounded up to even pixels, past the sample that is mixed with the picture when frames were scaled down."""
    pixels = int(np.ceil(edge + (scale - 1) * 0.5))
    return pixels + pixels % 2


def inside(row: Row, frame: Pixels) -> Pixels:
    """Return the part of a sampled frame that the row's box keeps."""
    height, width = frame.shape[:2]
    left, top, right, bottom = row.box
    x, y = width / max(1, row.width), height / max(1, row.height)
    return frame[int(np.ceil(top * y - 0.01)) : max(1, int(bottom * y + 0.01)), int(np.ceil(left * x - 0.01)) : max(1, int(right * x + 0.01))]


def find_bars(frames: list[Pixels]) -> tuple[int, int, int, int]:
    """Return how many columns and rows at the left, top, right and bottom are black in every frame.

    A dark scene is not a bar: on the other side of a bar's edge the picture must become brighter at once somewhere in the shot, and
    opposite bars must be about equal, unless there is only one.

    Args:
        frames: ``[h, w, 3]`` uint8, all of one size.
    """
    luma = np.stack([_luma(frame) for frame in frames])
    rows_mean, rows_std = luma.mean(axis=2).max(axis=0), luma.std(axis=2).max(axis=0)
    top, bottom = _pair(rows_mean, rows_std)
    body = luma[:, top : luma.shape[1] - bottom]
    columns_mean, columns_std = body.mean(axis=1).max(axis=0), body.std(axis=1).max(axis=0)
    left, right = _pair(columns_mean, columns_std)
    return left, top, right, bottom


def _luma(frame: Pixels) -> NDArray[np.float32]:
    gray: NDArray[np.float32] = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return gray


def _pair(mean: NDArray[Any], std: NDArray[Any]) -> tuple[int, int]:
    dark = (mean <= _BLACK) & (std <= _SPREAD)
    first, last = _edge(dark, mean), _edge(dark[::-1], mean[::-1])
    limit = int(_MOST * len(dark))
    return (first if first <= limit else 0), (last if last <= limit else 0)


def _edge(dark: NDArray[Any], mean: NDArray[Any]) -> int:
    """Return the length of the dark run at the beginning if the picture beyond it stands out from it."""
    if dark.all():
        return 0
    run = int(np.argmin(dark))
    beyond = float(mean[run : run + 3].max())
    return run if run and beyond - float(mean[:run].mean()) >= 12 else 0
