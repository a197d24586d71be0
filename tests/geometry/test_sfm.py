from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from diorama.errors import InputError
from diorama.geometry.cameras import Cameras, project
from diorama.geometry.matches import Features, normal_scale
from diorama.geometry.sfm import Reconstruction, SfmConfig, kept_waiting, pairs_to_match, reconstruct
from diorama.geometry.trajectory import compare_trajectories

pytest.importorskip("pycolmap")
SIZE = (320, 240)


def orbit(count: int = 10, sweep: float = 0.9) -> Cameras:
    matrices = np.tile(np.eye(4), (count, 1, 1))
    for i, angle in enumerate(np.linspace(-sweep / 2, sweep / 2, count)):
        c, s = math.cos(angle), math.sin(angle)
        matrices[i, :3, :3] = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
        matrices[i, :3, 3] = [0, 0.05 * math.sin(5 * angle), 5.0]
    intrinsics = np.tile(np.array([[380.0, 0, 160], [0, 380, 120], [0, 0, 1]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=SIZE[0], height=SIZE[1])


def seen(cameras: Cameras, *, noise: float = 0.1, radial: float = 0.0, seed: int = 0) -> list[Features]:
    """Return features of a cloud of points that only these cameras see, each point with a descriptor of its own."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1.2, 1.2, (260, 3))
    descriptors = rng.integers(0, 160, (260, 128)).astype(np.float32)
    pixels, _ = project(points, cameras)
    rays = (pixels - [160, 120]) / 380.0
    pixels = rays * (1 + radial * (rays**2).sum(-1, keepdims=True)) * 380.0 + [160, 120]
    out = []
    for view in pixels:
        inside = (view > 0).all(1) & (view < SIZE).all(1)
        shaken = view[inside] + rng.normal(0, noise, (int(inside.sum()), 2))
        out.append(Features(points=shaken * normal_scale(*SIZE), descriptors=descriptors[inside]))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sfm")


@pytest.fixture(scope="module")
def found(folder: Path) -> Reconstruction:
    return reconstruct(seen(orbit()), SIZE, folder, config=SfmConfig(num_threads=1))


def test_known_cameras_are_recovered(found: Reconstruction) -> None:
    assert found.failure is None
    assert found.registered == tuple(range(10))
    assert found.registration_rate == 1.0
    assert found.model_sizes == (10,)
    error = compare_trajectories(found.cameras, orbit())
    assert error.ate < 0.005
    assert abs(error.focal) < 0.03
    assert found.reprojection_error < 0.25
    assert found.mean_track_length > 7
    assert found.points_per_frame > 150
    assert found.outliers == ()
    assert [attempt.start for attempt in found.attempts] == [None]
    assert abs(found.attempts[0].focal - 380 / 320) < 0.04
    assert set(found.seconds) == {"match", "map", "adjust"}


def test_observations_are_where_the_features_are(found: Reconstruction) -> None:
    pixels, _ = project(found.points, found.cameras)
    rows = {number: row for row, number in enumerate(found.registered)}
    shown = pixels[[rows[int(number)] for number in found.seen_frames], found.seen_points]
    # undistorted frames differ from the ones given by the little distortion that was found
    assert np.median(np.linalg.norm(shown - found.seen_pixels, axis=1)) < 0.5
    assert found.frame_points.sum() == len(found.seen_frames) == found.tracks.sum()


def test_coverage_is_the_circle_less_the_largest_gap(found: Reconstruction) -> None:
    assert found.coverage == pytest.approx(0.9, rel=0.3)


def test_a_second_run_takes_up_the_stages_of_the_first(folder: Path, found: Reconstruction) -> None:
    stages: list[str] = []
    again = reconstruct(seen(orbit()), SIZE, folder, config=SfmConfig(num_threads=1), progress=stages.append)
    assert stages == []
    np.testing.assert_array_equal(again.points, found.points)
    (folder / "model.npz").unlink()  # as if the process had been stopped while mapping
    (folder / "model.part.npz").write_bytes(b"half")
    again = reconstruct(seen(orbit()), SIZE, folder, config=SfmConfig(num_threads=1), progress=stages.append)
    assert stages == ["map"]
    assert again.registered == found.registered
    assert again.seconds["match"] == found.seconds["match"]


def test_other_frames_start_afresh_and_distortion_is_found(folder: Path, found: Reconstruction) -> None:
    stages: list[str] = []
    bent = reconstruct(seen(orbit(), noise=0.02, radial=-0.15), SIZE, folder, config=SfmConfig(num_threads=1), progress=stages.append)
    assert stages == ["match", "map"]
    assert bent.radial == pytest.approx(-0.15, abs=0.04)
    assert abs(found.radial) < 0.04
    assert bent.zoom == 1.0


def flight(count: int = 6, focal: float = 128.0) -> Cameras:
    """Straight ahead with a wide lens: what hardly tells one focal length from another."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, 2, 3] = -0.3 * np.arange(count)
    intrinsics = np.tile(np.array([[focal, 0, 160], [0, focal, 120], [0, 0, 1]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=SIZE[0], height=SIZE[1])


def test_where_a_free_lens_runs_away_one_held_at_first_is_taken(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(-6, 6, 400), rng.uniform(-3, 3, 400), rng.uniform(4, 14, 400)], 1)
    descriptors = rng.integers(0, 160, (400, 128)).astype(np.float32)
    features = []
    for view in project(points, flight())[0]:
        inside = (view > 0).all(1) & (view < SIZE).all(1)
        shaken = view[inside] + rng.normal(0, 0.15, (int(inside.sum()), 2))
        features.append(Features(points=shaken * normal_scale(*SIZE), descriptors=descriptors[inside]))
    result = reconstruct(features, SIZE, tmp_path)
    free = result.attempts[0]
    assert not free.ordinary
    assert result.failure is None
    assert result.chosen > 0
    assert result.attempts[result.chosen].ordinary
    assert result.registered == tuple(range(6))
    steps = np.diff(result.cameras.centers, axis=0)
    assert (steps @ steps.mean(0) > 0).all()  # ahead, and not back and forth
    stages: list[str] = []
    again = reconstruct(features, SIZE, tmp_path, progress=stages.append)
    assert stages == []
    assert repr(again.attempts) == repr(result.attempts)
    assert again.seconds == result.seconds
    np.testing.assert_array_equal(again.world_to_camera, result.world_to_camera)
    (tmp_path / "model-0.5.npz").unlink()  # as if the process had been stopped at this start
    assert repr(reconstruct(features, SIZE, tmp_path, progress=stages.append).attempts) == repr(result.attempts)
    assert stages == ["map"]


def test_frames_without_a_common_world_fail_in_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [Features(points=rng.random((200, 2)) * 600, descriptors=rng.integers(0, 160, (200, 128)).astype(np.float32)) for _ in range(4)]
    result = reconstruct(noise, SIZE, tmp_path, config=SfmConfig(num_threads=1))
    assert result.failure is not None
    assert "share enough points" in result.failure
    assert result.registration_rate == 0
    assert result.points_per_frame == 0
    assert math.isnan(result.reprojection_error)
    with pytest.raises(InputError, match="no cameras"):
        _ = result.cameras


def test_the_time_limit_kills_and_says_so(tmp_path: Path) -> None:
    result = reconstruct(seen(orbit()), SIZE, tmp_path, config=SfmConfig(num_threads=1, time_limit=0.05))
    assert result.failure is not None
    assert "longer than 0.05 seconds" in result.failure
    assert not (tmp_path / "matches.db").exists()


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system does not say how long a process was kept waiting")
def test_a_process_that_shares_its_core_was_kept_waiting() -> None:
    core = str(min(os.sched_getaffinity(0)))
    busy = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    pair = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(2)]
    try:
        end = time.monotonic() + 30
        while min(kept_waiting(one.pid) for one in pair) < 0.2 and time.monotonic() < end:
            time.sleep(0.05)
        assert all(kept_waiting(one.pid) >= 0.2 for one in pair)
    finally:
        for one in pair:
            one.kill()
            one.wait()
    assert kept_waiting(pair[0].pid) == 0


PARENT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job that a shell runs in the background ignores it
import numpy as np
from diorama.geometry.matches import Features
from diorama.geometry.sfm import reconstruct
rng = np.random.default_rng(0)
frames = [Features(points=rng.random((3000, 2)) * 600, descriptors=rng.random((3000, 128)).astype(np.float32)) for _ in range(20)]
reconstruct(frames, (320, 240), sys.argv[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not list its processes under /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_the_worker_ends_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stderr=subprocess.DEVNULL) as parent:
        within(60, (tmp_path / "matches.part.db").exists)  # the worker is at its matching
        (worker,) = [int(path.name) for path in Path("/proc").glob("[0-9]*") if parent_of(path) == parent.pid]
        parent.send_signal(how)
        parent.wait(20)
        within(20, lambda: parent_of(Path("/proc", str(worker))) is None)
    assert not (tmp_path / "matches.db").exists()


def parent_of(process: Path) -> int | None:
    """Return the parent of a process that runs, and None of one that is gone or waits to be fetched."""
    try:
        state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def within(seconds: float, what: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_crash_is_reported_and_leaves_the_folder_usable(tmp_path: Path) -> None:
    features = seen(orbit(4))
    reconstruct(features, SIZE, tmp_path, config=SfmConfig(num_threads=1, time_limit=0.05))
    (tmp_path / "matches.db").write_bytes(b"this is no database")
    result = reconstruct(features, SIZE, tmp_path, config=SfmConfig(num_threads=1))
    assert result.failure is not None
    assert "broke off" in result.failure
    (tmp_path / "matches.db").unlink()
    assert reconstruct(features, SIZE, tmp_path, config=SfmConfig(num_threads=1)).registered == (0, 1, 2, 3)


def test_a_frame_of_another_world_is_an_outlier(tmp_path: Path) -> None:
    features = seen(orbit(8))
    features[3] = seen(orbit(8), seed=5)[3]
    result = reconstruct(features, SIZE, tmp_path, config=SfmConfig(num_threads=1))
    assert result.registered == (0, 1, 2, 4, 5, 6, 7)
    assert result.outliers == (3,)
    assert result.registration_rate == 7 / 8


def test_pairs_tie_neighbours_and_ends() -> None:
    assert len(pairs_to_match(12, 8)) == 66
    pairs = pairs_to_match(48, 8)
    assert all(a < b for a, b in pairs)
    assert len(set(pairs)) == len(pairs)
    assert {(i, i + d) for d in (1, 2, 8, 16, 32) for i in range(48 - d)} <= set(pairs)
    assert (0, 47) in pairs
    assert len(pairs) < 0.6 * 48 * 47 / 2
    assert set(pairwise(range(300))) <= set(pairs_to_match(300, 8))


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="time limit"):
        SfmConfig(time_limit=0)
    with pytest.raises(InputError, match="overlap"):
        SfmConfig(overlap=0)
    with pytest.raises(InputError, match="at least 3"):
        reconstruct(seen(orbit(2)), SIZE, tmp_path)
