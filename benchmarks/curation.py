"""Curation beside plain decoding: seconds of video per second of each stage, and memory over a folder ten times as long.

    python benchmarks/curation.py FOLDER [--memory] [--fit OUT.npz]

Plain decoding is PyAV's, with its threads, of every video of the folder, in the same run. Figures are in seconds of video per second of
CPU time (user and system, all processes of this one), which other programs on the machine do not change, and per second on the clock.
``--fit`` fits the numbers in ``src/diorama/curation/statistics.npz`` anew, from the videos of FOLDER.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diorama.curation.curate import Curation, curate
from diorama.curation.cuts import CutConfig, shots
from diorama.curation.fates import Limits, decide, keep
from diorama.curation.orientation import orientation_features
from diorama.curation.quality import patch_features
from diorama.curation.shards import Plan, write_shard
from diorama.curation.sources import list_sources
from diorama.curation.trace import TraceConfig, trace_source
from diorama.errors import DioramaError
from diorama.evaluation.report import machine, table
from diorama.media import probe
from diorama.media.codec import libav
from diorama.media.scan import ScanSizes, scan


def timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
    start, before = time.perf_counter(), os.times()
    result = function()
    after = os.times()
    return after.user + after.system - before.user - before.system, time.perf_counter() - start, result


def decode(path: Path) -> int:
    with libav().open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return sum(1 for _ in container.decode(stream))


def throughput(folder: Path) -> None:
    sources, paths, seconds = [], [], 0.0
    for source in list_sources(str(folder)):
        try:
            seconds += probe(source.address).seconds
        except DioramaError:
            continue
        sources.append(source)
        paths.append(Path(source.address))
    config = TraceConfig()
    rows: list[list[Any]] = []

    def line(name: str, work: Callable[[], Any]) -> Any:
        cpu, wall, result = timed(work)
        rows.append([name, f"{seconds / cpu:.1f}", f"{seconds / wall:.1f}", f"{100 * rows[0][3] / cpu:.0f} %" if rows else "100 %", cpu])
        rows[-1] = [*rows[-1][:3], cpu, rows[-1][3]]
        return result

    line("warm-up", lambda: [trace_source(sources[0], config), decode(paths[0])])
    rows.clear()
    line("plain decode", lambda: [decode(path) for path in paths])
    line("scan (decode, small frames)", lambda: [sum(1 for _ in scan(path, threads=1)) for path in paths])
    line("scan and cuts", lambda: [sum(1 for _ in shots(scan(path, threads=1), CutConfig(), gap=0.0)) for path in paths])
    traced = line("probe to scores and prints", lambda: [trace_source(source, config) for source in sources])
    kept = [keep(decide(row, Limits())) for group in traced for row in group]
    kept = [row for row in kept if row.fate == "kept"]
    with tempfile.TemporaryDirectory() as out:
        stored = line("shards", lambda: write_shard(Path(out), Plan(number=0, rows=tuple(kept), sources=tuple(sources))))
    with tempfile.TemporaryDirectory() as out:
        line("whole pipeline", lambda: curate(Curation(source=str(folder), out=Path(out), workers=0)))
    copied = sum(row.seconds for row in stored if row.stored == "copied")
    print(f"{len(paths)} files, {seconds:.0f} s of video; of {sum(row.seconds for row in kept):.0f} s kept, {copied:.0f} s are copied; {machine()}")
    shown = [[name, cpu_rate, wall_rate, share] for name, cpu_rate, wall_rate, _, share in rows]
    print(table(["stage", "video s per CPU s", "video s per s", "speed beside plain decode"], shown))


def memory(folder: Path) -> None:
    """Curate the folder once and ten times over, each in a process of its own, and print the peaks."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom diorama.curation.curate import Curation, curate\n"
        "curate(Curation(source=sys.argv[1], out=Path(sys.argv[2]), workers=0))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for times in (1, 10):
            raw = Path(scratch) / f"raw{times}"
            for i in range(times):
                shutil.copytree(folder, raw / str(i))
            out = subprocess.run([sys.executable, "-c", code, str(raw), f"{scratch}/out{times}"], check=True, capture_output=True, text=True)
            print(f"{times:>2} times the folder: peak {out.stdout.strip()} MiB")


def fit(folder: Path, out: Path, weight: float = 1.0) -> None:
    """Fit the statistics of undistorted patches and the judge of orientation."""
    patches, upright, share = [], [], []
    for source in list_sources(str(folder)):
        try:
            frames = [frame for frame in scan(source.address, ScanSizes(every=1.0)) if frame.medium is not None]
        except DioramaError:
            continue
        found = [patch_features(frame.detail) for frame in frames if frame.detail is not None]
        features, sharp = np.concatenate([f for f, _ in found]), np.concatenate([s for _, s in found])
        if len(sharp) and sharp.max() > 4:
            patches.append(features[sharp > max(3.0, 0.6 * float(np.quantile(sharp, 0.95)))][:60])
        upright.append(np.array([orientation_features(frame.medium) for frame in frames if frame.medium is not None]))
        share.append(np.full(len(upright[-1]), 4.0 / len(upright[-1])))
    x, w = np.concatenate(upright), np.concatenate(share)
    scale = x.std(axis=0)
    x, weights = x / scale, np.zeros(x.shape[1])
    for _ in range(60):  # Newton's steps of a logistic regression without a constant, every example upright
        p = 1 / (1 + np.exp(-x @ weights))
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x + weight * np.eye(len(weights))
        weights -= np.linalg.solve(hessian, x.T @ (w * (p - 1)) + weight * weights)
    clean = np.concatenate(patches)
    np.savez(
        out,
        quality_mean=clean.mean(0).astype("f4"),
        quality_covariance=np.cov(clean, rowvar=False).astype("f4"),
        orientation=(weights / scale).astype("f4"),
    )
    print(f"{len(clean)} patches and {len(x)} frames into {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--fit", type=Path, help="fit the statistics instead and write them here")
    options = parser.parse_args()
    if options.fit:
        fit(options.folder, options.fit)
    elif options.memory:
        memory(options.folder)
    else:
        throughput(options.folder)
