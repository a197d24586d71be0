"""Worlds rendered: clips and frames a second of ``diorama worlds render``'s own mixture and of one size.

    python benchmarks/worlds.py [--clips 16] [--workers 2] [--device cpu]

With ``--device cuda`` clips are rendered one after another on the GPU in this process.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import tempfile
import time
from pathlib import Path

from diorama.data.worlds import Share, render_shards
from diorama.evaluation.report import machine, table
from diorama.runtime import choose_device, synchronize
from diorama.worlds.clip import make_clip

SIZES = (Share(weight=1.0, width=96, height=96, num_frames=33), Share(weight=1.0, width=128, height=128, num_frames=33))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = choose_device(options.device)
    rows = []
    for size in SIZES:
        if device.type == "cpu":
            with tempfile.TemporaryDirectory() as folder:
                report = render_shards(Path(folder) / "worlds", options.clips, mixture=(size,), workers=options.workers)
            clips, frames, seconds = report.clips, report.frames, report.seconds
        else:
            make_clip(0, width=size.width, height=size.height, num_frames=size.num_frames, device=device)
            start = time.perf_counter()
            for seed in range(1, options.clips + 1):
                make_clip(seed, width=size.width, height=size.height, num_frames=size.num_frames, device=device)
            synchronize(device)
            clips, frames, seconds = options.clips, options.clips * size.num_frames, time.perf_counter() - start
        rows.append((f"{size.num_frames} x {size.width}x{size.height}", f"{clips}", f"{clips / seconds:.2f}", f"{frames / seconds:.0f}"))
    print(machine())
    print(f"sampling, physics, rendering, captions and, on the CPU, writing shards; {options.workers} workers, {device}\n")
    print(table(("frames x size", "clips", "clips / s", "frames / s"), rows))


if __name__ == "__main__":
    main()
