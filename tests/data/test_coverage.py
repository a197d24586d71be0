from __future__ import annotations

import json

import pytest
import torch

from diorama.data.coverage import coverage_record, latent_coverage
from diorama.errors import DataError


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


@pytest.mark.parametrize("percent", [None, [[1, 2], [3]], [1, 2, 3]])
def test_damage_is_named(percent: object) -> None:
    with pytest.raises(DataError, match="coverage is damaged"):
        latent_coverage({"coverage": {"cell": 16, "percent": percent}}, (1, 2, 3))


def test_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="4 frames"):
        latent_coverage({"coverage": coverage_record(objects()[:4])}, (3, 2, 3))
