"""What frames the picture: black bars to crop, and marks and subtitles that lie over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diorama.curation.cuts import Shot
from diorama.curation.manifest import Row
from diorama.curation.overlays import mark_area, subtitle_share, watermark_strength
from diorama.media import Pixels

__all__ = ["agree", "crop_bars", "find_bars", "inside"]

_BLACK = 20.0  # mean luma that a bar may have, compression noise included
_SPREAD = 8.0  # standard deviation along a row or column of a bar
_MOST = 0.42  # share of a side that a bar may take on each edge


def crop_bars(row: Row, shot: Shot) -> tuple[Row, bool]:
    """Return the row with the box that black bars leave and with what lies over the picture, and whether the box is certain.

    It is not where rows or columns at an edge are dark throughout the shot and nothing tells a bar from a dark picture.

    Args:
        row: A piece.
        shot: Its samples.
    """
    if not shot.medium:
        return row, False
    height, width = shot.medium[0].shape[:2]
    bars, certain = find_bars(shot.medium)
    scale_x, scale_y = row.width / width, row.height / height
    left, top, right, bottom = (
        _even(edge * scale, scale) if edge else 0 for edge, scale in zip(bars, (scale_x, scale_y, scale_x, scale_y), strict=True)
    )
    frames = [frame[bars[1] : height - bars[3], bars[0] : width - bars[2]] for frame in shot.medium]
    row = dataclasses.replace(
        row,
        left=left,
        top=top,
        right=row.width - right,
        bottom=row.height - bottom,
        logo_area=mark_area(frames),
        subtitles=subtitle_share(frames),
        watermark=watermark_strength(frames),
    )
    return row, certain


def agree(rows: Sequence[Row], certain: Sequence[bool]) -> list[Row]:
    """Return the rows of a source, those whose box is uncertain with the box that most of its time has.

    Args:
        rows: Pieces of one source.
        certain: For each, whether its box is certain.
    """
    seconds: dict[tuple[int, int, int, int], float] = {}
    for row, sure in zip(rows, certain, strict=True):
        if sure:
            seconds[row.box] = seconds.get(row.box, 0.0) + row.seconds
    if not seconds:
        return list(rows)
    left, top, right, bottom = max(seconds, key=lambda box: (seconds[box], box))
    return [
        row if sure or not row.right else dataclasses.replace(row, left=left, top=top, right=right, bottom=bottom)
        for row, sure in zip(rows, certain, strict=True)
    ]


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


def find_bars(frames: list[Pixels]) -> tuple[tuple[int, int, int, int], bool]:
    """Return how many columns and rows at the left, top, right and bottom are black in every frame, and whether that is certain.

    A dark scene is not a bar: on the other side of a bar's edge the picture must become brighter at once somewhere in the shot.
    Bars of less than a hundredth of a side do not count.

    Args:
        frames: ``[h, w, 3]`` uint8, all of one size.
    """
    luma = np.stack([_luma(frame) for frame in frames])
    (top, bottom), sure_y = _pair(luma.mean(axis=2).max(axis=0), luma.std(axis=2).max(axis=0))
    body = luma[:, top : luma.shape[1] - bottom]
    (left, right), sure_x = _pair(body.mean(axis=1).max(axis=0), body.std(axis=1).max(axis=0))
    return (left, top, right, bottom), sure_x and sure_y


def _luma(frame: Pixels) -> NDArray[np.float32]:
    gray: NDArray[np.float32] = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return gray


def _pair(mean: NDArray[Any], std: NDArray[Any]) -> tuple[tuple[int, int], bool]:
    dark = (mean <= _BLACK) & (std <= _SPREAD)
    first, sure_first = _edge(dark, mean)
    last, sure_last = _edge(dark[::-1], mean[::-1])
    return (first, last), sure_first and sure_last


def _edge(dark: NDArray[Any], mean: NDArray[Any]) -> tuple[int, bool]:
    """Return the length of the dark run at the beginning if the picture beyond it stands out from it, and whether that is certain."""
    if not dark[0]:
        return 0, True
    if dark.all():
        return 0, False
    run = int(np.argmin(dark))
    stands_out = float(mean[run : run + 2].max()) - float(mean[max(0, run - 2)]) >= 12
    if not stands_out or run > _MOST * len(dark):
        return 0, False
    return (run if run >= 0.01 * len(dark) else 0), True
