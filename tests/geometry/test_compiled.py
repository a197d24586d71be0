from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.errors import MissingExtraError
from diorama.geometry.compiled import compiled, spread

SCRIPT = """
import numpy as np
from loops import twice
out = np.zeros(3)
twice(0, 3, np.arange(3.0), out)
print(out.tolist())
"""
LOOPS = """
from diorama.geometry.compiled import compiled


@compiled(fast=False)
def twice(first, last, source, out):
    for i in range(first, last):
        out[i] = 2 * source[i]
"""


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_ranges_cover_everything_once(threads: int, count: int) -> None:
    calls = np.zeros(count, np.int64)

    def kernel(first: int, last: int) -> None:
        calls[first:last] += 1

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        spread(kernel, count)
    finally:
        torch.set_num_threads(before)
    assert (calls == 1).all()


def test_a_failing_range_is_heard_of() -> None:
    def kernel(first: int, last: int) -> None:
        raise ValueError(f"{first} to {last}")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="to"):
            spread(kernel, 10)
    finally:
        torch.set_num_threads(before)


def test_machine_code_is_kept_elsewhere_where_the_install_is_read_only(tmp_path: Path) -> None:
    """A file in the place of ``__pycache__`` refuses writing even to an administrator."""
    install, home = tmp_path / "install", tmp_path / "home"
    install.mkdir()
    home.mkdir()
    (install / "loops.py").write_text(LOOPS)
    (install / "__pycache__").write_text("")
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": f"{install}:{source}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[0.0, 2.0, 4.0]", done.stderr
    assert list(home.rglob("*.nbi"))


def test_without_numba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtraError, match=r"numba.*diorama\[geometry\]"):
        compiled(fast=False)
