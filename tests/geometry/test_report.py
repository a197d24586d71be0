"""The report holds every number as strict JSON, the page shows it, and known cameras are compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diorama.geometry.controls import CONTROLS
from diorama.geometry.measure import MeasureConfig, Measured, Source, measure
from diorama.geometry.report import build, evidence, references, row, write_report
from diorama.geometry.verdict import Verdict


@pytest.fixture(scope="module")
def report(measured: Measured, corner: Source, light: MeasureConfig) -> dict[str, Any]:
    return build(measured, corner, light, "a machine")


def test_a_rigid_corner_is_called_one_world(report: dict[str, Any]) -> None:
    assert report["verdict"]["cause"] == "consistent"
    assert report["sfm"]["registration_rate"] == 1.0
    assert [(attempt["start"], attempt["chosen"]) for attempt in report["sfm"]["attempts"]] == [(None, True)]
    assert report["score"]["structure"] > 0.6
    assert 0 < report["score"]["value"] < report["score"]["structure"]  # two steps learn nothing yet
    assert report["trajectory"]["ate"] < 0.02
    assert report["row"]["trajectory_error"] == report["trajectory"]["ate"]
    assert report["row"]["gap"] == pytest.approx(report["nerf"]["mean_psnr"] - report["splat"]["mean_psnr"])


def test_what_is_written_is_strict_json_and_a_page(measured: Measured, corner: Source, light: MeasureConfig, tmp_path: Path) -> None:
    written = write_report(measured, corner, light, tmp_path, "a machine", rows=[{"name": "my own row", "score": 0.5}])
    again = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert again == written
    text = (tmp_path / "report.html").read_text()
    for part in (written["verdict"]["sentence"], "my own row", "a machine", 'id="scene"', 'id="view-nerf"', 'id="view-splat"'):
        assert part in text


def test_the_true_path_lies_on_the_found_one(measured: Measured, corner: Source, light: MeasureConfig, tmp_path: Path) -> None:
    write_report(measured, corner, light, tmp_path, "")
    text = (tmp_path / "report.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    found, true = (np.array(path["places"]) for path in data["scene"]["paths"])
    assert np.abs(found - true).max() < 0.05
    assert len(data["views"]) == 1


def test_a_shut_gate_has_a_report_too(corner: Source, light: MeasureConfig, tmp_path: Path) -> None:
    assert corner.frames is not None
    source = Source(name="still", frames=np.repeat(corner.frames[:1], 6, 0))
    told = measure(source, tmp_path, light)
    report = write_report(told, source, light, tmp_path, "")
    assert report["verdict"]["measurable"] is False
    assert report["score"]["value"] == 0.0
    assert report["row"]["registered"] == 0
    assert report["row"]["reprojection_error"] is None
    assert "not measurable; counts as 0" in (tmp_path / "report.html").read_text()
    assert not evidence(told).measurable


def test_a_row_is_in_pixels_of_the_normal_size(measured: Measured) -> None:
    line = row(measured, "corner", Verdict(cause="consistent", sentence="", remarks=()))
    model = measured.classical.reconstruction
    assert model is not None
    scale = math.sqrt(854 * 480 / (model.width * model.height))
    assert line["reprojection_error"] == pytest.approx(model.reprojection_error * scale)


def test_packaged_rows_have_positives_above_all_five_controls() -> None:
    known = references()
    good = [line for line in known["rows"] if line["kind"] == "positive"]
    bad = [line for line in known["rows"] if line["kind"] == "negative"]
    assert len(good) == 3
    assert len(bad) == len(CONTROLS)
    assert min(line["score"] for line in good) > max(line["score"] for line in bad)
    assert "20" in known["about"]  # the date
