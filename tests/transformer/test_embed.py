"""Flow time: its features, and one row for every distinct pair of clip and time."""

from __future__ import annotations

import math

import pytest
import torch

from diorama.transformer import TransformerConfig
from diorama.transformer.embed import ImageEmbedder, time_features, time_rows


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


def test_images_are_normed_and_placed():
    config = TransformerConfig(num_attention_heads=1, attention_head_dim=8, image_dim=6, added_kv_proj_dim=8, pos_embed_seq_len=4)
    embedder = ImageEmbedder(config)
    states = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = embedder(states)
        assert plain.shape == (2, 4, 8)
        torch.testing.assert_close(plain.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
        torch.testing.assert_close(embedder(3 * states + 1), plain, atol=1e-3, rtol=1e-3)
        assert embedder.pos_embed is not None
        embedder.pos_embed[0, 2] = torch.arange(6.0)
        moved = embedder(states)
    assert torch.equal(moved[:, [0, 1, 3]], plain[:, [0, 1, 3]])
    assert not torch.allclose(moved[:, 2], plain[:, 2])
