"""Still worlds have their true cameras, tables count failures as 0, and a run can stop and go on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diorama.errors import InputError
from diorama.evaluation.geometry import (
    GeometryReport,
    bootstrap,
    coded,
    compare,
    evaluate_geometry,
    reference_rows,
    still_world,
    summary,
    world_source,
)
from diorama.geometry.cameras import project
from diorama.geometry.controls import CONTROLS
from diorama.geometry.measure import MeasureConfig

QUICK = MeasureConfig(num_frames=6, nerf_steps=0, splat_steps=0)


def line(prompt: str, score: float, **changes: Any) -> dict[str, Any]:
    row = {"prompt": prompt, "score": score, "cause": "consistent", "registered": 10, "attempted": 10, "track_length": 5.0, "reprojection_error": 0.5}
    return {**row, "map_seconds": 2.0, "nerf_psnr": 28.0, "splat_psnr": 29.0, "gap": -1.0, **changes}


FAILED = line(
    "b", 0.0, cause="failed", registered=0, attempted=0, track_length=None, reprojection_error=None, nerf_psnr=None, splat_psnr=None, gap=None
)


def test_failures_count_as_nought_and_errors_only_where_there_are_some() -> None:
    means = summary([line("a", 0.8), line("a", 0.6), FAILED])
    assert means["score"]["mean"] == pytest.approx(1.4 / 3)
    assert means["registered"]["mean"] == pytest.approx(2 / 3)
    assert means["measurable"]["mean"] == pytest.approx(2 / 3)
    assert means["reprojection px"] == pytest.approx({"low": 0.5, "mean": 0.5, "high": 0.5, "count": 2})


def test_the_interval_is_over_prompts() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0.5, 0.1, 400)
    low, mean, high = bootstrap(values.tolist(), [str(i) for i in range(400)])
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.15)
    assert low < mean < high
    # two videos of a prompt that are alike are no more evidence than one
    again = bootstrap(np.repeat(values, 2).tolist(), [str(i // 2) for i in range(800)])
    assert again[2] - again[0] == pytest.approx(high - low, rel=0.05)
    assert all(math.isnan(value) for value in bootstrap([], []))


def test_one_table_for_several_models() -> None:
    text = compare([GeometryReport(label="ours", rows=(line("a", 0.8),)), GeometryReport(label="theirs", rows=(FAILED,))])
    assert text.count("\n") == 3
    assert "0.80 (0.80-0.80)" in text
    assert "| theirs | 0.00 (0.00-0.00)" in text


def test_a_generator_that_cannot_be_read_is_a_line_with_its_reason(tmp_path: Path) -> None:
    good, bad = GeometryReport(label="step 1", rows=(line("a", 0.8), FAILED)), GeometryReport(label="step 2", rows=(), failure="torn")
    head, _, *lines, reason = compare([good, bad]).splitlines()
    assert [row.count("|") for row in lines] == [head.count("|")] * 2
    assert set(lines[1].split()[3:]) == {"-", "|"}
    assert reason == "step 2: torn"
    assert bad.figures() == {}
    figures = good.figures()
    assert (figures["score_low"], figures["score"], figures["score_high"]) == (0.0, 0.4, 0.8)
    assert figures["NeRF_minus_splat_dB"] == -1.0
    good.save(tmp_path)
    assert GeometryReport.load(tmp_path) == good


def test_a_still_world_rests_and_its_cameras_are_true() -> None:
    pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    world = still_world(size=(64, 64), num_frames=3)
    assert all(body.motion == "rest" for body in world.scene.bodies)
    assert world.scene.camera.move.startswith("orbit")
    source = world_source(world, "orbit")
    assert source.truth is not None
    place = np.array([world.scene.bodies[0].position])
    pixels, depth = project(place, source.truth)
    assert (depth > 0).all()
    shown = world.instances[torch.arange(3), pixels[:, 0, 1].astype(int), pixels[:, 0, 0].astype(int)]
    assert (shown == 1).all()  # the first body is seen where its centre is


def test_coding_brings_frames_to_the_grid() -> None:
    seen: list[torch.Size] = []

    def encode(video: torch.Tensor) -> torch.Tensor:
        seen.append(video.shape)
        return video

    frames = np.random.default_rng(0).integers(0, 255, (7, 30, 50, 3)).astype(np.uint8)
    assert coded(frames, encode, lambda latent: latent).shape == (5, 32, 48, 3)
    assert seen == [(1, 3, 5, 32, 48)]
    square = frames[:5, :16, :16]
    assert (coded(square, lambda video: video, lambda latent: latent) == square).all()


def test_a_run_stops_and_goes_on(tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    def generate(prompt: str, seed: int) -> np.ndarray:
        asked.append((prompt, seed))
        if prompt == "black":
            return np.zeros((6, 32, 32, 3), np.uint8)
        return np.random.default_rng(seed).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8).repeat(6, 0)

    def go(prompts: list[str]) -> GeometryReport:
        return evaluate_geometry(generate, prompts, tmp_path / "e", label="still", seeds=2, config=QUICK)

    report = go(["still", "black"])
    assert [row["cause"] for row in report.rows] == ["not measurable"] * 2 + ["failed"] * 2
    assert summary(report.rows)["score"]["mean"] == 0.0
    assert asked == [("still", 0), ("still", 1), ("black", 0), ("black", 1)]
    with (tmp_path / "e" / "answers.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"name": "00')  # cut off by a crash
    assert go(["still", "black"]) == report
    assert len(asked) == 4
    assert json.loads((tmp_path / "e" / "report.json").read_text())["label"] == "still"
    assert (tmp_path / "e" / "000-0" / "report.html").is_file()
    with pytest.raises(InputError, match="other settings"):
        go(["another"])
    with pytest.raises(InputError, match="nothing"):
        evaluate_geometry(generate, [], tmp_path / "f", label="none")


def test_a_generator_that_does_not_repeat_itself_can_go_on(tmp_path: Path) -> None:
    def go(level: int) -> GeometryReport:
        frames = np.random.default_rng(level).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8).repeat(6, 0)
        return evaluate_geometry(lambda prompt, seed: frames, ["still"], tmp_path, label="chance", seeds=1, config=QUICK)

    first = go(0)
    (tmp_path / "answers.jsonl").unlink()  # stopped before the answer was written
    assert go(1).rows[0]["cause"] == first.rows[0]["cause"] == "not measurable"


def test_own_references_are_a_world_the_coded_clip_and_every_control(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    frames = np.random.default_rng(1).integers(0, 255, (3, 16, 16, 3)).astype(np.uint8)
    rows = reference_rows(frames, lambda: frames, tmp_path, MeasureConfig(num_frames=3, nerf_steps=0, splat_steps=0))
    assert [row["kind"] for row in rows] == ["positive"] * 2 + ["negative"] * len(CONTROLS)
    assert all(row["score"] == 0.0 for row in rows[2:])
