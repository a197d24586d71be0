"""Structure from motion: frames to cameras and points, with a hard time limit, resumable, and honest about failure.

A reconstruction never raises for what a video shows: it says in ``failure`` why it has no cameras. Work happens in a folder whose files
are stages; a second run on the same frames goes on where the first one ended, however it ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diorama.errors import InputError, MissingExtraError
from diorama.geometry import sfm_worker
from diorama.geometry.cameras import Cameras, Floats
from diorama.geometry.lens import STARTS, Attempt, best, settled
from diorama.geometry.matches import Features, normal_scale
from diorama.geometry.sfm_worker import believable

__all__ = ["Reconstruction", "SfmConfig", "kept_waiting", "pairs_to_match", "reconstruct"]

Ints = NDArray[np.int64]
_LOOK = 1.0
"""Seconds between two looks at how long the worker was kept waiting."""


@dataclass(frozen=True, kw_only=True)
class SfmConfig:
    """How to reconstruct."""

    time_limit: float = 300.0
    """Seconds after which matching and mapping are killed together; those in which other programs had the processor do not count on Linux."""
    overlap: int = 8
    """Each frame is matched with this many that follow it, and with those at distances that are powers of two."""
    num_threads: int = 1
    """Threads; with one, the same clip gives the same model. More are faster and take sums in another order each time, and a clip that can
    hardly tell its lens gets another lens each time. 0 takes one for each core that the process may use, at most 8."""
    seed: int = 0
    """Of random sampling."""

    def __post_init__(self) -> None:
        if not self.time_limit > 0:
            raise InputError(f"a time limit of {self.time_limit:g} seconds leaves no time; allowed is above 0")
        if self.overlap < 1 or self.num_threads < 0 or self.seed < 0:
            raise InputError(
                f"overlap {self.overlap}, threads {self.num_threads} and seed {self.seed} cannot be used; "
                "allowed are overlap from 1 and the others from 0"
            )


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What structure from motion found; pixels are those of the frames given."""

    num_frames: int
    """Frames attempted."""
    width: int
    height: int
    registered: tuple[int, ...] = ()
    """Frames of the largest model, in order."""
    model_sizes: tuple[int, ...] = ()
    """Registered frames of each model found, the largest first, leaving out those without frames of their own; one is the sign of one world."""
    world_to_camera: Floats = field(default_factory=lambda: np.zeros((0, 4, 4)))
    """``[R, 4, 4]`` of the registered frames."""
    focal: float = float("nan")
    """Pixels."""
    radial: float = 0.0
    """Distortion k: a ray at distance r from the axis is seen at r (1 + k r^2), in focal lengths."""
    points: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    """``[P, 3]``."""
    tracks: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """``[P]`` frames that see each point."""
    errors: Floats = field(default_factory=lambda: np.zeros(0))
    """``[P]`` mean reprojection error of each point, pixels."""
    seen_frames: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """``[O]`` frame number of each observation."""
    seen_points: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """``[O]`` point of each observation."""
    seen_pixels: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """``[O, 2]`` where in the frames as given, still distorted."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of match, map (with its bundle adjustments) and adjust, the last bundle adjustment over everything; of all attempts together."""
    failure: str | None = None
    """Why there are no cameras, in words; None if there are."""
    attempts: tuple[Attempt, ...] = ()
    """The models that this one was chosen from: one where its lens was free, more where that ran away or left frames out."""
    chosen: int = 0
    """Which of the attempts this is."""

    @property
    def registration_rate(self) -> float:
        """Registered over attempted frames; failures count as 0."""
        return len(self.registered) / self.num_frames if self.num_frames else 0.0

    @property
    def mean_track_length(self) -> float:
        """Mean number of frames that see a point; 0 without points."""
        return float(self.tracks.mean()) if len(self.tracks) else 0.0

    @property
    def reprojection_error(self) -> float:
        """Mean over points of their mean distance to where they are seen, pixels, as COLMAP has it; NaN without points."""
        return float(self.errors.mean()) if len(self.errors) else float("nan")

    @property
    def frame_points(self) -> Ints:
        """Points that each attempted frame sees, ``[T]``; 0 where it was not registered."""
        return np.bincount(self.seen_frames, minlength=self.num_frames)

    @property
    def points_per_frame(self) -> float:
        """Mean of ``frame_points`` over the attempted frames."""
        return float(self.frame_points.mean()) if self.num_frames else 0.0

    @property
    def cameras(self) -> Cameras:
        """Pinhole cameras of the registered frames once undistorted.

        Raises:
            InputError: the reconstruction failed.
        """
        if self.failure is not None:
            raise InputError(f"there are no cameras: {self.failure}")
        focal = self.focal * self.zoom
        intrinsics = np.tile(np.array([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1]]), (len(self.registered), 1, 1))
        return Cameras(intrinsics=intrinsics, world_to_camera=self.world_to_camera, width=self.width, height=self.height)

    @property
    def zoom(self) -> float:
        """By how much undistorted frames are enlarged so that none of their pixels lies outside the frame, at least 1."""
        corner = np.hypot(self.width, self.height) / 2 / self.focal
        return float(1 + max(0.0, self.radial) * corner**2)

    @property
    def coverage(self) -> float:
        """How far round the scene the cameras go, radians: a full circle less the largest gap in azimuth.

        Azimuth is taken about the median point in the plane that the cameras fit best. Source: mvp18/3DConsistency-metrics.
        """
        if self.failure is not None or len(self.registered) < 2 or not len(self.points):
            return 0.0
        offset = self.cameras.centers - np.median(self.points, axis=0)
        _, _, axes = np.linalg.svd(offset - offset.mean(0))
        flat = offset @ axes[:2].T
        angles = np.sort(np.arctan2(flat[:, 1], flat[:, 0]))
        gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
        return float(2 * np.pi - gaps.max())

    @property
    def outliers(self) -> tuple[int, ...]:
        """Frames that do not belong: not registered, or seeing far fewer points, or far less exactly, or from elsewhere than their neighbours."""
        if self.failure is not None:
            return ()
        counts = self.frame_points
        out = {number for number in range(self.num_frames) if number not in set(self.registered)}
        out |= {int(number) for number in np.flatnonzero(counts < 0.25 * np.median(counts[list(self.registered)]))}
        centers = self.cameras.centers
        if len(centers) >= 5:
            steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
            stray = np.linalg.norm(centers[1:-1] - (centers[:-2] + centers[2:]) / 2, axis=1)
            limit = 4 * max(float(np.median(steps)), float(np.percentile(stray, 75)))
            out |= {self.registered[i + 1] for i in np.flatnonzero(stray > limit) if stray[i] == stray[max(0, i - 1) : i + 2].max()}
        return tuple(sorted(out))


def pairs_to_match(num_frames: int, overlap: int) -> list[tuple[int, int]]:
    """Return the pairs of frames to match: neighbours, powers of two apart, and every few frames with each other so that loops close.

    All pairs of up to 20 frames.
    """
    if num_frames <= 20:
        return list(combinations(range(num_frames), 2))
    near = {*range(1, overlap + 1), *(2**i for i in range(num_frames.bit_length()))}
    pairs = {(i, i + d) for d in near for i in range(num_frames - d)}
    keys = sorted({*range(0, num_frames, max(2, num_frames // 12)), num_frames - 1})
    return sorted(pairs | set(combinations(keys, 2)))


def reconstruct(
    features: Sequence[Features],
    size: tuple[int, int],
    folder: str | Path,
    *,
    config: SfmConfig | None = None,
    progress: Callable[[str], None] | None = None,
) -> Reconstruction:
    """Find cameras and points from the features of frames.

    Args:
        features: Of each frame, in order (``matches.extract``); leave out those on moving things.
        size: Width and height of the frames in pixels.
        folder: Where stages are kept; made if absent. Stages of other frames or settings in it are thrown away.
        config: How.
        progress: Called with the name of each stage as it begins.

    Raises:
        MissingExtraError: pycolmap is not installed.
        InputError: there are fewer than 3 frames.
    """
    config = config or SfmConfig()
    if importlib.util.find_spec("pycolmap") is None:
        raise MissingExtraError("pycolmap", "geometry", "structure from motion")
    if len(features) < 3:
        raise InputError(f"{len(features)} frames are too few for structure from motion; give at least 3")
    folder = Path(folder)
    _prepare(folder, features, size, config)
    seconds: dict[str, float] = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
    left = config.time_limit

    def run(stage: str, file: str) -> str | None:
        """Run a stage unless it was run before; return what went wrong, or None."""
        nonlocal left
        if (folder / file).exists():
            return None
        name = stage.partition("=")[0]
        if progress is not None:
            progress(name)
        start = time.monotonic()
        failure, used = _run(stage, folder, left)
        left -= used
        seconds[name] = time.monotonic() - start
        (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
        return failure and f"{failure.format(limit=config.time_limit)}; it was {'matching' if name == 'match' else 'mapping'} frames"

    def mapped(start: float | None) -> Reconstruction:
        stage, file = ("map", "model.npz") if start is None else (f"map={start:g}", f"model-{start:g}.npz")
        failure = run("match", "matches.db") or run(stage, file)
        if failure is not None:
            return Reconstruction(num_frames=len(features), width=size[0], height=size[1], seconds=seconds, failure=failure)
        with np.load(folder / file) as model:
            return _result(dict(model), len(features), size, seconds)

    found = [mapped(None)]
    attempts = [_attempt(None, found[0])]
    # without any two frames that fit there is nothing to start from, whatever the lens; a stage that broke off has used up its time or would again
    if found[0].model_sizes and not settled(attempts[0], len(features)):
        found += [mapped(start) for start in STARTS]
        attempts = [_attempt(start, one) for start, one in zip((None, *STARTS), found, strict=True)]
    chosen = best(attempts)
    spent = {**seconds, **{name: sum(one.seconds.get(name, 0.0) for one in found) for name in found[0].seconds if name != "match"}}
    return replace(found[chosen], seconds=spent, attempts=tuple(attempts), chosen=chosen)


def _attempt(start: float | None, found: Reconstruction) -> Attempt:
    return Attempt(
        start=start,
        registered=len(found.registered),
        focal=found.focal / max(found.width, found.height),
        track_length=found.mean_track_length,
        reprojection_error=found.reprojection_error * normal_scale(found.width, found.height),
        points_per_frame=found.points_per_frame,
        failure=found.failure,
    )


def _prepare(folder: Path, features: Sequence[Features], size: tuple[int, int], config: SfmConfig) -> None:
    """Write what the worker reads, unless the folder already holds it; what belongs to other frames goes."""
    counts = np.array([len(found) for found in features], dtype=np.int64)
    points = np.concatenate([found.points for found in features]).astype(np.float32)
    descriptors = np.concatenate([_root(found.descriptors) for found in features])
    scale = normal_scale(*size)
    normal = np.array([round(size[0] * scale), round(size[1] * scale)])
    threads = config.num_threads or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    options = {**asdict(config), "num_threads": threads}
    kept = {name: value for name, value in options.items() if name in ("overlap", "seed")}
    digest = hashlib.sha256(json.dumps([kept, normal.tolist(), counts.tolist()]).encode())
    digest.update(Path(sfm_worker.__file__).read_bytes())  # stages of another version are not taken up
    digest.update(points.tobytes())
    digest.update(descriptors.tobytes())
    mark = folder / "fingerprint"
    if not (mark.exists() and mark.read_text(encoding="utf-8") == digest.hexdigest()):
        if folder.exists():
            for name in ("fingerprint", "features.npz", "seconds.json"):
                (folder / name).unlink(missing_ok=True)
            for stage in (*folder.glob("matches*.db"), *folder.glob("model*.npz")):
                stage.unlink(missing_ok=True)
            for models in folder.glob("models*"):
                shutil.rmtree(models, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "features.npz", points=points, descriptors=descriptors, counts=counts, size=normal)
        pairs = pairs_to_match(len(features), config.overlap)
        (folder / "pairs.txt").write_text("".join(f"{a:06d} {b:06d}\n" for a, b in pairs), encoding="ascii")
        (folder / "seconds.json").write_text("{}", encoding="utf-8")
        mark.write_text(digest.hexdigest(), encoding="utf-8")
    (folder / "options.json").write_text(json.dumps(options), encoding="utf-8")


def _root(descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return descriptors as COLMAP compares them: square roots of shares, as bytes of 1/512.

    Source: Arandjelovic and Zisserman 2012, "Three things everyone should know to improve object retrieval" (RootSIFT).
    """
    share = descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9)
    return np.asarray(np.clip(np.round(512 * np.sqrt(share)), 0, 255), dtype=np.uint8)


def _run(stage: str, folder: Path, limit: float) -> tuple[str | None, float]:
    """Run a stage of the worker; return what went wrong, with a place for the time limit, or None, and the seconds it used of its limit."""
    command = [sys.executable, "-m", "diorama.geometry.sfm_worker", stage, str(folder)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "GLOG_minloglevel": "1"}
    with (
        (folder / "log.txt").open("ab") as log,
        # the pipe is closed with this process, and the worker ends with the pipe
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True) as worker,
    ):
        begun, used, status = time.monotonic(), 0.0, None
        try:
            while status is None and used < limit:
                waited = kept_waiting(worker.pid)  # not known any more once it has ended
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = worker.wait(timeout=min(limit - used, _LOOK))
                used = time.monotonic() - begun - waited
        finally:
            if worker.poll() is None:
                # a hang inside its signal handler ignores everything gentler
                os.killpg(worker.pid, signal.SIGKILL)
    if status is None:
        return "structure from motion took longer than {limit:g} seconds and was stopped", used
    if status != 0:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"structure from motion broke off with {how}, see log.txt in its folder", used
    return None, used


def kept_waiting(process: int) -> float:
    """Return for how many seconds a process was ready to run and others ran, of its threads the one that waited longest.

    0 once it has ended, and where the system does not say.

    Source: "Scheduler Statistics" in the documentation of the Linux kernel, on ``/proc/PID/schedstat``.
    """
    waited = 0
    for told in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread may end meanwhile
            waited = max(waited, int(told.read_text(encoding="ascii").split()[1]))
    return waited / 1e9


def _result(model: dict[str, Any], num_frames: int, size: tuple[int, int], seconds: dict[str, float]) -> Reconstruction:
    seconds = {**seconds, "map": float(model["map_seconds"]), "adjust": float(model.get("adjust_seconds", 0.0))}
    sizes = tuple(int(value) for value in model["sizes"])

    def failed(why: str) -> Reconstruction:
        return Reconstruction(num_frames=num_frames, width=size[0], height=size[1], model_sizes=sizes, seconds=seconds, failure=why)

    if not sizes:
        return failed("no two frames share enough points under one motion of the camera to begin from")
    scale = normal_scale(*size)
    focal, _, _, radial = (float(value) for value in model["camera"])
    if not all(np.isfinite(model[name]).all() for name in ("poses", "points", "camera", "errors")):
        return failed("the model found has places that are not numbers")
    # behind all cameras, at a lens nobody builds: bundle adjustment converges there when a clip shows no depth
    if not believable(model["camera"], max(size) * scale):
        return failed(f"the model found needs an unbelievable lens of {focal / scale / max(size):.2g} frame widths and distortion {radial:.2g}")
    if len(model["points"]) < 20:
        return failed(f"the model found has only {len(model['points'])} points")
    return Reconstruction(
        num_frames=num_frames,
        width=size[0],
        height=size[1],
        registered=tuple(int(number) for number in model["frames"]),
        model_sizes=sizes,
        world_to_camera=model["poses"],
        focal=focal / scale,
        radial=radial,
        points=model["points"],
        tracks=model["tracks"],
        errors=model["errors"] / scale,
        seen_frames=model["seen_frames"],
        seen_points=model["seen_points"],
        seen_pixels=model["seen_pixels"] / scale,
        seconds=seconds,
    )
