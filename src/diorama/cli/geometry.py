"""``diorama geometry CLIP --out report/``: can a video be understood as 3D, and if not, why? ``diorama evaluate geometry``: can a model's?"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from diorama.cli.arguments import parse
from diorama.cli.progress import progress_bar
from diorama.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from diorama.evaluation.geometry import GeometryReport
    from diorama.geometry.measure import MeasureConfig
    from diorama.media import Pixels
    from diorama.pipeline import Pipeline

__all__ = ["EvaluateGeometry", "Geometry", "evaluate", "run"]

CODED_FRAMES = 177
"""Frames of a clip that go through the autoencoder for its reference row."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Reconstruct a video by SfM, a radiance field and Gaussian splatting, and say how much of a rigid world it shows."""

    clip: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CLIP")]
    """Video, animation or folder of PNG pictures."""
    out: Path = Path("report")
    """Takes report.html, report.json, splat.ply and every stage's result; an interrupted run goes on in the same folder."""
    frames: int = 48
    """Frames to choose from the clip, spread over its motion."""
    size: int = 256
    """Shorter side in pixels at which the radiance field and the splats are learned."""
    start: float = 0.0
    """Seconds to skip."""
    seconds: float | None = None
    """Seconds to measure; all of a clip of up to a minute, and 30 from the middle of a longer one, if left out."""
    nerf_seconds: float = 100.0
    """Wall clock for the radiance field."""
    splat_seconds: float = 90.0
    """Wall clock for the splats."""
    sfm_seconds: float = 300.0
    """Wall clock for structure from motion, beyond which it counts as failed."""
    no_nerf: bool = False
    """Leave the radiance field out."""
    no_splat: bool = False
    """Leave the splats out."""
    references: bool = False
    """Measure this clip's own reference rows too: through the autoencoder, a rendered world, and all negative controls; takes ten times as long."""
    seed: int = 0
    """Of everything that draws."""
    device: str = "auto"
    """Where fields and splats are learned."""


@dataclass(frozen=True, kw_only=True)
class EvaluateGeometry:
    """Ask for videos in which a camera moves past something still, and reconstruct each: how much of a rigid world do they show?"""

    prompts: Path
    """Text file with a prompt on each line."""
    model: tuple[str, ...] = ()
    """Model folders or hub ids, each a line of the table; the packaged model if left out."""
    run: Path | None = None
    """Folder of a transformer's training instead of models: a line for each of its checkpoints, with the averaged weights."""
    follow: bool = False
    """Wait for the run's next checkpoints until its training ends; Ctrl-C ends it before."""
    out: Path | None = None
    """Takes a report for each video and the tables; an interrupted run goes on in the same folder. runs/evaluate-geometry if left out, and
    geometry/ in the run's folder for a run, with log.jsonl and tensorboard/ beside the reports."""
    seeds: int = 2
    """Videos for each prompt."""
    size: str = "128x128"
    """Width x height."""
    num_frames: int = 33
    """Frames of a video."""
    steps: int = 24
    """Solver steps."""
    guidance: float = 4.0
    """How strongly the prompt steers."""
    nerf_steps: int = 1000
    """Steps of the radiance field of each video; 0 leaves it out."""
    splat_steps: int = 1000
    """Steps of the splats of each video; 0 leaves them out."""
    device: str = "auto"
    """Where to generate and to learn."""


def run(arguments: Sequence[str]) -> None:
    """Measure a clip, write the report and print its verdict."""
    options: Geometry = parse(Geometry, arguments, command="geometry")
    from diorama.evaluation.report import machine
    from diorama.geometry.measure import MeasureConfig, Source, measure
    from diorama.geometry.report import write_report
    from diorama.runtime import prepare_cpu

    config = MeasureConfig(
        num_frames=options.frames,
        side=options.size,
        nerf_steps=0 if options.no_nerf else MeasureConfig.nerf_steps,
        nerf_seconds=options.nerf_seconds,
        splat_steps=0 if options.no_splat else MeasureConfig.splat_steps,
        splat_seconds=options.splat_seconds,
        sfm_seconds=options.sfm_seconds,
        seed=options.seed,
        device=options.device,
    )
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"{options.out} is a file; give a folder for the report")
    prepare_cpu()
    source = Source(name=options.clip.name, path=options.clip, start=options.start, seconds=options.seconds)
    with progress_bar() as progress:
        measured = measure(source, options.out, config, progress)
        rows = _own_references(measured.footage.frames, options, config, progress) if options.references else None
    report = write_report(measured, source, config, options.out, machine(), rows)
    graded, verdict = report["score"], report["verdict"]
    print(verdict["sentence"])
    for remark in verdict["remarks"]:
        print(remark)
    print(f"score {graded['value']:.2f} of 1" if verdict["measurable"] else "score 0: not measurable")
    print(f"{sum(report['seconds'].values()):.0f} s; {options.out / 'report.html'}")


def _own_references(frames: Pixels, options: Geometry, config: MeasureConfig, progress: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    from diorama.autoencoder import decode_evenly
    from diorama.evaluation.geometry import coded, reference_rows
    from diorama.media import probe, read_clip
    from diorama.pipeline import Pipeline
    from diorama.runtime import autocast

    models = Pipeline.load(None, options.device).models

    def code() -> Pixels:
        info = probe(options.clip)
        scale = min(1.0, options.size / min(info.width, info.height))
        size = round(info.width * scale), round(info.height * scale)
        given = read_clip(options.clip, start=options.start, max_frames=CODED_FRAMES, size=size).frames
        with autocast(models.device):
            return coded(given, lambda video: models.autoencoder.encode(video.to(models.device)), partial(decode_evenly, models.autoencoder))

    return reference_rows(frames, code, options.out / "references", config, progress)


def evaluate(arguments: Sequence[str]) -> None:
    """Generate and measure a video for every prompt and seed of every model or checkpoint, and print the table."""
    options: EvaluateGeometry = parse(EvaluateGeometry, arguments, command="evaluate geometry")
    from diorama.evaluation.geometry import compare
    from diorama.evaluation.report import machine
    from diorama.pipeline import Pipeline
    from diorama.runtime import prepare_cpu

    if options.run is not None and options.model:
        raise InputError("--run and --model are both given; give the folder of a training, or models")
    if options.follow and options.run is None:
        raise InputError("--follow waits for the checkpoints of a training; give its folder with --run")
    prompts = _prompts(options.prompts)
    prepare_cpu()
    if options.run is not None:
        out, reports = options.out or options.run / "geometry", _checkpoints(options.run, options, prompts)
    else:
        out = options.out or Path("runs/evaluate-geometry")
        reports = []
        for model in options.model or (None,):
            pipeline = Pipeline.load(model, options.device)
            reports.append(_report(pipeline, f"model {pipeline.hash}", out / pipeline.hash, options, prompts))
    print(f"{machine()}\n\n{compare(reports)}\nreports: {out}")


def _report(pipeline: Pipeline, name: str, folder: Path, options: EvaluateGeometry, prompts: Sequence[str]) -> GeometryReport:
    from diorama.evaluation.geometry import evaluate_geometry
    from diorama.geometry.measure import MeasureConfig
    from diorama.shapes import parse_size

    size, frames, steps, guidance = parse_size(options.size), options.num_frames, options.steps, options.guidance

    def generate(prompt: str, seed: int) -> Pixels:
        return pipeline.generate(prompt, size=size, num_frames=frames, seed=seed, steps=steps, guidance_scale=guidance).frames

    with progress_bar() as progress:
        return evaluate_geometry(
            generate,
            prompts,
            folder,
            label=f"{name}, {options.size}, {frames} frames, {steps} steps, guidance {guidance:g}",
            seeds=options.seeds,
            config=MeasureConfig(nerf_steps=options.nerf_steps, splat_steps=options.splat_steps, device=options.device),
            progress=progress,
        )


def _checkpoints(run: Path, options: EvaluateGeometry, prompts: Sequence[str]) -> list[GeometryReport]:
    """Measure a run's checkpoints and return their reports in the order of steps, with those of checkpoints that are gone by now.

    This looks at a run from outside and is no part of the training loop: a training that was started without it can be followed, or measured
    after it ended; the loop does not wait for minutes of reconstruction, only for its share of the machine, which ``nice`` or another
    ``--device`` settles; and whatever goes wrong here, training goes on.
    """
    from diorama.checkpoint import write_text
    from diorama.config import to_dict
    from diorama.evaluation.answers import claim
    from diorama.evaluation.geometry import GeometryReport
    from diorama.pipeline import Pipeline
    from diorama.runtime import choose_device
    from diorama.train.checkpoints import follow, opener
    from diorama.train.log import tensorboard

    out = options.out or run / "geometry"
    read = opener(run, choose_device(options.device))
    settings = {key: value for key, value in to_dict(options).items() if key not in ("model", "run", "follow", "out", "seeds")}
    claim(out, {**settings, "prompts": list(prompts)})
    reports = {path.parent.name: GeometryReport.load(path.parent) for path in out.glob("step-*/report.json")}
    writer = tensorboard(out)
    with contextlib.suppress(*((KeyboardInterrupt,) if options.follow else ())):
        for checkpoint in follow(run, wait=options.follow):
            step = int(checkpoint.name.removeprefix("step-"))
            try:
                pipeline = Pipeline(read(checkpoint))
            except CheckpointError as error:
                reports[checkpoint.name] = GeometryReport(label=f"step {step}", rows=(), failure=str(error))
                print(f"step {step}: {error}", flush=True)
                continue
            name = f"{checkpoint.name}-{pipeline.hash}"
            measured_before = name in reports
            reports[name] = _report(pipeline, f"step {step}, model {pipeline.hash}", out / name, options, prompts)
            print(f"step {step}: {_line(reports[name])}", flush=True)
            if writer is not None and not measured_before:
                for key, value in reports[name].figures().items():
                    writer.add_scalar(f"geometry/{key}", value, step)
                writer.flush()
            rows = [{"step": int(each[5:13]), **report.figures()} for each, report in sorted(reports.items()) if report.failure is None]
            write_text(out / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    if writer is not None:
        writer.close()
    if not reports:
        raise InputError(f"{run} has no checkpoint yet; wait for the training's first one, or follow it with --follow")
    return [reports[name] for name in sorted(reports)]


def _line(report: GeometryReport) -> str:
    """Return the means that are known, and how many videos got each verdict: verdicts move before the score leaves 0."""
    means = (f"{key} {value:.2f}" for key, value in report.figures().items() if not key.endswith(("_low", "_high")))
    causes = Counter(row["cause"] for row in report.rows)
    return ", ".join(means) + "; " + ", ".join(f"{count} {cause}" for cause, count in causes.most_common())


def _prompts(path: Path) -> list[str]:
    """Return the lines of a file of prompts.

    Raises:
        InputError: it cannot be read or holds none.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompts cannot be read from {path}; give a text file with a prompt on each line") from error
    if not any(lines):
        raise InputError(f"{path} holds no prompt; give a text file with a prompt on each line")
    return [line for line in lines if line]
