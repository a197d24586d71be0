from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from diorama import runtime
from diorama.errors import DataError, InputError, TooLargeError

CPU = torch.device("cpu")


def test_choose_device() -> None:
    assert runtime.choose_device("cpu") == CPU
    assert runtime.choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match="device 'toaster'"):
        runtime.choose_device("toaster")


def test_same_seed_same_numbers() -> None:
    a, b, c = (torch.rand(4, generator=runtime.generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    with pytest.raises(InputError, match="seed -1"):
        runtime.generator(-1)


def test_check_memory_refuses_with_the_remedy() -> None:
    runtime.check_memory(1, CPU, remedy="")
    with pytest.raises(TooLargeError, match="make it smaller"):
        runtime.check_memory(2**60, CPU, remedy="make it smaller")


def test_autocast_gives_bf16_only_where_asked() -> None:
    x = torch.randn(4, 4)
    with runtime.autocast(CPU, enabled=False):
        assert (x @ x).dtype == torch.float32
    with runtime.autocast(CPU):
        assert (x @ x).dtype in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("amx", "avx512", "intel", "fast"),
    [(True, True, True, True), (False, True, True, False), (False, True, False, True), (False, False, False, False), (False, False, True, False)],
)
def test_bf16_is_taken_where_the_cpu_is_fast_at_it(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, intel: bool, fast: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(runtime, "_is_intel", lambda: intel)
    assert runtime.fast_dtype(CPU) == (torch.bfloat16 if fast else torch.float32)
    assert runtime.fast_dtype(torch.device("cuda")) == torch.bfloat16


def test_measures_are_positive() -> None:
    assert runtime.matmul_rate(CPU, torch.float32, size=64, seconds=0.01) > 0
    assert 0 < runtime.peak_memory() < 2**45
    assert runtime.available_memory(CPU) > 0


def test_prepare_cpu() -> None:
    before = torch.get_num_threads()
    runtime.prepare_cpu(1)
    assert torch.get_num_threads() == 1
    runtime.prepare_cpu(before)


def test_parts_run_at_once_and_answers_keep_their_order(two_threads: None) -> None:
    both_here = threading.Barrier(2, timeout=20)

    def call(part: int) -> tuple[int, str, bool]:
        both_here.wait()  # a part that ran alone would wait in vain
        return part, threading.current_thread().name, runtime.has_cores_to_share(CPU)

    assert runtime.has_cores_to_share(CPU)
    answers = runtime.at_once(call, range(4), CPU)
    assert [part for part, _, _ in answers] == [0, 1, 2, 3]
    assert len({name for _, name, _ in answers}) == 2
    assert not any(shares for _, _, shares in answers)
    assert torch.get_num_threads() == 2


def test_what_fails_side_by_side_is_told_and_nested_parts_run_one_after_another(two_threads: None) -> None:
    def nested(part: int) -> list[int]:
        return runtime.at_once(lambda other: 10 * part + other, range(3), CPU)

    assert runtime.at_once(nested, [1, 2, 3], CPU) == [[10, 11, 12], [20, 21, 22], [30, 31, 32]]
    with pytest.raises(ZeroDivisionError):
        runtime.at_once(lambda part: 1 / part, [1, 0], CPU)


def test_one_thread_or_part_runs_here() -> None:
    def name(_: int) -> str:
        return threading.current_thread().name

    assert runtime.at_once(name, [1, 2], CPU) == [threading.current_thread().name] * 2
    assert runtime.at_once(name, [1], CPU) == [threading.current_thread().name]


def test_a_folder_is_held_by_one_run(tmp_path: Path) -> None:
    held = runtime.lock_folder(tmp_path / "out", "writing into")
    other = runtime.lock_folder(tmp_path / "out", "writing into")
    assert not runtime.is_held(tmp_path / "out")
    with held:
        assert runtime.is_held(tmp_path / "out")
        with pytest.raises(DataError, match="another run is writing into"), other:
            pass
    assert not runtime.is_held(tmp_path / "out")
    with runtime.lock_folder(tmp_path / "out", "writing into"):
        assert (tmp_path / "out").is_dir()


def test_one_thread_each_puts_the_environment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with runtime.one_thread_each():
        assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == ("1", "PASSIVE")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OMP_WAIT_POLICY" not in os.environ


WORKER = """
import os, time
from diorama.runtime import end_with_parent
end_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(int(worker.stdout.readline()), flush=True)
"""


def test_a_worker_ends_with_its_parent() -> None:
    pid = int(subprocess.run([sys.executable, "-c", PARENT, WORKER], capture_output=True, check=True, timeout=60).stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
