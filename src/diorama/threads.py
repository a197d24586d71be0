"""How OpenMP's threads wait for each other. OpenMP reads it once, when torch is imported, so nothing here imports torch."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["settle_threads"]

SPINS = 3000
"""Looks at what is waited for, about 0.1 ms of them, before a thread sleeps."""


def settle_threads() -> None:
    """Let waiting threads sleep, and look out for a moment before they do if nobody else wants the cores.

    To wake a thread takes longer than most of a small model's products, so two threads that always sleep are slower than one. Threads
    that always look out are 50 times slower than one as soon as another process takes a core (docs/log.md, 2026-11-20 and 22).
    What the environment says of either is left as it is.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if _alone():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def _alone(load: Path = Path("/proc/loadavg"), looks: int = 8) -> bool:
    """Return whether there is a moment in about 30 ms in which no other process runs; False where the system does not say."""
    try:
        for look in range(looks):
            if int(load.read_text(encoding="ascii").split()[3].partition("/")[0]) <= 1:
                return True
            if look + 1 < looks:
                time.sleep(0.004)
    except (OSError, ValueError, IndexError):
        return False
    return False
