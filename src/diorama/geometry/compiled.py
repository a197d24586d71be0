"""Compiled loops: the one way they are made, and how they are spread over threads.

A kernel works on a range ``first`` to ``last`` of its items, releases the GIL and writes only what belongs to its range, so results do not
depend on how many threads there are.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import torch

from diorama.errors import MissingExtraError

__all__ = ["compiled", "spread"]

Kernel: TypeAlias = Callable[..., Any]

_CHUNKS = 6
"""Ranges per thread: ranges differ in work, so a thread that is done takes another."""


def compiled(*, fast: bool) -> Callable[[Kernel], Kernel]:
    """Return a decorator that compiles a loop with numba.

    The machine code is kept beside the source, or in the user's cache where that is read-only, or nowhere where nothing can be written.

    Args:
        fast: Let the compiler reorder sums, as vectorising them needs, and assume that nothing is infinite or nan.

    Raises:
        MissingExtraError: numba is not installed.
    """
    try:
        import numba
    except ImportError as error:
        raise MissingExtraError("numba", "geometry", "Gaussian splatting on the CPU") from error

    def wrap(function: Kernel) -> Kernel:
        options = {"nogil": True, "fastmath": fast, "error_model": "numpy"}
        try:
            kernel: Kernel = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # "cannot cache function: no locator available"
            kernel = numba.njit(**options)(function)
        return kernel

    return wrap


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return the threads of a process; a fork has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="compiled")


def spread(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Run ``kernel(first, last, *arguments)`` over ``range(count)``, in as many threads as torch may use.

    Args:
        kernel: A compiled loop.
        count: Items.
        arguments: Whatever else it takes.
    """
    threads = torch.get_num_threads()
    ranges = min(threads * _CHUNKS, count)
    if threads == 1 or ranges < 2:
        kernel(0, count, *arguments)
        return
    edges = [count * index // ranges for index in range(ranges + 1)]
    pool = _pool(threads, os.getpid())
    tasks = [pool.submit(kernel, first, last, *arguments) for first, last in itertools.pairwise(edges)]
    for task in tasks:
        task.result()
