"""The whole measurement of a clip, stage by stage, each kept in a folder so that a run that was stopped goes on where it was.

    frames -> two-view geometry, gate, structure from motion -> agreement -> radiance field -> splats

Where the gate is shut or no model is found the rest is left out: there is nothing to learn from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from diorama.checkpoint import write_text
from diorama.config import to_dict
from diorama.errors import InputError
from diorama.geometry.agreement import Agreement, agreement
from diorama.geometry.cameras import Cameras, Capture
from diorama.geometry.classical import Classical, classical
from diorama.geometry.frames import MAX_SECONDS, NUM_FRAMES, Footage, footage_of, read_footage
from diorama.geometry.keep import keep, recall
from diorama.geometry.sfm import SfmConfig
from diorama.geometry.views import Views
from diorama.media import Pixels, probe, resize

__all__ = ["MeasureConfig", "Measured", "OtherClipError", "Source", "measure"]

T = TypeVar("T")
Progress = Callable[[str, int, int], None]

PART = 30.0
"""Seconds measured of a video that is too long to be measured whole, from its middle."""
PLAIN = 4.0
"""Standard deviation of grey levels below which a frame shows nothing."""


class OtherClipError(InputError):
    """A folder holds the measurement of another clip, or one with other settings."""


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How a clip is measured."""

    num_frames: int = NUM_FRAMES
    """Frames to choose."""
    side: int = 256
    """Shorter side in pixels at which radiance fields and splats are learned, at most."""
    nerf_steps: int = 2000
    """Steps of the radiance field at most; 0 leaves it out."""
    nerf_seconds: float = 100.0
    """Wall clock of the radiance field at most."""
    splat_steps: int = 2000
    """Steps of splatting at most; 0 leaves it out."""
    splat_seconds: float = 90.0
    """Wall clock of splatting at most."""
    sfm_seconds: float = 300.0
    """Wall clock of structure from motion at most; beyond it, it counts as failed."""
    seed: int = 0
    """Of everything that draws."""
    device: str = "auto"
    """Where fields and splats are learned."""

    def __post_init__(self) -> None:
        if not 32 <= self.side <= 1024:
            raise InputError(f"a side of {self.side} pixels cannot be learned from; allowed is 32 to 1024")
        if self.nerf_steps < 0 or self.splat_steps < 0:
            raise InputError(f"{min(self.nerf_steps, self.splat_steps)} steps cannot be taken; give 1 or more, or 0 to leave that part out")
        if not min(self.nerf_seconds, self.splat_seconds, self.sfm_seconds) > 0:
            raise InputError("a budget of 0 seconds or less leaves no time; give more than 0")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is measured."""

    name: str
    """For people."""
    path: Path | None = None
    """Video file, animation or folder of PNG pictures; or None where ``frames`` are given."""
    frames: Pixels | None = None
    """``[T, H, W, 3]`` uint8."""
    fps: float = 12.0
    """Of ``frames``."""
    start: float = 0.0
    """Seconds of a file to skip."""
    seconds: float | None = None
    """Seconds of a file to measure; None: all, or ``PART`` from the middle of what is longer than ``MAX_SECONDS``."""
    truth: Cameras | None = None
    """The true cameras of ``frames``, where they are known."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that was measured of a clip."""

    footage: Footage
    classical: Classical
    agreement: Agreement | None
    """None where the gate is shut."""
    nerf: Views | None
    splat: Views | None
    seconds: dict[str, float]
    """Wall clock of each stage, from when it was done."""


def measure(source: Source, folder: Path, config: MeasureConfig | None = None, progress: Progress | None = None) -> Measured:
    """Measure a clip.

    Args:
        source: What.
        folder: Keeps every stage's result under ``stages/`` and the cloud of Gaussians in ``splat.ply``; a run that was stopped goes on.
        config: How.
        progress: Called with a stage, steps done and steps in all.

    Raises:
        MediaError: the file cannot be read.
        InputError: the clip has fewer than 3 frames or shows nothing.
        OtherClipError: the folder holds another clip's or config's measurement.
        MissingExtraError: the packages of the extra ``geometry`` are not installed.
    """
    config = config or MeasureConfig()
    stages = _Stages(folder, source, config, progress)
    footage = stages.run("frames", Footage, lambda report: _footage(source, config, report))
    told = stages.run("classical", Classical, lambda _: _classical(footage, folder / "stages" / "sfm", config, stages.report))
    seen, nerf, splat = None, None, None
    if told.gate.measurable:
        seen = stages.run("agreement", Agreement, lambda _: _agreement(footage, told))
    if told.capture is not None and told.capture.held_out.any():
        capture = _sized(told.capture, config.side)
        if config.nerf_steps:
            nerf = stages.run("nerf", Views, lambda report: _nerf(capture, config, report))
        if config.splat_steps:
            splat = stages.run("splat", Views, lambda report: _splat(capture, folder / "splat.ply", config, report))
    seconds = {name: value for name, value in stages.seconds.items() if name != "classical"}
    return Measured(footage=footage, classical=told, agreement=seen, nerf=nerf, splat=splat, seconds={**told.seconds, **seconds})


class _Stages:
    """Runs a stage, or takes its result from the folder where an earlier run left it."""

    def __init__(self, folder: Path, source: Source, config: MeasureConfig, progress: Progress | None) -> None:
        self.folder, self.progress = folder, progress
        self.open: str | None = None
        self.seconds: dict[str, float] = {}
        settings = {"source": _mark(source), **to_dict(config)}
        mark = folder / "settings.json"
        # A run that ended before it had frames, of a file that cannot be read, leaves nothing to mix up.
        if (folder / "stages" / "frames.npz").exists():
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                self._agree(json.loads(mark.read_text(encoding="utf-8")), settings)
        write_text(mark, json.dumps(settings, indent=2) + "\n")

    def _agree(self, before: dict[str, Any], settings: dict[str, Any]) -> None:
        """Refuse a folder of another clip; what was learned with other budgets is learned again, cameras stay."""
        changed = {key for key in settings if before.get(key) != settings[key]}
        if changed & {"source", "num_frames", "sfm_seconds", "seed"}:
            raise OtherClipError(f"{self.folder} holds the measurement of another clip or with other settings; give another folder or remove it")
        for stage in ("nerf", "splat"):
            if changed & {f"{stage}_steps", f"{stage}_seconds", "side", "device"}:
                (self.folder / "stages" / f"{stage}.npz").unlink(missing_ok=True)

    def run(self, name: str, kind: type[T], compute: Callable[[Callable[[int, int], None]], T]) -> T:
        path = self.folder / "stages" / f"{name}.npz"
        value = recall(path, kind)
        clock = self.folder / "stages" / f"{name}.seconds"
        if value is None:
            begun = time.monotonic()
            value = compute(lambda done, total: self.report(name, done, total))
            self.close()
            write_text(clock, f"{time.monotonic() - begun:.3f}\n")
            keep(path, value)
        with contextlib.suppress(OSError, ValueError):
            self.seconds[name] = float(clock.read_text(encoding="utf-8"))
        return value

    def report(self, name: str, done: int, total: int) -> None:
        """Pass progress on; a stage that cannot tell how far it is (0 of 1) is done when the next one begins."""
        if self.progress is None:
            return
        if self.open is not None and self.open != name:
            self.progress(self.open, 1, 1)
        self.open = name if (done, total) == (0, 1) else None
        self.progress(name, done, total)

    def close(self) -> None:
        """Report that what was begun is done."""
        if self.open is not None and self.progress is not None:
            self.progress(self.open, 1, 1)
        self.open = None


def _mark(source: Source) -> dict[str, Any]:
    """Return what tells one source from another without reading all of it."""
    if source.frames is not None:
        digest = hashlib.sha256(np.ascontiguousarray(source.frames).tobytes()).hexdigest()[:16]
        return {"name": source.name, "shape": list(source.frames.shape), "digest": digest}
    assert source.path is not None
    size = source.path.stat().st_size if source.path.is_file() else None
    return {"name": source.name, "bytes": size, "start": source.start, "seconds": source.seconds}


def _footage(source: Source, config: MeasureConfig, report: Callable[[int, int], None]) -> Footage:
    if source.frames is not None:
        footage = footage_of(source.frames, source.fps, num_frames=config.num_frames)
    else:
        assert source.path is not None
        start, seconds = source.start, source.seconds
        length = probe(source.path).seconds - start
        if seconds is None and length > MAX_SECONDS:
            start, seconds = start + (length - PART) / 2, PART
        footage = read_footage(source.path, num_frames=config.num_frames, start=start, seconds=seconds, progress=report)
    if max(float(frame.std()) for frame in footage.frames) < PLAIN:
        raise InputError(f"{source.name} shows nothing: every frame is plain or black; give a clip in which something can be seen")
    return footage


def _classical(footage: Footage, folder: Path, config: MeasureConfig, progress: Progress) -> Classical:
    return classical(footage, folder, config=SfmConfig(time_limit=config.sfm_seconds, seed=config.seed), progress=progress)


def _agreement(footage: Footage, told: Classical) -> Agreement:
    """Ask the second witness, about frames as a pinhole camera saw them where there is one."""
    there = np.zeros(len(footage.frames), dtype=bool)
    if told.capture is None or told.reconstruction is None:
        return agreement(footage.frames, None, there)
    there[list(told.reconstruction.registered)] = True
    straight = footage.frames.copy()
    straight[there] = told.capture.frames
    return agreement(straight, told.capture.cameras, there)


def _sized(capture: Capture, side: int) -> Capture:
    """Return a capture with a shorter side of at most ``side`` pixels."""
    factor = side / min(capture.cameras.width, capture.cameras.height)
    if factor >= 1:
        return capture
    cameras = capture.cameras.scaled(factor)
    masks = None
    if capture.masks is not None:
        across = ((np.arange(cameras.width) + 0.5) / cameras.width * capture.cameras.width).astype(int)
        down = ((np.arange(cameras.height) + 0.5) / cameras.height * capture.cameras.height).astype(int)
        masks = capture.masks[:, down][:, :, across]
    return replace(capture, frames=resize(capture.frames, (cameras.width, cameras.height)), cameras=cameras, masks=masks)


def _nerf(capture: Capture, config: MeasureConfig, report: Callable[[int, int], None]) -> Views:
    from diorama.geometry.nerf import NerfConfig, learn

    how = NerfConfig(steps=config.nerf_steps, seconds=config.nerf_seconds, seed=config.seed, device=config.device)
    return learn(capture, how, report).views


def _splat(capture: Capture, path: Path, config: MeasureConfig, report: Callable[[int, int], None]) -> Views:
    from diorama.geometry.ply import write_ply
    from diorama.geometry.splat import SplatConfig, learn

    how = SplatConfig(steps=config.splat_steps, seconds=config.splat_seconds, seed=config.seed, device=config.device)
    result = learn(capture, how, report)
    write_ply(path, result.gaussians, result.background)
    return result.views
