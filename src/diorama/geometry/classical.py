"""The classical part in one call: footage to epipolar curve, gate, masks of movers, cameras and points, and the capture that fields learn from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diorama.geometry.cameras import Capture
from diorama.geometry.epipolar import Epipolar, Tsed, measure_epipolar, tsed
from diorama.geometry.frames import Footage
from diorama.geometry.gate import Gate, gate
from diorama.geometry.masks import Movers, find_movers
from diorama.geometry.matches import extract
from diorama.geometry.sfm import Reconstruction, SfmConfig, reconstruct
from diorama.geometry.undistort import capture_of, straighten

__all__ = ["Classical", "classical"]


@dataclass(frozen=True, kw_only=True)
class Classical:
    """What classical geometry says about a clip."""

    epipolar: Epipolar
    """Over all features, movers included, as the papers have it."""
    gate: Gate
    movers: Movers | None
    """None where the gate is shut."""
    reconstruction: Reconstruction | None
    """None where the gate is shut; may have failed."""
    tsed: Tsed | None
    """With the poses found; None without."""
    capture: Capture | None
    """What radiance fields and splats learn from; None without cameras."""
    seconds: dict[str, float]
    """Wall time of extract, epipolar, masks, match, map and adjust, as far as they ran."""

    @property
    def cause(self) -> str:
        """Why there is no capture, in a clause; empty if there is one."""
        if not self.gate.measurable:
            return self.gate.cause
        return (self.reconstruction.failure or "") if self.reconstruction is not None else ""


def classical(
    footage: Footage,
    folder: str | Path,
    *,
    config: SfmConfig | None = None,
    mask_movers: bool = True,
    always: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Classical:
    """Measure a clip by two-view geometry and reconstruct it if depth can be seen in it.

    Args:
        footage: Frames of the clip.
        folder: Where structure from motion keeps its stages; a second run goes on with them.
        config: Of structure from motion.
        mask_movers: Whether to leave out what moves by itself.
        always: Reconstruct even behind a shut gate, to see what would have come out.
        progress: Called with a stage's name, what is done of it and what there is to do (0 of 1 where that is not known).

    Raises:
        MissingExtraError: OpenCV or pycolmap is not installed.
    """
    seconds: dict[str, float] = {}
    tell = progress or (lambda stage, done, total: None)
    frames = footage.frames
    size = frames.shape[2], frames.shape[1]
    begun = time.monotonic()

    def lap(stage: str) -> None:
        nonlocal begun
        seconds[stage] = time.monotonic() - begun
        begun = time.monotonic()

    features = []
    for number, frame in enumerate(frames):
        features.append(extract(frame))
        tell("extract", number + 1, len(frames))
    lap("extract")
    epipolar = measure_epipolar(features, size, progress=lambda done, total: tell("epipolar", done, total))
    verdict = gate(epipolar)
    lap("epipolar")
    if not (verdict.measurable or always):
        return Classical(epipolar=epipolar, gate=verdict, movers=None, reconstruction=None, tsed=None, capture=None, seconds=seconds)
    movers = find_movers(frames, lambda done, total: tell("masks", done, total)) if mask_movers else Movers(masks=None, moving=0.0)
    still = features if movers.masks is None else [found.within(mask) for found, mask in zip(features, movers.masks, strict=True)]
    lap("masks")
    reconstruction = reconstruct(still, size, folder, config=config, progress=lambda stage: tell(stage, 0, 1))
    seconds |= reconstruction.seconds
    failed = reconstruction.failure is not None
    return Classical(
        epipolar=epipolar,
        gate=verdict,
        movers=movers,
        reconstruction=reconstruction,
        tsed=None if failed else tsed(straighten(still, reconstruction), reconstruction.cameras),
        capture=None if failed else capture_of(reconstruction, frames, movers.masks),
        seconds=seconds,
    )
