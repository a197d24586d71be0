"""Threads sleep while they wait, look out first where they are alone, and what a user set stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diorama import threads

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def settled(monkeypatch: pytest.MonkeyPatch, *, alone: bool, **before: str) -> dict[str, str]:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "_alone", lambda: alone)
    threads.settle_threads()
    found = {name: os.environ[name] for name in NAMES if name in os.environ}
    for name in found.keys() - before.keys():  # what it set itself is not known to monkeypatch
        del os.environ[name]
    return found


def test_they_look_out_only_where_nobody_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(monkeypatch, alone=True) == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
    assert settled(monkeypatch, alone=False) == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("before", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_is_set_stays(monkeypatch: pytest.MonkeyPatch, before: dict[str, str]) -> None:
    assert settled(monkeypatch, alone=True, **before) == before


@pytest.mark.parametrize(("text", "alone"), [("0.1 0.2 0.3 1/200 77\n", True), ("0.1 0.2 0.3 2/200 77\n", False), ("", False), ("0 0 0 x 1", False)])
def test_the_system_says_who_runs(tmp_path: Path, text: str, alone: bool) -> None:
    load = tmp_path / "loadavg"
    load.write_text(text)
    assert threads._alone(load) == alone
    assert not threads._alone(tmp_path / "none")


def test_what_ends_at_once_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load = tmp_path / "loadavg"
    load.write_text("0 0 0 3/200 7")
    monkeypatch.setattr(time, "sleep", lambda _: load.write_text("0 0 0 1/200 7"))
    assert threads._alone(load)


def test_a_busy_machine_is_told_apart() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "print('up', flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        found = [threads._alone(looks=1) for _ in range(20)]
    finally:
        busy.kill()
        busy.wait()
        assert busy.stdout is not None
        busy.stdout.close()
    assert not all(found)
