"""Detail is carried where the picture stays, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diorama.media import Pixels
from diorama.pipeline.seams import carry, mix, restore, surround

SIZE = (24, 30, 3)


def picture(seed: int, low: int = 60, high: int = 190) -> Pixels:
    return np.random.default_rng(seed).integers(low, high, SIZE, np.uint8)


def coded(given: Pixels, seed: int = 9) -> Pixels:
    """Return a picture as coding leaves it: some levels off everywhere."""
    return (given + np.random.default_rng(seed).integers(-20, 21, SIZE)).clip(0, 255).astype(np.uint8)


GIVEN = picture(0)
CODED = coded(GIVEN)
PAIR = (GIVEN, CODED)


@pytest.mark.parametrize(("start", "end"), [(PAIR, None), (None, PAIR), (PAIR, PAIR)], ids=["start", "end", "both"])
def test_where_nothing_changes_the_given_picture_is_shown(start: tuple[Pixels, Pixels] | None, end: tuple[Pixels, Pixels] | None) -> None:
    frames = np.stack([CODED] * 5)
    assert np.array_equal(carry(frames, start, end), np.stack([GIVEN] * 5))
    assert np.array_equal(frames, np.stack([CODED] * 5))


@pytest.mark.parametrize(("start", "end"), [(PAIR, None), (None, PAIR), (PAIR, PAIR)], ids=["start", "end", "both"])
def test_where_all_changed_the_generated_picture_is_untouched(start: tuple[Pixels, Pixels] | None, end: tuple[Pixels, Pixels] | None) -> None:
    frames = np.stack([(CODED.astype(int) + 128) % 256] * 3).astype(np.uint8)
    assert np.array_equal(carry(frames, start, end), frames)


def test_detail_is_carried_part_by_part() -> None:
    changed = CODED.copy()
    changed[:, 15:] = 255 - (changed[:, 15:] > 127).astype(np.uint8) * 255
    (out,) = carry(changed[None], PAIR, None)
    assert np.array_equal(out[:, :13], GIVEN[:, :13])
    assert np.array_equal(out[:, 17:], changed[:, 17:])


def test_between_two_pictures_the_nearer_end_says_more() -> None:
    low, mid, high = (np.full(SIZE, level, np.uint8) for level in (90, 100, 120))
    out = carry(np.stack([mid] * 9), (low, mid), (high, mid))[:, 0, 0, 0].astype(int)
    assert out.tolist() == [round(100 - 10 * (1 - k / 10) + 20 * k / 10) for k in range(1, 10)]


def test_between_two_pictures_each_lends_to_what_is_like_it() -> None:
    other = picture(3, 0, 40)
    last = (other, coded(other))
    frames = np.stack([CODED] * 4 + [last[1]] * 4)
    assert np.array_equal(carry(frames, PAIR, last), np.stack([GIVEN] * 4 + [other] * 4))


def test_the_carried_detail_fades_as_the_picture_changes() -> None:
    levels = [100, 102, 105, 110, 120, 140]
    frames = np.stack([np.full(SIZE, level, np.uint8) for level in levels])
    added = carry(frames, (np.full(SIZE, 130, np.uint8), frames[0]), None)[:, 0, 0, 0].astype(int) - levels
    assert added[0] == 30
    assert (np.diff(added) <= 0).all()
    assert added[-1] == 0


def test_without_neighbours_nothing_is_done() -> None:
    frames = np.stack([CODED] * 2)
    assert carry(frames, None, None) is frames
    assert carry(frames[:0], PAIR, PAIR).shape == (0, *SIZE)


def test_restoring_gives_the_clip_back_where_an_edit_left_it() -> None:
    given, plain = (np.stack(pictures) for pictures in zip(*((picture(i), coded(picture(i), 50 + i)) for i in range(4)), strict=True))
    assert np.array_equal(restore(plain, plain, given), given)
    edited = plain.copy()
    edited[:, 12:] = (plain[:, 12:].astype(int) + 128) % 256
    out = restore(edited, plain, given)
    assert np.array_equal(out[:, :10], given[:, :10])
    assert np.array_equal(out[:, 14:], edited[:, 14:])


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1), (1, 24, 30), (4, 24, 30), (4, 6, 5), (1, 48, 64)], ids=str)
def test_mixing_is_exact_at_both_ends(shape: tuple[int, int, int]) -> None:
    given, shot = (np.random.default_rng(i).integers(0, 256, (4, *SIZE), np.uint8) for i in range(2))
    assert np.array_equal(mix(given, shot, torch.zeros(shape)), given)
    assert np.array_equal(mix(given, shot, torch.ones(shape)), shot)
    half = mix(given, shot, torch.full(shape, 0.5)).astype(float)
    assert np.abs(half - (given.astype(float) + shot) / 2).max() <= 0.5


def test_mixing_keeps_what_a_mask_leaves_out() -> None:
    given, shot = (np.random.default_rng(i).integers(0, 256, (3, *SIZE), np.uint8) for i in range(2))
    mask = torch.zeros(3, 24, 30)
    mask[1, 4:9, 20:] = 1
    out = mix(given, shot, mask)
    kept = (mask == 0).numpy()
    assert np.array_equal(out[kept], given[kept])
    assert np.array_equal(out[~kept], shot[~kept])
    # At half the size, one cell of which is marked, a cell's width around it is soft and the rest untouched.
    small = torch.zeros(1, 12, 15)
    small[0, 5, 7] = 1
    soft = mix(given, shot, small)
    changed = np.argwhere((soft != given).any(axis=(0, 3)))
    assert changed.min(axis=0).tolist() == [9, 13]
    assert changed.max(axis=0).tolist() == [12, 16]


def test_around_a_clip_its_loss_fades_out() -> None:
    frames = np.full((2, 60, 80, 3), 100, np.uint8)
    given = np.full((2, 20, 24, 3), 120, np.uint8)
    out = surround(frames, given, 30, 18).astype(int)
    assert np.array_equal(out[:, 18:38, 30:54], given)
    row = out[0, 28, 54:, 0] - 100
    assert row[0] >= 18
    assert bool((np.diff(row) <= 0).all())
    assert not row[16:].any()
    assert np.array_equal(out[0, 28, 29::-1, 0][:20], out[0, 28, 54:74, 0])
    assert np.array_equal(out[0, 17::-1, 42, 0], out[0, 38:56, 42, 0])


def test_around_a_clip_its_own_edge_is_carried_and_no_loss_changes_nothing() -> None:
    frames = np.stack([picture(k) for k in range(2)])
    same = frames[:, 4:20, 6:24].copy()
    assert np.array_equal(surround(frames, same, 6, 4), frames)
    halves = same.copy()
    halves[:, :8] += 40
    out = surround(frames, halves, 6, 4).astype(int) - frames
    assert bool((out[:, 6:9, 24] > 30).all())
    assert bool((np.abs(out[:, 15:18, 24]) < 3).all())


def test_a_clip_as_large_as_the_picture_has_nothing_around_it() -> None:
    frames, given = np.stack([CODED] * 2), np.stack([GIVEN] * 2)
    assert np.array_equal(surround(frames, given, 0, 0), given)
