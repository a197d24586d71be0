"""What the settings of a transformer do to its time, its memory and its result: weights in 8 bits, products in fp8, compiled blocks, graphs.

    python benchmarks/settings.py [--model FOLDER] [--device auto] [--size 128x128] [--frames 33] [--settings none int8 fp8 fp8-products blocks
        graphs int8+blocks] [--repeats 5] [--threads 1]

One evaluation with and without a prompt, of noise at flow time 0.6, run in turns with the model as it is. Seconds are the processor's on a
CPU and the clock's on a GPU; ``change`` is the norm of the difference of the velocities as a share of the norm. Off cards that have them,
products in fp8 are made in float32 of the same rounded numbers, which shows the change and no speed; graphs are left out.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import copy
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from diorama import runtime
from diorama.evaluation.report import machine, table
from diorama.interop.compile import compile_transformers
from diorama.interop.quantise import Precision, quantise
from diorama.interop.settings import Compile
from diorama.pipeline import Models, load_models
from diorama.shapes import parse_size
from diorama.text.states import TextStates
from diorama.transformer import Transformer

PROMPT = "A red ball bounces beside a glossy blue cube on a wooden floor at sunset while the camera orbits left."
MIB = 2**20


def fitted(plain: Transformer, setting: str) -> Transformer:
    """Return a copy of a transformer under a setting: words of ``Precision`` and ``Compile`` joined by ``+``."""
    net = copy.deepcopy(plain)
    for word in setting.split("+"):
        if word in get_args(Precision):
            quantise(net.blocks, word)  # type: ignore[arg-type]
        elif word in get_args(Compile):
            compile_transformers([net], word)  # type: ignore[arg-type]
        else:
            raise SystemExit(f"setting '{word}' is unknown; allowed: {', '.join((*get_args(Precision), *get_args(Compile)))}")
    return net


def evaluated(models: Models, net: Transformer, texts: TextStates, latent: Tensor) -> tuple[Tensor, float]:
    """Return the velocities with and without the prompt, and the seconds they took."""
    clock = time.perf_counter if models.device.type == "cuda" else time.process_time
    with torch.inference_mode(), models.autocast():
        text = net.encode_text(texts.states, texts.mask, texts.pooled, padded_to=texts.padded_to)
        runtime.synchronize(models.device)
        start = clock()
        velocity = net(net.pack([latent, latent], [0.6, 0.6]), text)
        runtime.synchronize(models.device)
        return velocity.float().cpu(), clock() - start


def weights(net: Transformer) -> int:
    """Return the bytes of the blocks."""
    return sum(value.numel() * value.element_size() for value in net.blocks.state_dict().values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None, help="model folder; the packaged model if left out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", type=parse_size, default=(128, 128))
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--settings", nargs="+", default=["none", "int8", "fp8", "fp8-products", "blocks", "graphs", "fp8-products+blocks"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    runtime.prepare_cpu(options.threads)
    models = load_models(options.model, options.device)
    cell, (width, height) = models.autoencoder.config, options.size
    shape = (cell.latent_channels, 1 + (options.frames - 1) // cell.stride.time, height // cell.stride.space, width // cell.stride.space)
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(models.device)
    texts, rows = models.text_encoder.encode([PROMPT, ""]), []
    for setting in options.settings:
        if setting.endswith("graphs") and models.device.type != "cuda":
            continue
        net, began = fitted(models.transformer, setting), time.perf_counter()
        evaluated(models, net, texts, latent)
        first = time.perf_counter() - began
        evaluated(models, net, texts, latent)
        pairs = [(evaluated(models, models.transformer, texts, latent), evaluated(models, net, texts, latent)) for _ in range(options.repeats)]
        (wanted, _), (found, _) = pairs[0]
        ratio = statistics.median(one[1] / other[1] for one, other in pairs)
        seconds = statistics.median(other[1] for _, other in pairs)
        change = float((found - wanted).norm() / wanted.norm())
        rows.append([setting, f"{weights(net) / MIB:.1f}", f"{first:.1f}", f"{seconds:.3f}", f"{ratio:.2f}", f"{100 * change:.2f} %"])
        print("   ", *rows[-1], flush=True)
    print(machine())
    print(f"{options.frames} frames of {width}x{height} with guidance, {models.device}, {options.threads} threads\n")
    print(table(("setting", "blocks MiB", "first s", "seconds", "times faster", "change"), rows))


if __name__ == "__main__":
    main()
