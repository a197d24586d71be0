"""The frames of a piece, for whoever wants to look at it: upright, bars cropped, small."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diorama.curation.manifest import Row
from diorama.errors import MediaError
from diorama.media import Clip, Pixels, iter_frames, resize
from diorama.media.scan import scaled_size

__all__ = ["piece_clip"]


def piece_clip(row: Row, path: Path, *, fps: float = 2.0, longest: int = 256, max_frames: int = 256) -> Clip:
    """Return a piece as a small clip, evenly sampled in time.

    Args:
        row: A video piece or a picture.
        path: A local copy of its source.
        fps: Frames a second; fewer if the piece would give more than ``max_frames``.
        longest: Longer side, pixels.
        max_frames: Most frames.

    Raises:
        MediaError: the source cannot be read there.
    """
    if row.kind == "image":
        frames = [next(iter(iter_frames(path))).pixels]
        rate = 1.0
    else:
        rate = min(fps, row.fps, max_frames / max(row.seconds, 1e-6))
        frames = []
        for frame in iter_frames(path, start=row.start, fps=rate):
            if frame.time >= row.seconds - 1e-6 or len(frames) >= max_frames:
                break
            frames.append(_small(row, frame.pixels, longest))
    if not frames:
        raise MediaError(f"{row.source} has no frame at {row.start:.2f} s; copy it again")
    return Clip(np.stack([_small(row, frame, longest) for frame in frames] if row.kind == "image" else frames), rate)


def _small(row: Row, pixels: Pixels, longest: int) -> Pixels:
    left, top, right, bottom = row.box
    cut = pixels[top:bottom, left:right]
    small: Pixels = resize(cut[None], scaled_size((cut.shape[1], cut.shape[0]), longest))[0]
    return small
