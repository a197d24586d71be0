from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.data import PackConfig, PackSampler
from diorama.errors import DataError

GRIDS = [(9, 8, 8), (9, 6, 11), (9, 11, 6), (5, 6, 6), (9, 6, 6), (1, 8, 8)] * 20


def tokens(sampler: PackSampler, step: int, **options: int) -> list[int]:
    return [draw.num_frames * GRIDS[draw.index][1] * GRIDS[draw.index][2] for draw in sampler.draw(step, **options)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(600, 8000))
def test_packs_are_full_and_never_over(seed: int, step: int, budget: int) -> None:
    taken = tokens(PackSampler(GRIDS, PackConfig(tokens=budget, seed=seed)), step)
    assert budget - 594 < sum(taken) <= budget


def test_most_of_the_budget_is_used() -> None:
    mixed, alike = PackSampler(GRIDS, PackConfig(tokens=4608, alike=False)), PackSampler(GRIDS, PackConfig(tokens=4608))
    assert sum(sum(tokens(mixed, step)) for step in range(50)) > 0.95 * 50 * 4608
    assert sum(sum(tokens(alike, step)) for step in range(50)) > 0.9 * 50 * 4608


def test_a_pack_takes_clips_of_one_size_while_there_are_any() -> None:
    sampler = PackSampler(GRIDS, PackConfig(tokens=3000, still_share=0, crop_share=0))
    grids = [{GRIDS[draw.index] for draw in sampler.draw(step)} for step in range(60)]
    assert all(len(grid) == 1 or (1, 8, 8) in grid for grid in grids)  # there are 20 of a size, too few stills to fill a pack
    assert set.union(*grids) == set(GRIDS)
    drawn = Counter(GRIDS[draw.index] for step in range(600) for draw in sampler.draw(step))
    assert drawn[9, 8, 8] == pytest.approx(drawn[5, 6, 6], rel=0.35)  # small clips are not favoured
    mixed = PackSampler(GRIDS, PackConfig(tokens=3000, alike=False))
    assert min(len({GRIDS[draw.index] for draw in mixed.draw(step)}) for step in range(40)) > 1


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    first = PackSampler(GRIDS, PackConfig(seed=3))
    draws = [first.draw(step) for step in range(5)]
    assert PackSampler(GRIDS, PackConfig(seed=3)).draw(4) == draws[4]
    assert len({str(draw) for draw in draws}) == 5
    assert PackSampler(GRIDS, PackConfig(seed=4)).draw(4) != draws[4]


def test_shares_hold_and_every_clip_is_drawn() -> None:
    sampler = PackSampler(GRIDS, PackConfig(still_share=0.2, crop_share=0.3, mirror_share=0.25))
    draws = [draw for step in range(300) for draw in sampler.draw(step)]
    long = [draw for draw in draws if GRIDS[draw.index][0] == 9]
    lengths = Counter(draw.num_frames for draw in long)
    assert set(lengths) == {1, 2, 3, 4, 5, 6, 7, 8, 9}
    # small draws fit into the end of a pack more often, so the shares are a little above what was asked
    assert lengths[1] / len(long) == pytest.approx(0.2, abs=0.06)
    assert sum(lengths[k] for k in range(2, 9)) / len(long) == pytest.approx(0.3, abs=0.05)
    assert sum(draw.mirrored for draw in draws) / len(draws) == pytest.approx(0.25, abs=0.04)
    assert all(0 <= draw.caption < 1 for draw in draws)
    assert {draw.index for draw in draws} == set(range(len(GRIDS)))


def test_a_pack_holds_a_clip_once_while_there_are_others() -> None:
    sampler = PackSampler(GRIDS, PackConfig(tokens=4608))
    for step in range(20):
        indices = [draw.index for draw in sampler.draw(step)]
        assert len(indices) == len(set(indices))


def test_one_clip_fills_a_pack_alone() -> None:
    draws = PackSampler([(5, 4, 4)], PackConfig(tokens=400, still_share=0, crop_share=0)).draw(0)
    assert len(draws) == 5


def test_a_curriculum_takes_small_clips_only() -> None:
    sampler = PackSampler(GRIDS, PackConfig(still_share=0, crop_share=0))
    assert max(max(tokens(sampler, step, max_tokens=200)) for step in range(20)) <= 200
    assert max(max(tokens(sampler, step)) for step in range(20)) > 500


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(DataError, match="0 samples"):
        PackSampler([], PackConfig())
    with pytest.raises(DataError, match="no clip fits into 10 tokens, the smallest has 64"):
        PackSampler(GRIDS, PackConfig()).draw(0, max_tokens=10)
    with pytest.raises(DataError, match="shares 0 to 1"):
        PackConfig(still_share=0.7, crop_share=0.7)
