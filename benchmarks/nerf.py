"""The radiance field: its compiled loops against their plain PyTorch twins, and what a training step costs.

    python benchmarks/nerf.py [--rays 2048] [--threads 2] [--runs 7] [--steps 40] [--json FILE]

Lookups (forward and gradient) and the search along rays are timed in pairs, fast then plain, so that whatever else the machine does falls on
both; ratios are medians over runs. A step is that of the default settings on a cloud of coloured noise, which costs what any video costs.
CPU seconds are given beside wall-clock seconds: they do not grow when other processes take the cores.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from diorama.evaluation.report import machine, table
from diorama.geometry.cameras import Cameras, Capture
from diorama.geometry.encoding import Layout, gather, gather_plain
from diorama.geometry.nerf import NerfConfig, learn
from diorama.geometry.occupancy import Occupancy, march, march_plain
from diorama.geometry.rays import Rays, Space
from diorama.runtime import generator, prepare_cpu

Timing = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rays", type=int, default=NerfConfig().rays)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40, help="training steps to time; 0 for none")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    prepare_cpu(options.threads)
    print(machine())
    print(f"{options.rays} rays of {NerfConfig().intervals} intervals, {torch.get_num_threads()} threads, {options.runs} runs\n")
    rows, figures = [], {}
    for name, (fast, plain) in pairs(options.rays).items():
        fast(), plain()
        runs = [(clock(fast), clock(plain)) for _ in range(options.runs)]
        wall, cpu = (statistics.median(slow[i] / quick[i] for quick, slow in runs) for i in (0, 1))
        middle = [1e3 * statistics.median(run[which][i] for run in runs) for which in (0, 1) for i in (0, 1)]
        rows.append((name, *(f"{value:.1f}" for value in middle), f"{wall:.1f}", f"{cpu:.1f}"))
        figures[name] = {"milliseconds": middle, "wall_ratio": wall, "cpu_ratio": cpu}
    print(table(("loop", "compiled, ms", "CPU ms", "plain, ms", "CPU ms", "times as fast", "in CPU time"), rows))
    if options.steps:
        wall, cpu = step(options.rays, options.steps)
        print(f"\na training step takes {1e3 * wall:.0f} ms, {1e3 * cpu:.0f} ms of CPU")
        figures["step"] = {"seconds": wall, "cpu_seconds": cpu}
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n", encoding="utf-8")


def pairs(count: int) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Return what to time, compiled and plain, at the sizes of a training step."""
    chance, config = generator(0), NerfConfig()
    space = Space(center=(0.0, 0.0, 0.0), radius=1.0, near=1.0, knee=5.0)
    rays = Rays(origins=torch.tensor([[0.0, 0.0, -3.0]]) + 0.3 * torch.randn(count, 3, generator=chance), directions=view(count, chance))
    shifts = torch.rand(count, config.intervals + 1, generator=chance)
    density = Occupancy(space, torch.device("cpu")).density * torch.rand(128**3, generator=chance)
    points = march(rays, shifts, space, density).points.view(-1, 3)
    layout = Layout.of(config.field.encoding)
    table = torch.randn(layout.rows, 4, generator=chance).requires_grad_()
    weight = torch.randn(len(points), 4 * len(layout.sides), generator=chance)

    def lookups(way: Callable[..., torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(way(points, table, layout), table, weight)

    return {
        "lookups and their gradient": (lookups(gather), lookups(gather_plain)),
        "search along rays": (lambda: march(rays, shifts, space, density), lambda: march_plain(rays, shifts, space, density)),
    }


def view(count: int, chance: torch.Generator) -> torch.Tensor:
    """Return directions of a camera that looks along z."""
    return torch.cat([0.4 * (2 * torch.rand(count, 2, generator=chance) - 1), torch.ones(count, 1)], -1)


def step(rays: int, steps: int) -> Timing:
    """Return wall-clock and CPU seconds of a training step."""
    chance = np.random.default_rng(0)
    matrices = np.tile(np.eye(4), (9, 1, 1))
    matrices[:, 0, 3], matrices[:, 2, 3] = np.linspace(-0.5, 0.5, 9), 3.0
    intrinsics = np.tile([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]], (9, 1, 1))
    points = chance.uniform(-1, 1, (500, 3))
    capture = Capture(
        frames=chance.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8),
        cameras=Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=32, height=32),
        points=points,
        colors=np.zeros((500, 3), np.uint8),
    )
    timings = []
    for count in (1, 1, 1 + steps):  # the first loads the compiled loops; the second is all but the steps
        config = NerfConfig(rays=rays, steps=count, seconds=1e6, device="cpu")
        timings.append(clock(lambda config=config: learn(capture, config)))
    return (timings[2][0] - timings[1][0]) / steps, (timings[2][1] - timings[1][1]) / steps


def clock(work: Callable[[], object]) -> Timing:
    """Return wall-clock and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
