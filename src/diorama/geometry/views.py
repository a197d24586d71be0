"""Held-out frames as something learned shows them, graded against what the camera saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from diorama.geometry.cameras import Capture
from diorama.geometry.image_metrics import psnr, ssim_map
from diorama.media import Pixels

__all__ = ["Views", "grade", "mean"]

_MOST = 60.0
"""dB that a frame without error counts as in a mean."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Held-out frames as something learned shows them."""

    held_out: tuple[int, ...]
    """Which frames of the capture."""
    psnr: tuple[float, ...]
    """dB of each, over the pixels of the rigid scene."""
    ssim: tuple[float, ...]
    """Structural similarity of each, where its window's middle is in the rigid scene; NaN where it nowhere is."""
    train_psnr: float
    """dB on frames that were learned from."""
    steps: int
    """Steps done."""
    seconds: float
    """Wall clock."""
    renders: Pixels
    """uint8 ``[E, H, W, 3]``."""

    @property
    def mean_psnr(self) -> float:
        """Mean in dB, a frame without error counted as 60 dB; 0 without frames."""
        return mean([min(value, _MOST) for value in self.psnr]) if self.psnr else 0.0

    @property
    def mean_ssim(self) -> float:
        """Mean; 0 without frames."""
        return mean(self.ssim) if self.ssim else 0.0


def grade(capture: Capture, renders: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return PSNR in dB and structural similarity of each frame, over the pixels of the rigid scene; NaN where there are none.

    Args:
        capture: The truth, frames of at least 11 pixels on a side.
        renders: uint8 ``[T, H, W, 3]``, the same frames as they are shown.
    """
    masks = np.ones(capture.frames.shape[:3], np.bool_) if capture.masks is None else capture.masks
    signal, likeness = [], []
    for truth, shown, mask in zip(capture.frames, renders, masks, strict=True):
        pair = (torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].double() / 255 for picture in (truth, shown))
        similarity = ssim_map(*pair)[0].mean(0).numpy()
        edge = (mask.shape[0] - similarity.shape[0]) // 2
        chosen = similarity[mask[edge:-edge, edge:-edge]]
        signal.append(psnr(shown, truth, mask))
        likeness.append(float(chosen.mean()) if chosen.size else math.nan)
    return tuple(signal), tuple(likeness)


def mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are numbers; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
