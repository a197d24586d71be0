from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import diorama.data.worlds as worlds
from diorama.config import from_dict
from diorama.data import MIXTURE, RenderReport, ShardSet, Share, render_sample, render_shards
from diorama.data.shards import Sample
from diorama.data.worlds import clip_plan
from diorama.errors import DataError
from diorama.evaluation.clips import EVALUATION_SEED
from diorama.worlds.scene import Scene, held_out

TINY = (Share(weight=1, width=32, height=32, num_frames=1), Share(weight=2, width=48, height=32, num_frames=5))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips a shard, and frames without a ray tracer, for tests of what surrounds it."""

    def fake(seed: int, share: Share, **_: object) -> Sample:
        frames = np.full((share.num_frames, share.height, share.width, 3), seed % 251, np.uint8)
        return Sample(key=f"{seed:09d}", frames=frames, fps=12.0, record={"seed": seed})

    monkeypatch.setattr(worlds, "CLIPS_PER_SHARD", 2)
    monkeypatch.setattr(worlds, "render_sample", fake)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_sample_holds_the_truth(split: str) -> None:
    pytest.importorskip("mujoco")
    sample = render_sample(5, TINY[1], split=split)  # type: ignore[arg-type]
    assert sample.frames.shape == (5, 32, 48, 3)
    scene = from_dict(Scene, sample.record["scene"])
    assert (scene.seed, scene.width, scene.num_frames) == (5, 48, 5)
    assert any(held_out(body.color, body.shape) for body in scene.bodies) == (split == "held_out")
    assert {kind: len(texts) for kind, texts in sample.record["captions"].items()} == {"dense": 3, "short": 3}
    assert np.array(sample.record["cameras"]["world_to_camera"]).shape == (5, 4, 4)
    assert np.array(sample.record["cameras"]["intrinsics"]).shape == (3, 3)
    assert all(len(contact) == 3 for contact in sample.record["contacts"])
    assert np.array(sample.record["coverage"]["percent"]).shape == (5, 2, 3)
    assert np.max(sample.record["coverage"]["percent"]) > 0
    still = render_sample(5, replace(TINY[1], still=True), split=split)  # type: ignore[arg-type]
    assert np.array_equal(still.frames, sample.frames[:1])
    assert still.record["captions"] == sample.record["captions"]
    assert still.record["coverage"]["percent"] == sample.record["coverage"]["percent"][:1]


def test_processes_do_not_change_the_bytes(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    one = render_shards(tmp_path / "one", 2, mixture=TINY, workers=0)
    two = render_shards(tmp_path / "two", 2, mixture=TINY, workers=1)
    assert (one.clips, one.kept) == (two.clips, two.kept) == (2, 0)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_plan_keeps_the_shares() -> None:
    plans = [clip_plan(0, index)[1] for index in range(800)]
    areas = Counter(share.width * share.height < 11000 for share in plans)
    assert areas[True] / 800 == pytest.approx(0.55, abs=0.06)
    small = [share for share in plans if share.width * share.height < 11000]
    assert sum(share.num_frames == 17 for share in small) / len(small) == pytest.approx(0.5, abs=0.06)
    assert {share.num_frames for share in plans if share not in small} == {33}
    assert set(plans) == set(MIXTURE)


def test_runs_share_no_scene_and_leave_evaluation_alone() -> None:
    assert clip_plan(0, 999_999)[0] < clip_plan(1, 0)[0]
    kept = range(EVALUATION_SEED, 2 * EVALUATION_SEED)
    ends = [(clip_plan(run, 0)[0], clip_plan(run, 999_999)[0]) for run in (0, 1, 9, 10, 11, 999)]
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(ends))
    assert not any(seed in kept for end in ends for seed in end)


@pytest.mark.usefixtures("quick")
def test_a_finished_folder_is_kept_and_grows(tmp_path: Path) -> None:
    assert replace(render_shards(tmp_path, 5, mixture=TINY, workers=0), frames=0, seconds=0) == RenderReport(clips=5, frames=0, kept=0, seconds=0)
    before = contents(tmp_path)
    assert render_shards(tmp_path, 5, mixture=TINY, workers=0).clips == 0
    assert contents(tmp_path) == before
    grown = render_shards(tmp_path, 8, mixture=TINY, workers=0)
    assert (grown.clips, grown.kept) == (4, 4)
    shards = ShardSet(tmp_path)
    assert [shards.record(i)["seed"] for i in range(len(shards))] == list(range(8))


@pytest.mark.usefixtures("quick")
def test_a_killed_run_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    render_shards(tmp_path / "whole", 6, mixture=TINY, workers=0)
    render_shards(tmp_path / "killed", 6, mixture=TINY, workers=0)
    (tmp_path / "killed/shard-00001.index.json").unlink()  # as if killed between tar and index
    (tmp_path / "killed/shard-00001.tar").write_bytes(b"half")
    (tmp_path / "killed/shard-00002.tar").rename(tmp_path / "killed/.shard-00002.tar.99999")
    done: list[int] = []
    report = render_shards(tmp_path / "killed", 6, mixture=TINY, workers=0, progress=lambda a, b: done.append(a))
    assert (report.clips, report.kept, done) == (4, 2, [2, 4, 6])
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_killed_process_is_replaced_while_shards_get_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[list[int]] = []

    def pool(folder: Path, settings: object, shards: dict[int, int], workers: int) -> Iterator[tuple[int, tuple[int, int]]]:
        tries.append(sorted(shards))
        yield min(shards), (32, 32)
        if len(tries) < 3:
            raise BrokenProcessPool

    monkeypatch.setattr(worlds, "_run_pool", pool)
    assert render_shards(tmp_path, 96, mixture=TINY, workers=2).clips == 96
    assert tries == [[0, 1, 2], [1, 2], [2]]


def test_processes_that_are_always_killed_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pool(*_: object) -> Iterator[tuple[int, tuple[int, int]]]:
        raise BrokenProcessPool
        yield

    monkeypatch.setattr(worlds, "_run_pool", pool)
    with pytest.raises(DataError, match="a rendering process was killed"):
        render_shards(tmp_path, 96, mixture=TINY, workers=2)


@pytest.mark.usefixtures("quick")
def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another run is rendering into"):
            render_shards(tmp_path, 2, mixture=TINY, workers=0)
    assert render_shards(tmp_path, 2, mixture=TINY, workers=0).clips == 2


@pytest.mark.usefixtures("quick")
def test_other_settings_are_refused(tmp_path: Path) -> None:
    render_shards(tmp_path, 2, mixture=TINY, workers=0)
    with pytest.raises(DataError, match="another seed 0, not 1"):
        render_shards(tmp_path, 2, seed=1, mixture=TINY, workers=0)
    with pytest.raises(DataError, match="another split train, not held_out"):
        render_shards(tmp_path, 2, split="held_out", mixture=TINY, workers=0)
    with pytest.raises(DataError, match="another mixture"):
        render_shards(tmp_path, 2, workers=0)
    with pytest.raises(DataError, match="another mixture"):
        render_shards(tmp_path, 2, mixture=tuple(replace(share, still=True) for share in TINY), workers=0)
    settings = json.loads((tmp_path / "worlds.json").read_text())
    for share in settings["mixture"]:
        del share["still"]  # as written before there were stills
    (tmp_path / "worlds.json").write_text(json.dumps(settings))
    assert render_shards(tmp_path, 2, mixture=TINY, workers=0).kept == 2
    (tmp_path / "worlds.json").unlink()
    with pytest.raises(DataError, match="shards of another kind"):
        render_shards(tmp_path, 2, mixture=TINY, workers=0)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (1_000_001, 0), (1, 1000), (1, -1)])
def test_impossible_requests_are_refused(tmp_path: Path, count: int, seed: int) -> None:
    with pytest.raises(DataError, match="cannot be rendered"):
        render_shards(tmp_path, count, seed=seed, workers=0)


@pytest.mark.usefixtures("quick")
def test_the_environment_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ)
    render_shards(tmp_path, 2, mixture=TINY, workers=0)
    assert dict(os.environ) == before


def test_the_report_gives_rates() -> None:
    report = RenderReport(clips=10, frames=330, kept=0, seconds=5.0)
    assert (report.clips_per_second, report.frames_per_second) == (2.0, 66.0)
