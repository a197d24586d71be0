"""Positions: whole numbers as Wan, or a view that is the same at every size."""

from __future__ import annotations

import pytest
import torch

from diorama.errors import InputError
from diorama.patches import places, positions
from diorama.patches.positions import NUM_PLACE_FEATURES

PLANE = NUM_PLACE_FEATURES - 5  # features of the place in the picture; then the first frame's mark and four of time


def test_index_counts_tokens():
    got = positions((2, 2, 3), "index")
    assert got.tolist()[:4] == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]]
    assert got[-1].tolist() == [1, 1, 2]


def test_view_has_unit_spacing_on_the_reference_grid():
    got = positions((3, 8, 8), "view", fps=12).reshape(3, 8, 8, 3)
    assert got[0, 0, :, 2].tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    assert got[:, 0, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("grid", [(1, 6, 6), (2, 16, 16), (1, 11, 6), (1, 5, 8)])
def test_view_covers_the_same_area_at_every_size(grid):
    got = positions(grid, "view").reshape(*grid, 3)
    spacing = 8 / (grid[1] * grid[2]) ** 0.5
    torch.testing.assert_close(got[0, 1, 0, 1] - got[0, 0, 0, 1], torch.tensor(spacing))
    torch.testing.assert_close(got[0, 0, 1, 2] - got[0, 0, 0, 2], torch.tensor(spacing))
    torch.testing.assert_close(got[..., 1:].mean(dim=(0, 1, 2)), torch.zeros(2), atol=1e-6, rtol=0)
    assert spacing**2 * grid[1] * grid[2] == pytest.approx(64)


def test_view_counts_seconds_not_frames():
    slow, fast = positions((5, 1, 1), "view", fps=6), positions((5, 1, 1), "view", fps=24)
    assert slow[2, 0] == fast[4, 0] * 2
    assert slow[1, 0] == 2
    with pytest.raises(InputError, match="above 0"):
        positions((1, 1, 1), fps=0)


def test_places_tell_top_from_bottom_alike_at_every_resolution() -> None:
    small, large = places((2, 4, 6)).reshape(2, 4, 6, -1), places((2, 8, 12)).reshape(2, 8, 12, -1)
    assert small.shape[-1] == NUM_PLACE_FEATURES
    assert len({tuple(row.tolist()) for row in small[1].flatten(0, 1)}) == 24
    # A coarse token lies in the middle of four fine ones: what is linear in place is their mean.
    fine = large.unfold(1, 2, 2).unfold(2, 2, 2).mean(dim=(-1, -2))
    linear = [PLANE // 2 - 1, PLANE - 1]
    torch.testing.assert_close(fine[..., linear], small[..., linear])
    assert torch.equal(small[0, ..., :PLANE], small[1, ..., :PLANE])


@pytest.mark.parametrize("begins", [True, False])
def test_places_mark_the_first_frame_of_a_clip_only(begins: bool) -> None:
    marks = places((3, 2, 2), begins=begins).reshape(3, 4, -1)[..., PLANE]
    assert torch.equal(marks, torch.tensor([float(begins), 0.0, 0.0])[:, None].expand(3, 4))


def test_places_tell_which_way_time_runs() -> None:
    when = places((9, 1, 1), begins=False)[:, PLANE + 1 :]
    assert (when[:, -1].diff() > 0).all()
    assert (when[:, 0].diff() < 0).all()
    # Played backwards, what is odd about the middle changes its sign and what is even does not.
    sign = torch.tensor([-1.0, 1.0, -1.0, -1.0])
    torch.testing.assert_close(when.flip(0), when * sign, atol=1e-6, rtol=0)
    assert places((1, 1, 1))[0, -1] == 0
