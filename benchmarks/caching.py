"""Residual caching against the same requests without: evaluations left out, times, and how far the videos are from each other.

    python benchmarks/caching.py [--model FOLDER] [--thresholds 0.05 0.1 0.2] [--prompts 3] [--size 96x96] [--steps 24]
        [--device auto] [--threads 1] [--sheet FILE]

Every prompt is made in turns without and with each threshold, from one seed. Times are of sampling and decoding together, of the
processor's seconds on a CPU and of the clock's on a GPU.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diorama import Pipeline
from diorama.evaluation.report import machine, table
from diorama.media import Clip, Pixels, contact_sheet, save_image
from diorama.runtime import prepare_cpu, synchronize
from diorama.shapes import parse_size

PROMPTS = (
    "A red ball bounces beside a glossy blue cube on a wooden floor at sunset while the camera orbits left.",
    "A small green cylinder slides to the right past a yellow cone by day, the camera stands still.",
    "A purple cube tumbles over an orange sphere on a checkered floor at night while the camera moves forward.",
    "Two white balls roll towards each other on a grass floor under snow, the camera pans right.",
)
_SHOWN = 8
"""Frames of a clip on the sheet."""


def psnr(one: Pixels, other: Pixels) -> float:
    """Return the peak signal-to-noise ratio of two clips in dB."""
    error = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None, help="model folder; the packaged model if left out")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--prompts", type=int, default=3, help=f"how many, at most {len(PROMPTS)}")
    parser.add_argument("--size", default="96x96")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--sheet", type=Path, default=None, help="also write a picture with a row of frames for each clip, prompt by prompt")
    options = parser.parse_args(arguments)
    prepare_cpu(options.threads)
    pipe = Pipeline.load(options.model, options.device)
    clock = time.perf_counter if pipe.models.device.type == "cuda" else time.process_time

    def made(prompt: str, threshold: float, seed: int) -> tuple[Clip, float]:
        start = clock()
        clip = pipe.generate(prompt, size=parse_size(options.size), steps=options.steps, seed=seed, cache_threshold=threshold)
        synchronize(pipe.models.device)
        return clip, clock() - start

    made(PROMPTS[0], 0.0, 0)
    rows, pictures = {threshold: list[tuple[float, float, float]]() for threshold in options.thresholds}, list[Pixels]()
    for seed, prompt in enumerate(PROMPTS[: options.prompts]):
        plain, seconds = made(prompt, 0.0, seed)
        pictures.append(_row(plain))
        for threshold in options.thresholds:
            clip, faster = made(prompt, threshold, seed)
            rows[threshold].append((_skipped(clip), seconds / faster, psnr(plain.frames, clip.frames)))
            pictures.append(_row(clip))
    print(machine())
    print(f"{plain.num_frames} frames of {options.size}, {options.steps} steps, {len(PROMPTS[: options.prompts])} prompts, {pipe.models.device}\n")
    shown = [[f"{threshold:g}", *_told(values)] for threshold, values in rows.items()]
    print(table(("threshold", "evaluations left out", "times faster", "PSNR dB, median", "lowest"), shown))
    if options.sheet is not None:
        print(save_image(contact_sheet(Clip(np.concatenate(pictures), 1.0), _SHOWN, len(pictures)), options.sheet))


def _told(values: list[tuple[float, float, float]]) -> list[str]:
    skipped, faster, near = zip(*values, strict=True)
    return [f"{100 * statistics.mean(skipped):.0f} %", f"{statistics.median(faster):.2f}", f"{statistics.median(near):.1f}", f"{min(near):.1f}"]


def _skipped(clip: Clip) -> float:
    """Return the share of evaluations that were left out, from the clip's notes."""
    (note,) = (note for note in json.loads(clip.metadata["diorama"])["notes"] if note.startswith("cache threshold"))
    words = note.split()
    return int(words[words.index("in") + 1]) / int(words[words.index("of") + 1])


def _row(clip: Clip) -> Pixels:
    frames: Pixels = clip.frames[np.linspace(0, clip.num_frames - 1, _SHOWN).round().astype(int)]
    return frames


if __name__ == "__main__":
    main()
