from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diorama.geometry.sfm_worker import believable, main

pytest.importorskip("pycolmap")


def test_matching_writes_a_whole_database_or_none(tmp_path: Path) -> None:
    import pycolmap

    rng = np.random.default_rng(0)
    points = rng.random((3, 80, 2)).astype(np.float32) * 300
    points[1:] = points[0] + [[[4, 0]], [[8, 0]]]
    descriptors = np.tile(rng.integers(0, 120, (80, 128), dtype=np.uint8), (3, 1))
    (tmp_path / "options.json").write_text(json.dumps({"seed": 0, "num_threads": 1}), encoding="utf-8")
    (tmp_path / "pairs.txt").write_text("000000 000001\n000001 000002\n", encoding="ascii")
    with pytest.raises(FileNotFoundError):
        main("match", tmp_path)
    assert not (tmp_path / "matches.db").exists()
    np.savez(tmp_path / "features.npz", points=points.reshape(-1, 2), descriptors=descriptors, counts=[80, 80, 80], size=[320, 240])
    main("match", tmp_path)
    assert not (tmp_path / "matches.part.db").exists()
    database = pycolmap.Database.open(str(tmp_path / "matches.db"))
    assert database.num_images() == 3
    assert database.num_cameras() == 1
    assert database.num_matched_image_pairs() == 2
    assert len(database.read_matches(1, 2)) == 80
    database.close()


def test_mapping_without_a_start_says_that_there_is_no_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "options.json").write_text(json.dumps({"seed": 0, "num_threads": 1}), encoding="utf-8")
    (tmp_path / "pairs.txt").write_text("000000 000001\n000001 000002\n", encoding="ascii")
    points = rng.random((90, 2)).astype(np.float32) * 200
    descriptors = rng.integers(0, 120, (90, 128), dtype=np.uint8)
    np.savez(tmp_path / "features.npz", points=points, descriptors=descriptors, counts=[30, 30, 30], size=[320, 240])
    main("match", tmp_path)
    main("map", tmp_path)
    with np.load(tmp_path / "model.npz") as model:
        assert len(model["sizes"]) == 0
        assert "poses" not in model
    main("map=0.5", tmp_path)
    assert (tmp_path / "model-0.5.npz").exists()
    assert not (tmp_path / "matches-0.5.db").exists()


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text(json.dumps({"seed": 0, "num_threads": 1}), encoding="utf-8")
    with pytest.raises(SystemExit, match="allowed: match, map, map=F"):
        main("dream", tmp_path)


@pytest.mark.parametrize(("params", "good"), [((800, 427, 240, 0.05), True), ((800, 427, 240, 1.2), False), ((100, 427, 240, 0.0), False)])
def test_lenses_that_nobody_builds(params: tuple[float, ...], good: bool) -> None:
    assert believable(params, 854) is good
