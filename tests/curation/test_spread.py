"""Here, in processes or on Ray: the same results, and a process that dies costs one item."""

from __future__ import annotations

import os

import pytest

from diorama.curation.spread import each
from diorama.errors import DataError


def double(item: int) -> int:
    return 2 * item


def hostile(item: int) -> int:
    if item == 2:
        os._exit(9)
    return 2 * item


def failing(item: int) -> int:
    raise DataError(f"item {item} fails")


def lost(item: int) -> int:
    return -item


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_item_once(workers: int) -> None:
    assert dict(each(double, range(5), workers=workers, crashed=lost)) == {i: 2 * i for i in range(5)}


def test_a_process_that_dies_costs_its_item_only() -> None:
    assert dict(each(hostile, range(5), workers=2, crashed=lost)) == {0: 0, 1: 2, 2: -2, 3: 6, 4: 8}


def test_an_error_comes_through() -> None:
    with pytest.raises(DataError, match="item 0 fails"):
        list(each(failing, [0], workers=1, crashed=lost))


def test_ray_gives_the_same() -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'diorama[cluster]'")
    assert dict(each(double, range(5), ray=True, crashed=lost)) == {i: 2 * i for i in range(5)}
