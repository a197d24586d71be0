"""Device, number format, seeds and what the machine can do.

Nothing here runs at import. Model rooms never choose a device; whoever starts a command does, through these functions.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from diorama.errors import DataError, InputError, TooLargeError, cannot_write

__all__ = [
    "at_once",
    "autocast",
    "available_memory",
    "check_memory",
    "choose_device",
    "end_with_parent",
    "fast_dtype",
    "generator",
    "has_cores_to_share",
    "is_held",
    "lock_folder",
    "matmul_rate",
    "one_thread_each",
    "peak_memory",
    "prepare_cpu",
    "synchronize",
]

A = TypeVar("A")
B = TypeVar("B")

_thread = threading.local()
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for ``"auto"`` (CUDA, then Apple's MPS, then the CPU) or for a torch device name.

    Raises:
        InputError: the name is unknown or the device is absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device '{name}' cannot be used here; allowed: auto, cpu, or a present accelerator such as cuda:0") from error
    return device


def autocast(device: torch.device, *, enabled: bool | None = None) -> contextlib.AbstractContextManager[object]:
    """Return a bf16 autocast context or a null context.

    Args:
        device: Where to compute.
        enabled: Whether to compute in bf16; None does where the device multiplies bf16 faster than fp32.
    """
    if not (fast_dtype(device) == torch.bfloat16 if enabled is None else enabled):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bf16 where a device multiplies it faster than fp32, else float32.

    A CPU without instructions for bf16 is up to 70 times slower at it. With those of AVX512 alone AMD's are three times as fast as with fp32 and
    Intel's half as fast; Intel's fast ones are AMX (docs/log.md, 2026-11-30).
    """
    is_fast = device.type == "cuda" or (device.type == "cpu" and _is_fast_at_bf16())
    return torch.bfloat16 if is_fast else torch.float32


def _is_fast_at_bf16() -> bool:
    return bool(torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and not _is_intel()))


@functools.cache
def _is_intel() -> bool:
    """Tell whether Intel made the CPU; where the system does not say who did, it did not."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "GenuineIntel" in cpuinfo.read_text(encoding="utf-8", errors="replace")


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a seeded generator; the same seed gives the same numbers on the same kind of device.

    Raises:
        InputError: the seed is outside 0 to 2**63 - 1.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed} is out of range: allowed is 0 to {2**63 - 1}")
    return torch.Generator(device=device).manual_seed(seed)


def prepare_cpu(num_threads: int | None = None) -> None:
    """Give torch ``num_threads`` threads, or one per core that this process may use, and keep freed memory for the next tensor.

    How OpenMP's threads wait must be settled before torch is imported, see ``threads.settle_threads``; the CLI does so. And
    glibc gives every large block back to the system when it is freed, so that each new tensor costs a page fault per 4 KiB:
    15 to 22 % of the time of rendering and training here (docs/log.md, 2026-11-20).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(num_threads or cores)
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device | None = None) -> int:
    """Return the peak memory in bytes: of the CUDA device if one is given, else of this process."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available_memory(device: torch.device) -> int:
    """Return free memory in bytes of a CUDA device, or of this machine within its control group's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = int(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        free = min(free, limit - used)
    return free


def check_memory(needed: int, device: torch.device, *, remedy: str) -> None:
    """Refuse a request that cannot fit.

    Args:
        needed: Bytes the request will take.
        device: Where it will run.
        remedy: What to do about it, for the message.

    Raises:
        TooLargeError: ``needed`` is above 90 % of the free memory.
    """
    free = available_memory(device)
    if needed > 0.9 * free:
        raise TooLargeError(f"this needs about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; {remedy}")


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.bfloat16, *, size: int = 2048, seconds: float = 1.0) -> float:
    """Measure the matrix-product rate in FLOP/s, the denominator of every share-of-peak figure.

    Args:
        device: Where to measure.
        dtype: Number format of both factors.
        size: Side of the square matrices.
        seconds: How long to measure; the best of the products made in that time counts.
    """
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for start in _rounds(seconds):
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def has_cores_to_share(device: torch.device) -> bool:
    """Return whether ``at_once`` does two things at once, which it does not inside of itself."""
    return device.type == "cpu" and torch.get_num_threads() > 1 and not getattr(_thread, "is_one_of_several", False)


def at_once(call: Callable[[A], B], parts: Sequence[A], device: torch.device) -> list[B]:
    """Return ``call(part)`` of each part, in order; on a CPU the parts run at once, each with its share of torch's threads.

    Threads that work on one small product wait for each other at its end, and the longer the more else runs; threads that have each a
    product of their own do not.

    Args:
        call: What each part is given to; torch's modes (autocast, gradients) are a thread's own, so it must set those it needs.
        parts: At most a few.
        device: Where the work is done.
    """
    threads = torch.get_num_threads()
    workers = min(len(parts), threads)
    if workers < 2 or not has_cores_to_share(device):
        return [call(part) for part in parts]
    return list(_crew(workers, threads // workers, os.getpid()).map(call, parts))


@functools.cache
def _crew(workers: int, threads: int, process: int) -> ThreadPoolExecutor:
    """Return threads with as many of torch's threads each; a fork has none of its parent's."""
    before, all_here = torch.get_num_threads(), threading.Barrier(workers)

    def begin() -> None:
        _thread.is_one_of_several = True
        torch.set_num_threads(threads)

    crew = ThreadPoolExecutor(workers, thread_name_prefix="at-once", initializer=begin)
    list(crew.map(lambda _: all_here.wait(), range(workers)))
    # What the crew was given is also what torch would give to every thread begun later.
    torch.set_num_threads(before)
    return crew


def _rounds(seconds: float) -> Iterator[float]:
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        yield now


@contextlib.contextmanager
def lock_folder(folder: Path, purpose: str) -> Iterator[None]:
    """Hold a folder for this process; the kernel lets go of it however the process ends.

    Args:
        folder: Made if it is missing.
        purpose: What the other run is doing, to complete "another run is ... FOLDER".

    Raises:
        DataError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"another run is {purpose} {folder}; wait for it, or choose another folder") from error
        yield


def is_held(folder: Path) -> bool:
    """Return whether a process holds a folder by ``lock_folder``."""
    try:
        file = (folder / ".lock").open()
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes started inside find the settings that OpenMP reads once, at its import."""
    ours = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def end_with_parent(parent: int) -> None:
    """End this worker process when the one that started it is gone, also after ``kill -9``.

    Args:
        parent: Process id of the parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
