"""The same function over many items: in this process, in local processes, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from diorama.errors import DataError, DioramaError, MissingExtraError
from diorama.runtime import end_with_parent, one_thread_each

__all__ = ["each"]

A = TypeVar("A")
B = TypeVar("B")


def each(
    function: Callable[[A], B], items: Sequence[A], *, workers: int | None = None, ray: bool = False, crashed: Callable[[A], B]
) -> Generator[tuple[int, B]]:
    """Yield (number of the item, result) as results come.

    Args:
        function: What to do; it and the items travel to other processes.
        items: What to do it with.
        workers: Processes; one per core if None, this process if 0.
        ray: Run on Ray instead, on the cluster it is connected to, else on this machine.
        crashed: Gives the result of an item that takes its process down each time, as a hostile file may.

    Raises:
        MissingExtraError: Ray is asked for and not installed.
        DataError: processes cannot be started here, or Ray cannot run what it is given.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if ray:
        yield from _on_ray(function, items, crashed)
    elif workers == 0:
        yield from ((i, function(item)) for i, item in enumerate(items))
    else:
        yield from _in_processes(function, items, workers, crashed)


def _in_processes(function: Callable[[A], B], items: Sequence[A], workers: int, crashed: Callable[[A], B]) -> Iterator[tuple[int, B]]:
    waiting = list(range(len(items)))
    while waiting:
        under_way: list[int] = []
        try:
            for i, result in _pool(function, items, waiting, workers, under_way):
                yield i, result
        except BrokenProcessPool as error:
            if not _can_start():
                raise DataError("worker processes end as soon as they start; run the same command again with --workers 0") from error
            # One process died, which ends its siblings: those that were under way are tried alone, each in a process of its own.
            for i in sorted(under_way):
                try:
                    for _, result in _pool(function, items, [i], 1, []):
                        yield i, result
                except BrokenProcessPool:
                    yield i, crashed(items[i])


def _pool(function: Callable[[A], B], items: Sequence[A], waiting: list[int], workers: int, under_way: list[int]) -> Iterator[tuple[int, B]]:
    """Yield results; ``waiting`` loses the items that were handed out and ``under_way`` holds those without a result."""
    context = multiprocessing.get_context("spawn")
    with one_thread_each(), ProcessPoolExecutor(min(workers, len(waiting)), context, _start, (os.getpid(),)) as pool:
        futures: dict[Future[B], int] = {}
        try:
            while waiting or futures:
                while waiting and len(futures) < workers + 1:
                    i = waiting.pop(0)
                    under_way.append(i)
                    futures[pool.submit(function, items[i])] = i
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    i = futures.pop(future)
                    under_way.remove(i)
                    yield i, result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _can_start() -> bool:
    """Return whether a worker comes up at all, so that a fault of this machine is not blamed on a file."""
    try:
        return next(_pool(_nothing, [0], [0], 1, []))[1] == 0
    except BrokenProcessPool:
        return False


def _nothing(item: int) -> int:
    return item


def _start(parent: int) -> None:
    """Let a worker end when its parent is killed, and use one thread for OpenCV."""
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
    end_with_parent(parent)


def _on_ray(function: Callable[[A], B], items: Sequence[A], crashed: Callable[[A], B]) -> Iterator[tuple[int, B]]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray[data]", "cluster", "curating with --ray") from error
    if not items:  # a run that is finished needs no cluster
        return
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)

    def apply(row: dict[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "result": _packed(function, row["item"])}

    # One item a block: a process that dies takes no others with it.
    packed = [pickle.dumps(item) for item in items]
    rows = ray.data.from_items([{"number": i, "item": item} for i, item in enumerate(packed)], override_num_blocks=len(items))
    rows = rows.map(apply, max_retries=1)
    rows.context.max_errored_blocks = -1
    rows.context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    lost = set(range(len(items)))
    for row in rows.iter_rows():
        lost.discard(int(row["number"]))
        yield int(row["number"]), _unpacked(row["result"])
    alone = ray.remote(max_retries=0)(_packed)
    for i, future in [(i, alone.remote(function, packed[i])) for i in sorted(lost)]:
        try:
            yield i, _unpacked(ray.get(future))
        except ray.exceptions.WorkerCrashedError:
            yield i, crashed(items[i])
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"Ray cannot run a task ({reason}); each of its machines needs diorama[curation], or leave --ray out") from error


def _packed(function: Callable[[A], B], item: bytes) -> bytes:
    """Return the result, or the message of an error meant for the user, which Ray would bury in a report of its own."""
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
    try:
        return pickle.dumps((function(pickle.loads(item)), ""))
    except DioramaError as error:
        return pickle.dumps((None, str(error)))


def _unpacked(result: bytes) -> Any:
    value, message = pickle.loads(result)
    if message:
        raise DataError(message)
    return value
