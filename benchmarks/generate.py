"""Generation with the default settings: seconds, peak memory and share of the matrix-product rate.

    python benchmarks/generate.py [--runs 3] [--size 128x128] [--device cpu] [--json FILE]

(a) is one transformer forward of the pair that guidance needs, (b) the whole generation from prompt to frames.
"""
# ruff: noqa: E402 (threads are settled before torch is imported)

from __future__ import annotations

from diorama.threads import settle_threads

settle_threads()

import argparse
import copy
import json
import math
import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from diorama import Pipeline
from diorama.autoencoder import Autoencoder
from diorama.evaluation.report import machine, table
from diorama.pipeline.candidates import num_candidates, num_takes, sketch_steps, still_steps
from diorama.pipeline.request import Request
from diorama.runtime import autocast, matmul_rate, peak_memory, prepare_cpu, synchronize
from diorama.shapes import parse_size

PROMPT = "A red ball bounces beside a glossy blue cube on a wooden floor at sunset while the camera orbits left."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None, help="model folder; the packaged model if left out")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    prepare_cpu(options.threads)
    pipe = Pipeline.load(options.model, options.device)
    device = pipe.models.device
    width, height = parse_size(options.size)
    request = Request(prompt=PROMPT, width=width, height=height)
    fast = isinstance(autocast(device), torch.autocast)
    dtype = torch.bfloat16 if fast else torch.float32
    side = 8192 if device.type == "cuda" else 2048
    rate = matmul_rate(device, dtype, size=side)
    forward = _forward(pipe, request, rate, options.runs)
    whole = _whole(pipe, request, rate, options.runs)
    rate_after = matmul_rate(device, dtype, size=side)
    print(machine())
    print(f"{request.num_frames} frames of {width}x{height}, {request.steps} steps, guidance {request.guidance_scale}, {options.runs} runs, {device}")
    stills, takes = _drawn(pipe, request)
    drawn, sketched = still_steps(request.steps), sketch_steps(request.steps)
    print(f"drawn beforehand: {stills} first frames in {drawn} steps, and {takes} sketches in {sketched} steps of how they go on")
    print(f"matrix products, {str(dtype).removeprefix('torch.')} {side}: {rate / 1e9:.0f} GFLOP/s before, {rate_after / 1e9:.0f} after\n")
    rows = [(name, f"{f['seconds']:.3f}", f"{f['best']:.3f}", f"{f['gflop']:.0f}", f"{100 * f['share']:.0f} %") for name, f in (forward, whole)]
    print(table(("part", "seconds, median", "best", "GFLOP", "share of the rate (median)"), rows))
    memory = peak_memory(device) / 2**20
    print(f"\npeak memory {memory:.0f} MiB")
    if options.json is not None:
        figures = {"machine": machine(), "rate": rate, "peak_mib": memory, **dict((forward, whole))}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _figures(name: str, seconds: list[float], flops: float, rate: float) -> tuple[str, dict[str, float]]:
    median = statistics.median(seconds)
    return name, {"seconds": median, "best": min(seconds), "gflop": flops / 1e9, "share": flops / median / rate}


def _forward(pipe: Pipeline, request: Request, rate: float, runs: int) -> tuple[str, dict[str, float]]:
    models = pipe.models
    grid = request.shape(models.stride).latent(models.autoencoder.config.stride)
    texts = models.text_encoder.encode([request.prompt, ""])
    latent = torch.randn(models.autoencoder.config.latent_channels, *grid, device=models.device)
    seconds = []
    with torch.inference_mode(), autocast(models.device):
        clips = models.transformer.pack([latent, latent], [0.7, 0.7])
        text = models.transformer.encode_text(texts.states, texts.mask, texts.pooled)
        for i in range(4 * runs + 2):
            start = time.perf_counter()
            models.transformer(clips, text)
            synchronize(models.device)
            if i >= 2:
                seconds.append(time.perf_counter() - start)
    flops = models.transformer.num_flops(clips.lengths, texts.states.shape[1])
    return _figures(f"(a) one forward of 2 x {clips.lengths[0]} tokens", seconds, flops, rate)


def _whole(pipe: Pipeline, request: Request, rate: float, runs: int) -> tuple[str, dict[str, float]]:
    models = pipe.models
    grid = request.shape(models.stride).latent(models.autoencoder.config.stride)
    tokens = math.prod(grid)
    width = models.text_encoder.encode([request.prompt, ""]).states.shape[1]
    still = tokens // grid[0]
    stills, takes = _drawn(pipe, request)
    steps: dict[str, int] = {}
    pipe.generate(request.prompt, size=(request.width, request.height), seed=0, progress=lambda stage, _, total: steps.update({stage: total}))
    drawing = (steps.get("takes", 0) + steps["denoise"]) * models.transformer.num_flops((tokens, tokens), width)
    drawing += still_steps(request.steps) * stills * models.transformer.num_flops((still, still), width)
    flops = drawing * (2 if request.solver == "heun" else 1) + (1 + takes) * _decode_flops(models.autoencoder, grid)
    seconds = []
    for seed in range(1, runs + 1):
        start = time.perf_counter()
        pipe.generate(request.prompt, size=(request.width, request.height), seed=seed)
        synchronize(models.device)
        seconds.append(time.perf_counter() - start)
    return _figures("(b) prompt to frames", seconds, flops, rate)


def _drawn(pipe: Pipeline, request: Request) -> tuple[int, int]:
    """Return how many first frames are drawn before the clip, and how many sketches."""
    if not pipe.models.scheduler.still_first:
        return 0, 0
    takes = num_takes(pipe.models, request)
    return num_candidates(pipe.models, request), takes if takes > 1 else 0


def _decode_flops(model: Autoencoder, grid: tuple[int, int, int]) -> int:
    """Return the operations of decoding a latent of ``grid`` cells, counted from shapes alone."""
    ghost = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost.decode(torch.empty(1, ghost.config.latent_channels, *grid, device="meta"))
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()
