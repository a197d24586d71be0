"""Flow time: its features, and one row for every distinct pair of clip and time."""

from __future__ import annotations

import math

import pytest
import torch

from diorama.transformer.embed import time_features, time_rows


def test_features_of_zero_and_of_a_small_time():
    got = time_features(torch.tensor([0.0, 0.001]), 8)
    assert got[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert got[1, [0, 4]].tolist() == pytest.approx([math.cos(1), math.sin(1)])
    assert got[1, 7].item() == pytest.approx(math.sin(10000**-0.75))


def test_rows_are_distinct_pairs_and_exact():
    times = torch.tensor([0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.3, 0.3])
    clips = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    row_times, row_clips, rows = time_rows(times, clips)
    assert len(row_times) == 4
    assert len(rows) == 4  # groups of two tokens
    assert torch.equal(row_times[rows].repeat_interleave(2), times)
    assert torch.equal(row_clips[rows].repeat_interleave(2), clips)


def test_times_one_rounding_step_apart_stay_apart():
    near = torch.tensor([1.0, 1 - 2**-24, 0.0, 1e-7])
    row_times, _, rows = time_rows(near, torch.zeros(4, dtype=torch.long))
    assert torch.equal(row_times[rows], near)


def test_the_end_of_one_clip_is_not_the_start_of_the_next():
    row_times, row_clips, rows = time_rows(torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
    assert row_times[rows].tolist() == [1.0, 0.0]
    assert row_clips[rows].tolist() == [0, 1]
