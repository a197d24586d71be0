"""Frames brought to another size, explicitly: what was cut or padded is returned beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from diorama.errors import MediaError, nearest
from diorama.media.clip import Pixels

__all__ = ["FITS", "Fit", "Placement", "place", "plan", "resize"]

Fit = Literal["crop", "pad", "stretch"]
FITS: tuple[Fit, ...] = get_args(Fit)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How frames of one size were brought to another."""

    fit: Fit
    """crop covers the target and cuts the rest, pad shows the whole source, stretch ignores the shape."""
    source: tuple[int, int]
    """Width and height before, pixels."""
    target: tuple[int, int]
    """Width and height after, pixels."""
    source_box: tuple[float, float, float, float]
    """Part of the source that is shown: left, top, right, bottom, in source pixels."""
    target_box: tuple[int, int, int, int]
    """Part of the target that it fills, in target pixels."""

    def describe(self) -> str:
        """Return one sentence fragment such as ``"640x480 cropped to 480x480, scaled to 128x128"``."""
        source, target = (f"{size[0]}x{size[1]}" for size in (self.source, self.target))
        if self.fit == "crop":
            left, top, right, bottom = self.source_box
            return f"{source} cropped to {right - left:g}x{bottom - top:g}, scaled to {target}"
        if self.fit == "pad":
            left, top, right, bottom = self.target_box
            return f"{source} scaled to {right - left}x{bottom - top}, padded to {target}"
        return f"{source} stretched to {target}"


def plan(source: tuple[int, int], target: tuple[int, int], fit: Fit) -> Placement:
    """Return the placement of ``source`` in ``target``, both (width, height) in pixels.

    Raises:
        MediaError: the fit is unknown or a side is below 1.
    """
    if fit not in FITS:
        raise MediaError(f"fit '{fit}' is not known{nearest(fit, FITS)}; allowed: {', '.join(FITS)}")
    if min(*source, *target) < 1:
        raise MediaError(f"frames of {source[0]}x{source[1]} cannot be brought to {target[0]}x{target[1]}; every side must be at least 1 pixel")
    (w, h), (tw, th) = source, target
    source_box, target_box = (0.0, 0.0, float(w), float(h)), (0, 0, tw, th)
    if fit == "crop":
        scale = max(tw / w, th / h)
        cw, ch = min(w, tw / scale), min(h, th / scale)
        source_box = ((w - cw) / 2, (h - ch) / 2, (w + cw) / 2, (h + ch) / 2)
    elif fit == "pad":
        scale = min(tw / w, th / h)
        pw, ph = max(1, round(w * scale)), max(1, round(h * scale))
        left, top = (tw - pw) // 2, (th - ph) // 2
        target_box = (left, top, left + pw, top + ph)
    return Placement(fit=fit, source=source, target=target, source_box=source_box, target_box=target_box)


def resize(frames: Pixels, size: tuple[int, int], *, box: tuple[float, float, float, float] | None = None) -> Pixels:
    """Scale frames with an anti-aliased bicubic filter.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        size: (width, height) in pixels.
        box: Part of each frame to show: left, top, right, bottom; all of it if None.
    """
    from PIL import Image

    height, width = frames.shape[1:3]
    if size == (width, height) and box in (None, (0.0, 0.0, float(width), float(height))):
        return frames
    out = np.empty((len(frames), size[1], size[0], 3), np.uint8)
    for i, frame in enumerate(frames):
        out[i] = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC, box=box))
    return out


def place(frames: Pixels, size: tuple[int, int], fit: Fit = "crop") -> tuple[Pixels, Placement]:
    """Bring frames to ``size`` and say how.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        size: (width, height) in pixels.
        fit: crop covers ``size`` and cuts what sticks out, centred; pad shows everything on black; stretch changes the shape.

    Returns:
        The frames ``[T, height, width, 3]`` and the placement.

    Raises:
        MediaError: the fit is unknown or a side is below 1.
    """
    placement = plan((frames.shape[2], frames.shape[1]), size, fit)
    left, top, right, bottom = placement.target_box
    shown = resize(frames, (right - left, bottom - top), box=placement.source_box)
    if shown.shape[1:3] == (size[1], size[0]):
        return shown, placement
    out = np.zeros((len(frames), size[1], size[0], 3), np.uint8)
    out[:, top:bottom, left:right] = shown
    return out, placement
