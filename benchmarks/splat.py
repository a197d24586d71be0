"""The Gaussian rasteriser: a training step (projection, forward, backward) against its plain PyTorch twin, and gsplat where CUDA is.

    python benchmarks/splat.py [--gaussians 10000] [--size 128] [--threads 2] [--runs 7] [--json FILE]

Every run times both, one after the other, so that whatever else the machine does falls on both; the ratio is the median over runs of the
two times' ratios. CPU seconds are given beside wall-clock seconds: they do not grow when other processes take the cores.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diorama.evaluation.report import machine, table
from diorama.geometry.gaussians import Gaussians, View
from diorama.geometry.rasterise import Backend, rasterise
from diorama.runtime import prepare_cpu, synchronize

EXTENT = 1.2
"""Half the side of the cube that the Gaussians fill, three units before the camera."""
SCALE = 0.03
"""Their typical standard deviation: 1.8 pixels of 128."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    prepare_cpu(options.threads)
    device = torch.device(options.device)
    cloud, lens, weight = scene(options.gaussians, options.size, device)
    fast: Backend = "gsplat" if device.type == "cuda" else "compiled"
    backends: tuple[Backend, ...] = (fast, "plain")
    results = {backend: step(cloud, lens, weight, backend) for backend in backends for _ in range(2)}
    times: dict[str, list[tuple[float, float]]] = {backend: [] for backend in backends}
    for _ in range(options.runs):
        for backend in backends:
            times[backend].append(clock(cloud, lens, weight, backend))
    wall = [slow[0] / quick[0] for quick, slow in zip(times[fast], times["plain"], strict=True)]
    cpu = [slow[1] / quick[1] for quick, slow in zip(times[fast], times["plain"], strict=True)]
    print(machine())
    print(f"{options.gaussians} Gaussians, {options.size}x{options.size}, {torch.get_num_threads()} threads, {device}, {options.runs} runs")
    rows = [(name, *(f"{1e3 * statistics.median(column):.1f}" for column in zip(*runs, strict=True))) for name, runs in times.items()]
    print(table(("step", "ms, wall clock", "ms, CPU"), rows))
    print(f"\n{fast} is {statistics.median(wall):.1f} times as fast (wall clock; CPU time {statistics.median(cpu):.1f})")
    print(f"wall-clock ratios of the runs: {', '.join(f'{ratio:.1f}' for ratio in wall)}")
    differences = {name: relative(results[fast][name], value) for name, value in results["plain"].items()}
    print("relative difference of values and gradients: " + ", ".join(f"{name} {value:.1e}" for name, value in differences.items()))
    if options.json is not None:
        figures = {"machine": machine(), "times": times, "wall_ratio": statistics.median(wall), "cpu_ratio": statistics.median(cpu)}
        options.json.write_text(json.dumps({**figures, "differences": differences}, indent=2) + "\n", encoding="utf-8")


def scene(count: int, size: int, device: torch.device) -> tuple[Gaussians, View, Tensor]:
    """Return random Gaussians, a camera before them, and the gradient of its picture."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(count, *shape, generator=generator) for shape in ((3,), (4,), (), (4, 3))]
    cloud = Gaussians(
        means=EXTENT * (2 * torch.rand(count, 3, generator=generator) - 1),
        log_scales=math.log(SCALE) + 0.5 * parts[0],
        quaternions=parts[1],
        logits=parts[2],
        sh=0.5 * parts[3],
    )
    matrix = np.eye(4)
    matrix[2, 3] = 3.0
    lens = View(world_to_camera=matrix, focal=(1.4 * size, 1.4 * size), center=(size / 2, size / 2), width=size, height=size)
    weight = torch.randn(size, size, 3, generator=generator).to(device)
    return cloud.map(lambda tensor: tensor.to(device).requires_grad_()), lens, weight


def step(cloud: Gaussians, lens: View, weight: Tensor, backend: Backend) -> dict[str, Tensor]:
    """Draw once, go back once, and return the picture and all gradients."""
    for tensor in cloud.tensors().values():
        tensor.grad = None
    background = torch.tensor([0.2, 0.5, 0.9], device=weight.device)
    image = rasterise(cloud, lens, background, backend=backend)
    image.backward(weight)
    gradients = {name: tensor.grad for name, tensor in cloud.tensors().items() if tensor.grad is not None}
    return {"picture": image.detach(), **gradients}


def clock(cloud: Gaussians, lens: View, weight: Tensor, backend: Backend) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of a step."""
    synchronize(weight.device)
    wall, cpu = time.perf_counter(), time.process_time()
    step(cloud, lens, weight, backend)
    synchronize(weight.device)
    return time.perf_counter() - wall, time.process_time() - cpu


def relative(got: Tensor, wanted: Tensor) -> float:
    """Return the length of the difference over the length of what was wanted."""
    return float((got - wanted).norm() / wanted.norm())


if __name__ == "__main__":
    main()
