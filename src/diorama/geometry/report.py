"""Measurements to a report: one JSON with every number, and one page that shows them beside known cases."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from diorama.checkpoint import write_text
from diorama.config import to_dict
from diorama.geometry.cameras import Cameras, Floats
from diorama.geometry.matches import normal_scale
from diorama.geometry.measure import MeasureConfig, Measured, Source
from diorama.geometry.page import SceneView, View, page
from diorama.geometry.score import Evidence, score
from diorama.geometry.sfm import Reconstruction
from diorama.geometry.trajectory import TrajectoryError, compare_trajectories
from diorama.geometry.verdict import Verdict, judge, mean_error
from diorama.geometry.views import Views
from diorama.media import resize

__all__ = ["FORMAT", "build", "evidence", "references", "row", "write_report"]

FORMAT = 1
"""Of ``report.json``; grows when the meaning of a key changes."""


def write_report(
    measured: Measured, source: Source, config: MeasureConfig, folder: Path, made: str, rows: Sequence[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Write ``report.json`` and ``report.html`` into a folder and return the former.

    Args:
        measured: What was measured.
        source: Of what.
        config: And how.
        folder: Where.
        made: Version, machine and date in one line.
        rows: Known cases to show beside it; the packaged ones if None.

    Raises:
        CheckpointError: the place cannot be written.
    """
    report = build(measured, source, config, made)
    if rows is not None:
        report["references"] = {"about": "Measured with this clip, with the same settings.", "rows": list(rows)}
    write_text(folder / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.html", page(report, _scene(measured, source), _views(measured)))
    return report


def references() -> dict[str, Any]:
    """Return the packaged reference rows: ``rows`` and, in ``about``, how and where they were measured."""
    text = files("diorama.geometry").joinpath("references.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def build(measured: Measured, source: Source, config: MeasureConfig, made: str) -> dict[str, Any]:
    """Return the report as JSON values; what is unknown is null."""
    told, seen = measured.classical, measured.agreement
    verdict = judge(told, seen, _names(measured))
    graded = score(evidence(measured))
    frames = measured.footage.frames
    report: dict[str, Any] = {
        "format": FORMAT,
        "made": made,
        "input": {
            "name": source.name,
            "num_frames": measured.footage.num_source,
            "used_frames": len(frames),
            "width": frames.shape[2],
            "height": frames.shape[1],
            "numbers": list(measured.footage.numbers),
            "times": measured.footage.times.round(4).tolist(),
            "bars": list(measured.footage.bars),
        },
        "settings": to_dict(config),
        "verdict": {**asdict(verdict), "measurable": verdict.measurable},
        "score": {**graded.to_dict(), "links": [] if seen is None else list(seen.ties)},
        "gate": asdict(told.gate),
        "epipolar": {
            "features": told.epipolar.features,
            "pairs": [asdict(pair) | {"keep_ratio": pair.keep_ratio} for pair in told.epipolar.pairs],
            "curve": [asdict(point) | {"mean": point.mean_error} for point in told.epipolar.curve],
        },
        "tsed": None if told.tsed is None else asdict(told.tsed),
        "moving_pixels": None if told.movers is None else told.movers.moving,
        "agreement": None if seen is None else asdict(seen),
        "sfm": None if told.reconstruction is None else _sfm(told.reconstruction),
        "trajectory": _trajectory(measured, source),
        "nerf": _learned(measured.nerf),
        "splat": _learned(measured.splat),
        "seconds": measured.seconds,
        "references": references(),
    }
    report["row"] = row(measured, source.name, verdict)
    if report["trajectory"] is not None:
        report["row"]["trajectory_error"] = report["trajectory"]["ate"]
    return dict(_known(report))


def evidence(measured: Measured) -> Evidence:
    """Return what the score is made from."""
    told, seen = measured.classical, measured.agreement
    model = told.reconstruction
    count = len(measured.footage.frames)
    if model is None or seen is None:
        return Evidence(
            measurable=False,
            attempted=count,
            registered=0,
            links=(),
            regions=(),
            track_length=0.0,
            reprojection_error=math.nan,
            points_per_frame=0.0,
            held_out_psnr=(),
        )
    return Evidence(
        measurable=told.gate.measurable,
        attempted=model.num_frames,
        registered=len(model.registered),
        links=seen.ties,
        regions=tuple(region for region in seen.regions if not math.isnan(region)),
        track_length=model.mean_track_length,
        reprojection_error=mean_error(model) * normal_scale(model.width, model.height),
        points_per_frame=model.points_per_frame,
        held_out_psnr=tuple(views.mean_psnr for views in (measured.nerf, measured.splat) if views is not None),
    )


def row(measured: Measured, name: str, verdict: Verdict) -> dict[str, Any]:
    """Return a clip as a row of a table; lengths are pixels of the normal size (854 x 480 in area)."""
    told, given = measured.classical, evidence(measured)
    graded = score(given)
    near = told.epipolar.curve[0] if told.epipolar.curve else None
    nerf, splat = (None if views is None else views.mean_psnr for views in (measured.nerf, measured.splat))
    model = told.reconstruction
    line = {
        "name": name,
        "cause": verdict.cause,
        "score": graded.value,
        "structure": graded.structure,
        "attempted": given.attempted,
        "registered": given.registered,
        "track_length": given.track_length or None,
        "reprojection_error": given.reprojection_error,
        "points_per_frame": given.points_per_frame,
        "tie": min(given.links, default=math.nan),
        "regions": list(given.regions),
        "keep_ratio": None if near is None else near.keep_ratio,
        "rmse": None if near is None else near.rmse,
        "map_seconds": None if model is None else model.seconds.get("map"),
        "adjust_seconds": None if model is None else model.seconds.get("adjust"),
        "nerf_psnr": nerf,
        "splat_psnr": splat,
        "gap": None if nerf is None or splat is None else nerf - splat,
    }
    return dict(_known(line))


def _names(measured: Measured) -> list[str]:
    footage = measured.footage
    return [f"frame {number} ({time:.2f} s)" for number, time in zip(footage.numbers, footage.times, strict=True)]


def _sfm(model: Reconstruction) -> dict[str, Any]:
    return {
        "failure": model.failure,
        "attempted": model.num_frames,
        "registered": list(model.registered),
        "registration_rate": model.registration_rate,
        "model_sizes": list(model.model_sizes),
        "track_length": model.mean_track_length,
        "reprojection_error": mean_error(model),
        "points": len(model.points),
        "points_per_frame": model.points_per_frame,
        "frame_points": model.frame_points.tolist(),
        "coverage": model.coverage,
        "outliers": list(model.outliers),
        "focal": model.focal,
        "radial": model.radial,
        "attempts": [{**asdict(one), "chosen": row == model.chosen} for row, one in enumerate(model.attempts)],
        "seconds": model.seconds,
    }


def _learned(views: Views | None) -> dict[str, Any] | None:
    if views is None:
        return None
    return {
        "held_out": list(views.held_out),
        "psnr": list(views.psnr),
        "ssim": list(views.ssim),
        "mean_psnr": views.mean_psnr,
        "mean_ssim": views.mean_ssim,
        "train_psnr": views.train_psnr,
        "steps": views.steps,
        "seconds": views.seconds,
    }


def _scene(measured: Measured, source: Source) -> SceneView | None:
    capture = measured.classical.capture
    if capture is None:
        return None
    return SceneView(
        points=capture.points,
        colors=capture.colors,
        cameras=capture.cameras,
        held_out=capture.held_out.tolist(),
        truth=_true_path(measured, source),
    )


def _views(measured: Measured) -> list[View]:
    """Return the held-out frames beside what was rendered in their place, at the size that was learned."""
    either = measured.nerf or measured.splat
    capture = measured.classical.capture
    if either is None or capture is None:
        return []
    size = either.renders.shape[2], either.renders.shape[1]
    names, model = _names(measured), measured.classical.reconstruction
    assert model is not None
    shown = []
    for place, index in enumerate(either.held_out):
        nerf, splat = ((None, None) if v is None else (v.renders[place], v.psnr[place]) for v in (measured.nerf, measured.splat))
        shown.append(
            View(
                name=names[model.registered[index]],
                input=resize(capture.frames[index][None], size)[0],
                nerf=nerf[0],
                splat=splat[0],
                nerf_psnr=nerf[1],
                splat_psnr=splat[1],
            )
        )
    return shown


def _compared(measured: Measured, source: Source) -> tuple[TrajectoryError, Cameras] | None:
    """Return how far the found cameras are from the true ones, and those."""
    capture, model = measured.classical.capture, measured.classical.reconstruction
    if source.truth is None or capture is None or model is None or len(capture.cameras) < 3:
        return None
    true = source.truth.select([measured.footage.numbers[index] for index in model.registered])
    return compare_trajectories(capture.cameras, true), true


def _trajectory(measured: Measured, source: Source) -> dict[str, float] | None:
    compared = _compared(measured, source)
    if compared is None:
        return None
    error = compared[0]
    return {
        "ate": error.ate,
        "rpe_translation": error.rpe_translation,
        "rpe_rotation": error.rpe_rotation,
        "focal": error.focal,
        "extent": error.extent,
    }


def _true_path(measured: Measured, source: Source) -> Floats | None:
    """Return where the true cameras are in the found world, ``[R, 3]``."""
    compared = _compared(measured, source)
    if compared is None:
        return None
    world, true = compared[0].similarity, compared[1]
    path: Floats = (true.centers - world.translation) @ world.rotation / world.scale
    return path


def _known(value: Any) -> Any:
    """Return JSON values with null for what is no number."""
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(item) for item in value]
    if isinstance(value, np.generic):
        return _known(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
