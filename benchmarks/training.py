"""Training throughput of the default transformer: clips a second and share of the matrix-product rate.

    python benchmarks/training.py [--clips 8] [--steps 8] [--device cpu]

Forward, backward, clipping, Muon and AdamW on random latents of 33 frames of 128 x 128; no data loading.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import time

import torch
from torch import nn

from diorama.evaluation.report import machine, table
from diorama.runtime import autocast, choose_device, matmul_rate, peak_memory, prepare_cpu, synchronize
from diorama.train.optim import MuonAdamW, OptimConfig
from diorama.transformer import Transformer, TransformerConfig

GRID = (9, 8, 8)
TEXT_TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8, help="clips a step")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    prepare_cpu(options.threads)
    device = choose_device(options.device)
    config = TransformerConfig()
    model = Transformer(config).to(device).train()
    optimizer = MuonAdamW(model, OptimConfig())
    fast = isinstance(autocast(device), torch.autocast)
    dtype, side = (torch.bfloat16 if fast else torch.float32), (8192 if device.type == "cuda" else 2048)
    rate = matmul_rate(device, dtype, size=side)
    seconds = []
    for i in range(options.steps + 2):
        start = time.perf_counter()
        _step(model, optimizer, options.clips, device)
        synchronize(device)
        if i >= 2:
            seconds.append(time.perf_counter() - start)
    lengths = [GRID[0] * GRID[1] * GRID[2]] * options.clips
    flops = 3 * model.num_flops(lengths, TEXT_TOKENS)
    median = statistics.median(seconds)
    print(machine())
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {options.clips} clips of {lengths[0]} tokens a step, {device}")
    print(f"matrix products, {str(dtype).removeprefix('torch.')} {side}: {rate / 1e9:.0f} GFLOP/s\n")
    row = (
        f"{median:.3f}",
        f"{options.clips / median:.1f}",
        f"{sum(lengths) / median:.0f}",
        f"{flops / 1e9:.0f}",
        f"{100 * flops / median / rate:.0f} %",
    )
    print(table(("seconds / step", "clips / s", "tokens / s", "GFLOP / step", "share of the rate"), [row]))
    print(f"\npeak memory {peak_memory(device) / 2**20:.0f} MiB")


def _step(model: Transformer, optimizer: MuonAdamW, num_clips: int, device: torch.device) -> None:
    config = model.config
    optimizer.zero_grad()
    with autocast(device):
        clips = model.pack([torch.randn(config.in_channels, *GRID, device=device) for _ in range(num_clips)], [0.5] * num_clips)
        states = torch.randn(num_clips, TEXT_TOKENS, config.text_dim, device=device)
        mask = torch.ones(num_clips, TEXT_TOKENS, dtype=torch.bool, device=device)
        velocity = model(clips, model.encode_text(states, mask, states.mean(1)))
        loss = velocity.square().mean() + (velocity * 0.1).mean()
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.parameters(), 1.0)
    optimizer.step(1.0)


if __name__ == "__main__":
    main()
