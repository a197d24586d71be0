from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from torch import Tensor

from diorama.patches import Pack, pack
from diorama.transformer.reuse import Residuals, Reuse


def packed(times: list[float], lengths: tuple[int, int] = (4, 4)) -> Pack:
    """Two clips of one frame; a flow time for each."""
    return pack([torch.zeros(1, 1, 1, length) for length in lengths], times, patch_size=(1, 1, 1))


class Blocks:
    """A first block that adds what it is told, and others that count their calls and add as much as they have been called."""

    def __init__(self) -> None:
        self.added, self.calls = torch.ones(8, 1, 3), 0

    def first(self, x: Tensor) -> Tensor:
        return x + self.added

    def rest(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + 10 * self.calls


def test_the_others_run_again_once_the_first_has_changed_enough() -> None:
    """The change is counted since they ran, not since the last step."""
    blocks, counts = Blocks(), Counter[str]()
    reuse = Reuse(0.1, counts)
    ran = []
    for step in range(6):
        blocks.added = torch.full((8, 1, 3), 1 + 0.06 * step)
        x = torch.full((8, 1, 3), float(step))
        out = reuse.run(x, packed([0.9 - 0.1 * step] * 2), blocks.first, blocks.rest)
        torch.testing.assert_close(out, x + blocks.added + 10 * blocks.calls)
        ran.append(blocks.calls)
    assert ran == [1, 1, 2, 2, 3, 3]
    assert counts == {"computed": 3, "skipped": 3}


@pytest.mark.parametrize(("changed", "times", "calls"), [(slice(4, 8), [0.5, 0.4], 2), (slice(4, 8), [0.5, 0.0], 1)])
def test_every_clip_counts_and_given_tokens_do_not(changed: slice, times: list[float], calls: int) -> None:
    blocks = Blocks()
    reuse = Reuse(0.15, Counter())
    reuse.run(torch.zeros(8, 1, 3), packed([0.6, times[1]]), blocks.first, blocks.rest)
    blocks.added = blocks.added.clone()
    blocks.added[changed] *= 1.2
    reuse.run(torch.zeros(8, 1, 3), packed(times), blocks.first, blocks.rest)
    assert blocks.calls == calls


def test_given_tokens_do_not_hide_what_the_others_do() -> None:
    blocks, times = Blocks(), torch.tensor([0.6] + [0.0] * 3)
    mixed = dataclasses.replace(packed([0.5, 0.5]), times=times.repeat(2))
    reuse = Reuse(0.15, Counter())
    reuse.run(torch.zeros(8, 1, 3), mixed, blocks.first, blocks.rest)
    blocks.added = blocks.added.clone()
    blocks.added[::4] *= 1.2
    reuse.run(torch.zeros(8, 1, 3), mixed, blocks.first, blocks.rest)
    assert blocks.calls == 2


def test_new_noise_begins_anew() -> None:
    blocks = Blocks()
    reuse = Reuse(0.5, Counter())
    for time in (0.5, 0.4, 0.9):
        reuse.run(torch.zeros(8, 1, 3), packed([time] * 2), blocks.first, blocks.rest)
    assert blocks.calls == 2


def test_other_frames_begin_anew_and_batches_have_their_own() -> None:
    residuals = Residuals(0.1)
    one = residuals.of((0, 1), (0, 1, 2))
    assert residuals.of((0, 1), (0, 1, 2)) is one
    assert residuals.of((0,), (0, 1, 2)) is not one
    assert residuals.of((0, 1), (0, 1, 2)) is one
    assert residuals.of((0, 1), (1, 2, 3)) is not one
    assert residuals.of((0, 1), (0, 1, 2)) is not one
