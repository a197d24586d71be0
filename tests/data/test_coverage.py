from __future__ import annotations

import json

import pytest
import torch

from diorama.data.coverage import KINDS, camera_kind, coverage_record, latent_coverage, latent_kinds
from diorama.errors import DataError
from diorama.worlds.scene import CAMERA_MOVES


def objects() -> torch.Tensor:
    """Return masks of 5 frames of 32 x 48 pixels: one pixel in the first frame, a moving cell from the second on."""
    masks = torch.zeros(5, 32, 48, dtype=torch.bool)
    masks[0, 20, 40] = True
    for frame in range(1, 5):
        masks[frame, :16, 16 * (frame % 3) : 16 * (frame % 3) + 16] = True
    return masks


def test_a_record_says_how_much_of_each_cell_is_covered() -> None:
    record = json.loads(json.dumps(coverage_record(objects())))
    assert record["cell"] == 16
    assert record["percent"][0] == [[0, 0, 0], [0, 0, 1]]  # one pixel of 256 is not nothing
    assert record["percent"][1] == [[0, 100, 0], [0, 0, 0]]


def test_a_latent_frame_shows_all_of_its_frames() -> None:
    found = latent_coverage({"coverage": coverage_record(objects())}, (2, 2, 3))
    assert found is not None
    assert found.tolist() == [[[0, 0, 0], [0, 0, 1]], [[1, 1, 1], [0, 0, 0]]]


@pytest.mark.parametrize("grid", [(1, 1), (4, 6)])
def test_other_grids_are_reached(grid: tuple[int, int]) -> None:
    found = latent_coverage({"coverage": coverage_record(objects()[:1])}, (1, *grid))
    assert found is not None
    assert found.shape == (1, *grid)
    assert found[0, -1, -1] == 1
    assert found.sum() == (1 if grid == (1, 1) else 4)


def test_a_record_may_not_say() -> None:
    assert latent_coverage({"captions": {}}, (1, 2, 3)) is None


def test_each_cell_is_told_by_the_body_that_fills_most_of_it() -> None:
    instances = torch.zeros(5, 32, 48, dtype=torch.uint8)
    instances[:, :16, :6] = 2  # less of the first cell than the other body
    instances[:, :16, 6:16] = 1
    instances[3, 16:, 16:32] = 2  # in one of the frames of the second latent frame
    record = json.loads(json.dumps({"coverage": coverage_record(instances), "scene": {"bodies": [
        {"shape": "cone", "color": "green", "motion": "rest"}, {"shape": "sphere", "color": "red", "motion": "bounce"},
    ]}}))  # fmt: skip
    found = latent_kinds(record, (2, 2, 3))
    assert found is not None
    first, second = ([1 + values.index(body[name]) for name, values in KINDS.items()] for body in record["scene"]["bodies"])
    assert found[:, 0, 0, 0].tolist() == first
    assert found[:, 1, 1, 1].tolist() == second
    assert int((found[0] > 0).sum()) == 3
    coverage = latent_coverage(record, (2, 2, 3))
    assert coverage is not None
    assert torch.equal(coverage > 0, found[0] > 0)


def test_kinds_need_bodies_and_a_scene_that_fit() -> None:
    coverage, bodies = coverage_record(objects()), [{"shape": "cone", "color": "green", "motion": "rest"}]
    assert latent_kinds({"coverage": coverage}, (2, 2, 3)) is None
    before = {name: value for name, value in coverage.items() if name != "body"}
    assert latent_kinds({"coverage": before, "scene": {"bodies": bodies}}, (2, 2, 3)) is None  # rendered before there were numbers
    for wrong in ([], [{"shape": "cube", "color": "green", "motion": "rest"}], [{}]):
        with pytest.raises(DataError, match="coverage is damaged"):
            latent_kinds({"coverage": coverage, "scene": {"bodies": wrong}}, (2, 2, 3))


def test_a_mirror_turns_the_camera_round() -> None:
    def kind(move: str, mirrored: bool) -> str:
        found = camera_kind({"scene": {"camera": {"move": move}}}, mirrored)
        assert found is not None
        return CAMERA_MOVES[found - 1]

    for move, mirrored in (("static", "static"), ("pan_left", "pan_right"), ("orbit_right", "orbit_left"), ("tilt_up", "tilt_up")):
        assert (kind(move, False), kind(move, True)) == (move, mirrored)
    assert camera_kind({"captions": {}}, False) is None
    with pytest.raises(DataError, match="moves by 'roll_left'"):
        camera_kind({"scene": {"camera": {"move": "roll_left"}}}, True)


def test_an_empty_scene_covers_nothing() -> None:
    record = coverage_record(torch.zeros(1, 16, 32, dtype=torch.uint8))
    assert record == {"cell": 16, "percent": [[[0, 0]]], "body": [[[0, 0]]]}


@pytest.mark.parametrize("percent", [None, [[1, 2], [3]], [1, 2, 3]])
def test_damage_is_named(percent: object) -> None:
    with pytest.raises(DataError, match="coverage is damaged"):
        latent_coverage({"coverage": {"cell": 16, "percent": percent}}, (1, 2, 3))


def test_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="4 frames"):
        latent_coverage({"coverage": coverage_record(objects()[:4])}, (3, 2, 3))
