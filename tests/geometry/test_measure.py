"""A clip goes through every stage, a run that was stopped goes on where it was, and what cannot be measured is refused in a sentence."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from diorama.errors import InputError, MediaError
from diorama.geometry.measure import MeasureConfig, Measured, Source, measure
from diorama.media import Clip


def test_every_stage_runs(measured: Measured, corner: Source, measured_folder: Path) -> None:
    assert corner.frames is not None
    assert (measured.footage.frames == corner.frames).all()
    model = measured.classical.reconstruction
    assert model is not None
    assert model.registration_rate == 1.0
    assert measured.agreement is not None
    assert measured.agreement.moving < 0.1
    for views in (measured.nerf, measured.splat):
        assert views is not None
        assert views.held_out == (4,)
        assert views.renders.shape == (1, 32, 43, 3)
        assert views.mean_psnr > 5
    assert {"frames", "extract", "map", "agreement", "nerf", "splat"} <= set(measured.seconds)
    assert (measured_folder / "splat.ply").read_bytes()[:3] == b"ply"


def test_a_second_run_computes_nothing(measured: Measured, corner: Source, measured_folder: Path, light: MeasureConfig) -> None:
    stages: list[str] = []
    again = measure(corner, measured_folder, light, lambda stage, done, total: stages.append(stage))
    assert stages == []
    assert again.seconds == measured.seconds
    assert again.agreement == measured.agreement
    assert again.nerf is not None
    assert measured.nerf is not None
    assert (again.nerf.renders == measured.nerf.renders).all()


def test_a_run_that_was_stopped_goes_on(measured: Measured, corner: Source, measured_folder: Path, light: MeasureConfig, tmp_path: Path) -> None:
    shutil.copytree(measured_folder, tmp_path / "m")
    kept = tmp_path / "m" / "stages"
    (kept / "splat.npz").write_bytes((kept / "splat.npz").read_bytes()[:1000])  # a crash while it was written
    (kept / "agreement.npz").unlink()
    stages: list[str] = []
    again = measure(corner, tmp_path / "m", light, lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"splat"}  # agreement is quick and reports nothing
    assert again.agreement == measured.agreement
    assert again.splat is not None


def test_what_was_begun_is_reported_done(corner: Source, tmp_path: Path) -> None:
    last: dict[str, tuple[int, int]] = {}
    config = MeasureConfig(num_frames=9, nerf_steps=0, splat_steps=0)
    measure(corner, tmp_path, config, lambda stage, done, total: last.update({stage: (done, total)}))
    assert {"extract", "epipolar", "match", "map"} <= set(last)
    assert all(done == total for done, total in last.values())


def test_other_budgets_learn_again_and_keep_the_cameras(
    corner: Source, measured: Measured, measured_folder: Path, light: MeasureConfig, tmp_path: Path
) -> None:
    shutil.copytree(measured_folder, tmp_path / "m")
    stages: list[str] = []
    config = dataclasses.replace(light, splat_steps=3, nerf_steps=0)
    again = measure(corner, tmp_path / "m", config, lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"splat"}
    assert again.nerf is None
    assert again.splat is not None
    assert again.splat.steps == 3


def test_a_file_that_cannot_be_read_leaves_the_folder_free(tmp_path: Path, light: MeasureConfig) -> None:
    for name in ("first.mp4", "second.mp4"):
        (tmp_path / name).write_bytes(b"no video")
        with pytest.raises(MediaError, match=name):
            measure(Source(name=name, path=tmp_path / name), tmp_path / "m", light)


def test_another_clip_is_refused(measured: Measured, corner: Source, measured_folder: Path, light: MeasureConfig) -> None:
    assert corner.frames is not None
    other = dataclasses.replace(corner, frames=corner.frames[::-1])
    with pytest.raises(InputError, match="another clip"):
        measure(other, measured_folder, light)
    with pytest.raises(InputError, match="other settings"):
        measure(corner, measured_folder, dataclasses.replace(light, num_frames=8))


@pytest.mark.parametrize("level", [0, 128])
def test_plain_video_is_refused(tmp_path: Path, level: int) -> None:
    with pytest.raises(InputError, match="shows nothing"):
        measure(Source(name="black.mp4", frames=np.full((9, 64, 64, 3), level, np.uint8)), tmp_path)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_frames_are_refused(tmp_path: Path, count: int) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3)).astype(np.uint8)
    with pytest.raises(InputError, match="at least 3"):
        measure(Source(name="short", frames=frames), tmp_path)


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(MediaError, match=r"notes\.mp4"):
        measure(Source(name="notes.mp4", path=tmp_path / "notes.mp4"), tmp_path / "out")
    with pytest.raises(MediaError, match=r"absent\.mp4"):
        measure(Source(name="absent.mp4", path=tmp_path / "absent.mp4"), tmp_path / "out2")


def test_a_repeated_frame_stops_at_the_gate(corner: Source, light: MeasureConfig, tmp_path: Path) -> None:
    assert corner.frames is not None
    told = measure(Source(name="still", frames=np.repeat(corner.frames[:1], 6, 0)), tmp_path, light)
    assert not told.classical.gate.measurable
    assert told.agreement is None
    assert told.nerf is None
    assert told.splat is None


def test_of_a_long_video_the_middle_is_measured(tmp_path: Path) -> None:
    """Two minutes at two frames a second of a screen whose brightness tells the time."""
    frames = (
        np.random.default_rng(0).integers(0, 40, (240, 32, 48, 3)).astype(np.uint8) + np.arange(0, 120, 0.5).astype(np.uint8)[:, None, None, None]
    )
    path = Clip(frames, 2.0).save(tmp_path / "long.mp4")
    told = measure(Source(name="long.mp4", path=path), tmp_path / "m", MeasureConfig(num_frames=3, nerf_steps=0, splat_steps=0))
    assert told.footage.num_source == 60
    assert told.footage.times[0] == pytest.approx(45, abs=1.5)
    assert told.footage.times[-1] == pytest.approx(75, abs=1.5)
    assert json.loads((tmp_path / "m" / "settings.json").read_text())["source"]["name"] == "long.mp4"


@pytest.mark.parametrize("changes", [{"side": 8}, {"nerf_steps": -1}, {"splat_seconds": 0.0}])
def test_settings_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InputError):
        MeasureConfig(**changes)  # type: ignore[arg-type]
