"""Worlds rendered into shards by several processes.

Each shard holds a fixed range of seeds, so that a run can be killed at any moment and started again: finished shards
stay, unfinished ones are made anew, and the bytes do not depend on how many processes worked.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from diorama.config import to_dict
from diorama.data.coverage import coverage_record
from diorama.data.shards import Sample, shard_names, write_shard
from diorama.errors import DataError, cannot_write
from diorama.media.tars import shard_name
from diorama.runtime import end_with_parent, lock_folder, one_thread_each

__all__ = ["MIXTURE", "SMALL_MIXTURE", "RenderReport", "Share", "clip_plan", "render_sample", "render_shards"]

Split = Literal["train", "held_out", "any"]
CLIPS_PER_SHARD = 32
SEEDS_PER_RUN = 1_000_000
NUM_RUNS = 1000
_KEPT = range(10, 20)
"""Millions of scene seeds that are kept for evaluation; runs go round them."""
NUM_CAPTIONS = 3
_SETTINGS = "worlds.json"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A kind of clips and how often it is drawn."""

    weight: float
    """Relative share of all clips."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    num_frames: int
    still: bool = False
    """Whether to render the first frame alone; captions still tell the whole clip."""
    num_bodies: int | None = None
    """Objects, 1 to 4; drawn for each clip if None."""

    def __post_init__(self) -> None:
        if self.num_bodies is not None and not 1 <= self.num_bodies <= 4:
            raise DataError(f"worlds of {self.num_bodies} bodies cannot be rendered; allowed are 1 to 4")


_SMALL = ((96, 96), (128, 80), (80, 128), (112, 80), (80, 112))
_LARGE = ((128, 128), (176, 96), (96, 176), (160, 112), (112, 160))
SMALL_MIXTURE = tuple(Share(weight=0.55 / 10, width=w, height=h, num_frames=frames) for w, h in _SMALL for frames in (17, 33))
"""Areas of about 96 x 96 only: cheap clips for a first phase of training."""
MIXTURE: tuple[Share, ...] = (
    *SMALL_MIXTURE,
    *(Share(weight=0.45 / 5, width=w, height=h, num_frames=33) for w, h in _LARGE),
)
"""55 % of clips have an area of about 96 x 96, half of them 17 frames long; 45 % have about 128 x 128."""


@dataclass(frozen=True, kw_only=True)
class RenderReport:
    """What a rendering run did."""

    clips: int
    """Clips rendered by this run."""
    frames: int
    """Frames rendered by this run."""
    kept: int
    """Clips that were there before."""
    seconds: float

    @property
    def clips_per_second(self) -> float:
        """Clips rendered a second, all processes together."""
        return self.clips / max(self.seconds, 1e-9)

    @property
    def frames_per_second(self) -> float:
        """Frames rendered a second, all processes together."""
        return self.frames / max(self.seconds, 1e-9)


@dataclass(frozen=True, kw_only=True)
class _Settings:
    seed: int
    split: Split
    fps: float
    mixture: tuple[Share, ...]
    device: str = "cpu"


def clip_plan(seed: int, index: int, mixture: tuple[Share, ...] = MIXTURE) -> tuple[int, Share]:
    """Return the scene seed and the size of clip ``index`` of run ``seed``."""
    weights = np.array([share.weight for share in mixture])
    choice = int(np.random.default_rng([seed, index]).choice(len(mixture), p=weights / weights.sum()))
    million = seed if seed < _KEPT.start else seed + len(_KEPT)
    return million * SEEDS_PER_RUN + index, mixture[choice]


def render_sample(seed: int, share: Share, *, split: Split = "train", fps: float = 12.0, device: str = "cpu") -> Sample:
    """Render one world as a sample whose record holds the scene, captions, cameras, contacts and where the bodies are.

    Args:
        seed: Of the scene.
        share: Size, length and number of bodies.
        split: See ``sample_scene``.
        fps: Frames a second.
        device: Where to render.

    Raises:
        InputError: an argument is out of range.
        MissingExtraError: MuJoCo is not installed.
    """
    from diorama.worlds.captions import caption
    from diorama.worlds.clip import film
    from diorama.worlds.sample import sample_world

    size = {"width": share.width, "height": share.height, "num_frames": share.num_frames}
    drawn = sample_world(seed, split=split, fps=fps, num_bodies=share.num_bodies, **size)
    clip = film(*drawn, num_frames=1 if share.still else None, device=device)
    captions = [caption(clip.scene, NUM_CAPTIONS * seed + i) for i in range(NUM_CAPTIONS)]
    record = {
        "seed": seed,
        "split": split,
        "scene": to_dict(clip.scene),
        "captions": {"dense": [c.dense for c in captions], "short": [c.short for c in captions]},
        "cameras": {
            "world_to_camera": np.round(clip.cameras.world_to_camera.cpu().numpy().astype(float), 6).tolist(),
            "intrinsics": np.round(clip.cameras.intrinsics.cpu().numpy().astype(float), 6).tolist(),
        },
        "contacts": [list(contact) for contact in clip.contacts],
        "coverage": coverage_record(clip.instances.cpu()),
    }
    return Sample(key=f"{seed:09d}", frames=clip.frames.cpu().numpy(), fps=fps, record=record)


def render_shards(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    split: Split = "train",
    mixture: tuple[Share, ...] = MIXTURE,
    fps: float = 12.0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RenderReport:
    """Render worlds until ``folder`` holds ``count`` clips.

    Args:
        folder: Where the shards go; what a run with the same settings left there is kept.
        count: Clips in all, 1 to 1 000 000.
        seed: Number of the run, 0 to 999; runs share no scene.
        split: Which combinations of colour and shape to draw.
        mixture: Sizes and their shares.
        fps: Frames a second.
        workers: Processes; one per core if None, this process if 0.
        progress: Called with clips done and clips in all.

    Raises:
        DataError: an argument is out of range, the folder holds another run's clips, another process is rendering into it,
            the disk is full, or a worker was killed.
    """
    folder = Path(folder)
    if not 1 <= count <= SEEDS_PER_RUN or not 0 <= seed < NUM_RUNS:
        raise DataError(f"{count} clips of run {seed} cannot be rendered; allowed are 1 to {SEEDS_PER_RUN} clips and runs 0 to {NUM_RUNS - 1}")
    settings = _Settings(seed=seed, split=split, fps=fps, mixture=mixture)
    with lock_folder(folder, "rendering into"):
        _check_settings(folder, settings)
        for left in folder.glob(".shard-*"):  # of a run that was killed
            left.unlink(missing_ok=True)
        sizes = [min(CLIPS_PER_SHARD, count - first) for first in range(0, count, CLIPS_PER_SHARD)]
        finished = {name: _num_samples(folder, name) for name in shard_names(folder)}
        wanted = [i for i, size in enumerate(sizes) if finished.get(shard_name(i), 0) < size]
        kept = sum(sizes) - sum(sizes[i] for i in wanted)
        start, clips, frames = time.perf_counter(), 0, 0
        if progress is not None:
            progress(kept, count)
        with contextlib.closing(_run(folder, settings, [(i, sizes[i]) for i in wanted], workers)) as results:
            for shard_clips, shard_frames in results:
                clips, frames = clips + shard_clips, frames + shard_frames
                if progress is not None:
                    progress(kept + clips, count)
    return RenderReport(clips=clips, frames=frames, kept=kept, seconds=time.perf_counter() - start)


def _check_settings(folder: Path, settings: _Settings) -> None:
    path, ours = folder / _SETTINGS, json.loads(json.dumps(asdict(settings)))
    if not path.exists():
        if shard_names(folder):
            raise DataError(f"{folder} already holds shards of another kind; choose another folder")
        try:
            path.write_text(json.dumps(ours, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise cannot_write(folder, error) from error
        return
    try:
        theirs = dict(json.loads(path.read_text(encoding="utf-8")))
        # Older folders do not say that they have no stills and any number of bodies.
        theirs["mixture"] = [{"still": False, "num_bodies": None, **share} for share in theirs.get("mixture", [])]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged; delete the folder, or choose another one") from error
    for name, value in ours.items():
        if theirs.get(name) != value:
            shown = "" if name == "mixture" else f" {theirs.get(name)}, not {value}"
            raise DataError(f"{folder} holds clips rendered with another {name}{shown}; choose another folder or the same settings")


def _num_samples(folder: Path, name: str) -> int:
    try:
        samples = len(json.loads((folder / f"{name}.index.json").read_text(encoding="utf-8"))["samples"])
    except (OSError, ValueError, KeyError):
        return 0
    return samples if (folder / f"{name}.tar").is_file() else 0


def _run(folder: Path, settings: _Settings, shards: list[tuple[int, int]], workers: int | None) -> Generator[tuple[int, int]]:
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers == 0:
        for number, size in shards:
            yield _render_shard(folder, settings, number, size)
        return
    waiting = dict(shards)
    while waiting:
        before = len(waiting)
        try:
            for number, result in _run_pool(folder, settings, waiting, workers):
                del waiting[number]
                yield result
        except BrokenProcessPool as error:  # one process was killed, which stops its siblings: go on while shards get done
            if len(waiting) == before:
                raise DataError(
                    "a rendering process was killed, perhaps for lack of memory; run the same command again with fewer workers"
                ) from error


def _run_pool(folder: Path, settings: _Settings, shards: Mapping[int, int], workers: int) -> Iterator[tuple[int, tuple[int, int]]]:
    context = multiprocessing.get_context("spawn")
    with one_thread_each(), ProcessPoolExecutor(min(workers, len(shards)), context, _start_worker, (os.getpid(),)) as pool:
        try:
            futures = {pool.submit(_render_shard, folder, settings, number, size): number for number, size in shards.items()}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Set a worker up to use one thread and to end when its parent is killed."""
    import torch

    torch.set_num_threads(1)
    end_with_parent(parent)


def _render_shard(folder: Path, settings: _Settings, number: int, size: int) -> tuple[int, int]:
    def samples() -> Iterator[Sample]:
        for index in range(number * CLIPS_PER_SHARD, number * CLIPS_PER_SHARD + size):
            seed, share = clip_plan(settings.seed, index, settings.mixture)
            yield render_sample(seed, share, split=settings.split, fps=settings.fps, device=settings.device)

    infos = write_shard(folder, number, samples())
    return len(infos), sum(info.num_frames for info in infos)
