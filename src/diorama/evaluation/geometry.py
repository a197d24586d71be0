"""How much 3D a model understands: many prompts and seeds, each video measured by classical reconstruction, failures counted as 0.

The generator comes in as a function, so anyone's can be graded. An interrupted run goes on where it stopped. Still worlds with known
cameras, the ceiling of every table, come from here too.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diorama.checkpoint import write_text
from diorama.config import to_dict
from diorama.errors import InputError
from diorama.evaluation.answers import append, claim, recall
from diorama.evaluation.report import machine, table
from diorama.geometry.cameras import Cameras
from diorama.geometry.controls import negatives
from diorama.geometry.measure import MeasureConfig, OtherClipError, Source, measure
from diorama.geometry.report import write_report
from diorama.media import Clip, Pixels, from_tensor, resize, to_tensor
from diorama.worlds.clip import WorldClip, make_clip
from diorama.worlds.sample import sample_scene

__all__ = [
    "GeometryReport",
    "bootstrap",
    "coded",
    "compare",
    "evaluate_geometry",
    "reference_rows",
    "still_world",
    "summary",
    "world_source",
]

Generator = Callable[[str, int], np.ndarray]
"""Prompt and seed to uint8 frames ``[T, H, W, 3]``."""
FIRST_ORBIT = 5_000_084
TRIES = 1000
DRAWS = 2000
ZERO = ("score", "structure", "attempted", "registered", "points_per_frame")
UNKNOWN = ("track_length", "reprojection_error", "keep_ratio", "rmse", "map_seconds", "adjust_seconds", "nerf_psnr", "splat_psnr", "gap")


def still_world(seed: int = FIRST_ORBIT, *, size: tuple[int, int] = (256, 256), num_frames: int = 48, fps: float = 12.0) -> WorldClip:
    """Return the first world from a seed on in which everything rests while the camera orbits.

    Args:
        seed: Where to begin.
        size: Width and height, pixels.
        num_frames: Length.
        fps: Frames a second.

    Raises:
        InputError: none of the next thousand worlds is one.
    """
    how = {"width": size[0], "height": size[1], "num_frames": num_frames, "fps": fps, "num_bodies": 3}
    for number in range(seed, seed + TRIES):
        scene = sample_scene(number, split="any", **how)  # type: ignore[arg-type]
        if scene.camera.move.startswith("orbit") and all(body.motion == "rest" for body in scene.bodies):
            return make_clip(number, split="any", **how)  # type: ignore[arg-type]
    raise InputError(f"no still world with an orbit is among seeds {seed} to {seed + TRIES - 1}; begin elsewhere")


def world_source(world: WorldClip, name: str) -> Source:
    """Return a world as what can be measured, with its true cameras."""
    count, height, width = world.frames.shape[:3]
    truth = Cameras(
        intrinsics=np.tile(world.cameras.intrinsics.double().numpy(), (count, 1, 1)),
        world_to_camera=world.cameras.world_to_camera.double().numpy(),
        width=width,
        height=height,
    )
    return Source(name=name, frames=world.frames.numpy(), fps=world.fps, truth=truth)


def coded(frames: Pixels, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> Pixels:
    """Return frames as an autoencoder gives them back: what compression alone costs.

    Args:
        frames: ``[T, H, W, 3]`` uint8; brought to sides of multiples of 16, and cut to a length of 1 + 4 k.
        encode: Video ``[1, 3, T, H, W]`` in [-1, 1] to a latent.
        decode: The reverse.
    """
    usable = frames[: 1 + (len(frames) - 1) // 4 * 4]
    height, width = (max(16, round(side / 16) * 16) for side in frames.shape[1:3])
    with torch.inference_mode():
        video = to_tensor(Clip(resize(usable, (width, height)), 12.0))
        return from_tensor(decode(encode(video)).float(), 12.0).frames


def reference_rows(
    frames: Pixels,
    code: Callable[[], Pixels],
    folder: Path,
    config: MeasureConfig,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure what a clip's own report is to be read beside: the clip coded, a rendered world and the clip's negative controls.

    Args:
        frames: ``[T, H, W, 3]`` uint8, those that the report looks at.
        code: Returns the clip through an autoencoder and back, see ``coded``: with every frame, for frames far apart in time are not what one
            is made for.
        folder: Keeps each measurement; an interrupted run goes on.
        config: As for the clip.
        progress: Called with ``"references"``, done and in all.

    Returns:
        Rows as ``geometry.report.row`` has them, with ``kind``: positive or negative.
    """
    world = world_source(still_world(num_frames=len(frames)), "rendered world, known cameras")
    cases: list[tuple[str, str, Callable[[], Source]]] = [
        ("rendered", "positive", lambda: world),
        ("coded", "positive", lambda: Source(name="this clip through the autoencoder", frames=code())),
    ]
    assert world.frames is not None
    for name, made in negatives(frames, world.frames).items():
        source = Source(name=f"{name}, of this clip", frames=made)
        cases.append((name.replace(" ", "-"), "negative", lambda source=source: source))  # type: ignore[misc]
    rows = []
    for index, (name, kind, make) in enumerate(cases):
        if progress is not None:
            progress("references", index, len(cases))
        rows.append({**_measured(make(), folder / name, config), "kind": kind})
    if progress is not None:
        progress("references", len(cases), len(cases))
    return rows


@dataclass(frozen=True, kw_only=True)
class GeometryReport:
    """Scores of one generator over prompts and seeds."""

    label: str
    """The generator and its settings."""
    rows: tuple[Mapping[str, Any], ...]
    """One for each video, see ``geometry.report.row``, with ``prompt`` and ``seed``."""
    failure: str | None = None
    """Why there are no rows, where the generator could not even be read."""

    @classmethod
    def load(cls, folder: Path) -> GeometryReport:
        """Read what ``save`` wrote."""
        kept = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return cls(label=kept["label"], rows=tuple(kept["rows"]))

    def figures(self) -> dict[str, float]:
        """Return what is known of ``summary`` as flat figures for a log: ``score``, ``score_low``, ``score_high`` and so on."""
        out = {}
        for name, value in summary(self.rows).items():
            plain = name.replace(" - ", " minus ").replace(" ", "_")
            ends = {plain: value["mean"], f"{plain}_low": value["low"], f"{plain}_high": value["high"]}
            out.update({} if math.isnan(value["mean"]) else ends)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"label": self.label, "machine": machine(), "summary": summary(self.rows), "rows": [dict(row) for row in self.rows]}

    def text(self) -> str:
        """Return the table with 95 % bootstrap intervals over prompts."""
        return f"{self.label}: {len(self.rows)} videos\n{machine()}\n\n{compare([self])}\n"

    def save(self, folder: Path) -> None:
        """Write ``report.json`` and ``report.txt``.

        Raises:
            CheckpointError: the place cannot be written.
        """
        write_text(folder / "report.json", json.dumps(self.to_dict(), indent=2) + "\n")
        write_text(folder / "report.txt", self.text())


def compare(reports: Sequence[GeometryReport]) -> str:
    """Return one table with a line for each generator, and the reasons of those that have none to show."""
    lines = [(report.label, *(_cell(name, value) for name, value in summary(report.rows).items())) for report in reports]
    reasons = [f"\n{report.label}: {report.failure}" for report in reports if report.failure is not None]
    return table(("model", *summary(())), lines) + "".join(reasons)


def _cell(name: str, value: Mapping[str, float]) -> str:
    if math.isnan(value["mean"]):
        return "-"
    form = "{:.1f} ({:.1f}-{:.1f})" if value["mean"] > 2 or "dB" in name else "{:.2f} ({:.2f}-{:.2f})"
    return form.format(value["mean"], value["low"], value["high"])


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return means with 95 % intervals: rates and scores over all videos (failures 0), errors over those that have one.

    Args:
        rows: See ``GeometryReport.rows``.
    """
    groups = [row["prompt"] for row in rows]

    def of(values: Sequence[float | None]) -> dict[str, float]:
        known = [(group, value) for group, value in zip(groups, values, strict=True) if value is not None]
        low, mean, high = bootstrap([value for _, value in known], [group for group, _ in known])
        return {"low": low, "mean": mean, "high": high, "count": float(len(known))}

    def registered(row: Mapping[str, Any]) -> float:
        return row["registered"] / row["attempted"] if row["attempted"] else 0.0

    return {
        "score": of([row["score"] for row in rows]),
        "measurable": of([float(row["cause"] not in ("not measurable", "failed")) for row in rows]),
        "one world": of([float(row["cause"] == "consistent") for row in rows]),
        "registered": of([registered(row) for row in rows]),
        "track length": of([row["track_length"] for row in rows]),
        "reprojection px": of([row["reprojection_error"] for row in rows]),
        "mapping s": of([row["map_seconds"] for row in rows]),
        "NeRF dB": of([row["nerf_psnr"] for row in rows]),
        "splat dB": of([row["splat_psnr"] for row in rows]),
        "NeRF - splat dB": of([row["gap"] for row in rows]),
    }


def bootstrap(values: Sequence[float], groups: Sequence[str], draws: int = DRAWS) -> tuple[float, float, float]:
    """Return (low, mean, high) of a mean: its 95 % interval when whole groups are drawn again with replacement.

    Videos of one prompt resemble each other, so prompts are drawn and not videos.

    Args:
        values: One for each video; NaN three times for none.
        groups: The prompt of each.
        draws: How often.
    """
    if not values:
        return math.nan, math.nan, math.nan
    names = sorted(set(groups))
    index = np.array([names.index(group) for group in groups])
    total = np.bincount(index, weights=np.asarray(values, dtype=np.float64), minlength=len(names))
    count = np.bincount(index, minlength=len(names))
    drawn = np.random.default_rng(0).integers(0, len(names), (draws, len(names)))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(np.mean(values)), float(high)


def evaluate_geometry(
    generate: Generator,
    prompts: Sequence[str],
    folder: Path,
    *,
    label: str,
    seeds: int = 2,
    fps: float = 12.0,
    config: MeasureConfig | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> GeometryReport:
    """Generate and measure a video for every prompt and seed.

    Args:
        generate: Makes the clips.
        prompts: What to ask for; a camera that moves past something still is needed for anything to be measurable.
        folder: Takes a folder for each video with its report, ``answers.jsonl``, ``report.json`` and ``report.txt``.
        label: Names the generator and its settings; a folder goes on only with the label it was started with.
        seeds: Videos for each prompt, at least 1.
        fps: Frames a second of the clips.
        config: How each is measured.
        progress: Called with ``"videos"``, done and in all.

    Raises:
        InputError: there is no prompt or seed, or the folder holds another generator's or config's answers.
    """
    config = config or MeasureConfig()
    if not prompts or seeds < 1:
        raise InputError(f"{len(prompts)} prompts x {seeds} seeds ask for nothing; give at least 1 of each")
    claim(folder, {"label": label, "prompts": list(prompts), **to_dict(config)})
    answers = {row["name"]: row for row in recall(folder / "answers.jsonl")}
    wanted = list(itertools.product(range(len(prompts)), range(seeds)))
    rows: list[Mapping[str, Any]] = []
    for done, (index, seed) in enumerate(wanted, start=1):
        name = f"{index:03d}-{seed}"
        if name not in answers:
            row = _measured(Source(name=name, frames=generate(prompts[index], seed), fps=fps), folder / name, config)
            answers[name] = {**row, "prompt": prompts[index], "seed": seed}
            append(folder / "answers.jsonl", answers[name])
        rows.append(answers[name])
        if progress is not None:
            progress("videos", done, len(wanted))
    report = GeometryReport(label=label, rows=tuple(rows))
    report.save(folder)
    return report


def _measured(source: Source, folder: Path, config: MeasureConfig) -> dict[str, Any]:
    try:
        measured = measure(source, folder, config)
    except OtherClipError:
        # a generator that does not repeat itself was stopped half way through this one
        shutil.rmtree(folder)
        return _measured(source, folder, config)
    except InputError as error:
        # a video that shows nothing is an answer, and a wrong one
        return {**dict.fromkeys(UNKNOWN), **dict.fromkeys(ZERO, 0), "name": source.name, "cause": "failed", "why": str(error)}
    report = write_report(measured, source, config, folder, machine())
    return dict(report["row"])
