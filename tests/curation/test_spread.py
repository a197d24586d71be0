"""Here, in processes or on Ray: the same results, and a process that dies costs one item."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

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


def broken(item: int) -> int:
    raise ZeroDivisionError(f"item {item} is broken")


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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'diorama[cluster]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, object_store_memory=10**9, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield ray
    ray.shutdown()


# Ray copies its own settings and warns of those it will drop.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_gives_the_same(cluster: Any) -> None:
    assert dict(each(double, range(5), ray=True, crashed=lost)) == {i: 2 * i for i in range(5)}
    assert not list(each(double, [], ray=True, crashed=lost))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_on_ray_a_process_that_dies_costs_its_item_only(cluster: Any) -> None:
    assert dict(each(hostile, range(5), ray=True, crashed=lost)) == {0: 0, 1: 2, 2: -2, 3: 6, 4: 8}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("function", "message"), [(failing, "^item 0 fails$"), (broken, "Ray cannot run a task .*item 0 is broken")])
def test_on_ray_an_error_comes_through(cluster: Any, function: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(each(function, [0], ray=True, crashed=lost))
