"""Figures of a piece: motion, steadiness, sharpness, exposure, text. All from samples of the one decode, inside the bars."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diorama.curation.borders import inside
from diorama.curation.cuts import Shot, cv2_library
from diorama.curation.manifest import Row
from diorama.curation.orientation import upside_down
from diorama.curation.overlays import text_share
from diorama.curation.quality import quality
from diorama.curation.still import static_share
from diorama.media import Pixels
from diorama.media.scan import Luma

__all__ = ["Aesthetic", "flow_figures", "score", "sharpness"]

Aesthetic = Callable[[Sequence[Pixels]], float]
"""A head the user supplies: sampled frames ``[h, w, 3]`` of a piece to a score; higher is better."""

_TEXTS = 6  # frames in which text is looked for


def score(row: Row, shot: Shot, *, aesthetic: Aesthetic | None = None) -> Row:
    """Return the row with its figures.

    Args:
        row: A piece with its box.
        shot: Its samples.
        aesthetic: Head for the aesthetic score; none if None.
    """
    if not shot.medium:
        return row
    frames = [inside(row, frame) for frame in shot.medium]
    luma = np.stack([_gray(frame) for frame in frames])
    levels = luma.astype(np.float32) / 255
    moving = row.kind == "video" and row.num_frames > 1
    motion, jitter = flow_figures(shot.steps, row.fps) if moving else (None, None)
    spread = _spread(len(frames), _TEXTS)
    return dataclasses.replace(
        row,
        motion=motion,
        jitter=jitter,
        static=static_share(luma) if moving else None,
        sharpness=_median([sharpness(piece) for piece in shot.detail]),
        brightness=float(levels.mean()),
        contrast=float(levels.std(axis=(1, 2)).mean()),
        clipped=float(((luma <= 4) | (luma >= 251)).mean()),
        quality=quality(shot.detail),
        text_area=text_share([frames[i] for i in spread]),
        upside_down=upside_down([frames[i] for i in spread]),
        aesthetic=None if aesthetic is None else float(aesthetic(frames)),
    )


def _gray(frame: Pixels) -> Luma:
    gray: Luma = cv2_library().cvtColor(np.ascontiguousarray(frame), cv2_library().COLOR_RGB2GRAY)
    return gray


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _spread(count: int, most: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def flow_figures(steps: Sequence[Luma], fps: float) -> tuple[float | None, float | None]:
    """Return motion and jitter in frame heights per second, None without two frames that follow each other.

    Motion is the mean length of optical flow (OpenCV's DIS) between neighbouring frames, its median over samples. Jitter is the
    change of the whole picture's shift from one frame to the next: a steady pan has none, a hand that trembles has.

    Args:
        steps: Samples of 2 or 3 neighbouring frames ``[n, h, w]``.
        fps: Frames a second.
    """
    cv2: Any = cv2_library()
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    lengths, jumps = [], []
    for step in steps:
        shifts: list[NDArray[np.float32]] = []
        for before, after in pairwise(step):
            if min(before.shape) < 16:
                continue
            vectors = flow.calc(before, after, None)
            lengths.append(float(np.sqrt((vectors**2).sum(axis=-1)).mean()) / before.shape[0] * fps)
            shifts.append(np.median(vectors.reshape(-1, 2), axis=0) / before.shape[0] * fps)
        if len(shifts) == 2:
            jumps.append(float(np.linalg.norm(shifts[1] - shifts[0])))
    return (float(np.median(lengths)) if lengths else None), (float(np.mean(jumps)) if jumps else None)


def sharpness(piece: Luma) -> float | None:
    """Return the energy of the finest detail over that of detail twice as coarse, at full resolution.

    It is about 0.05 where a picture was enlarged or is out of focus, 0.2 to 0.8 where it is sharp, whatever it shows; None where there
    is nothing to be sharp, as before an even wall.

    Args:
        piece: ``[y, x]`` uint8 from the middle of a frame.
    """
    cv2 = cv2_library()
    gray = piece.astype(np.float32)
    fine = cv2.Laplacian(gray, cv2.CV_32F)
    half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    coarse = cv2.Laplacian(half, cv2.CV_32F)
    energy = float(np.sqrt((coarse**2).mean()))
    return float(np.sqrt((fine**2).mean())) / energy if energy > 1.0 else None
