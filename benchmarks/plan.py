"""Planned memory against measured peaks: each case runs in a process of its own and asks the system for its largest resident size.

    python benchmarks/plan.py [--case default|wan|wan-int8 ...]

``default`` is the packaged model; ``wan`` and ``wan-int8`` are Wan 2.1's graph at the width of the 1.3B model with 6 blocks and random
weights in bf16, and Wan 2.1's autoencoder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

CASES: dict[str, dict[str, Any]] = {
    "default": {"size": (256, 256), "num_frames": 65},
    "default-large": {"size": (512, 512), "num_frames": 25},
    "wan": {"size": (320, 192), "num_frames": 17},
    "wan-int8": {"size": (320, 192), "num_frames": 5},
}
GIB = 2**30


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def wan_folder(folder: Path) -> None:
    """Write a model folder with Wan's graphs, random weights and the packaged text encoder."""
    import torch

    from diorama.autoencoder.config import AutoencoderConfig
    from diorama.autoencoder.model import Autoencoder
    from diorama.pipeline import SchedulerConfig, load_models, write_index
    from diorama.transformer import Transformer, TransformerConfig

    packaged = load_models(None, "cpu")
    size = {"patch_size": (1, 2, 2), "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16, "out_channels": 16, "ffn_dim": 8960}
    config = TransformerConfig(**size, text_dim=192, num_layers=6, pooled_dim=None, coordinates="index", place=False)
    Transformer(config).bfloat16().save(folder / "transformer")
    Autoencoder(AutoencoderConfig.wan21()).to(torch.bfloat16).save(folder / "vae")
    packaged.text_encoder.save(folder)
    write_index(folder, SchedulerConfig(window=None))


def run(case: str, folder: str) -> None:
    """Run a case in this process and print what was planned and measured."""
    import torch

    from diorama.interop.plan import PROCESS, Work, footprint, read_blueprint
    from diorama.interop.quantise import quantise
    from diorama.interop.settings import Settings
    from diorama.pipeline import Pipeline
    from diorama.pipeline.load import load_models, model_folder
    from diorama.runtime import prepare_cpu

    prepare_cpu(1)
    wan, settings = (
        case.startswith("wan"),
        Settings(quantise="int8" if case.endswith("int8") else None, dtype="bf16" if case.startswith("wan") else None),
    )
    models = load_models(folder or None, "cpu", settings.torch_dtype)
    if settings.quantise:
        quantise(models.transformer.blocks, settings.quantise)
    models = dataclasses.replace(models, exact=False)
    loaded, wanted = resident("VmRSS"), CASES[case]
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    Pipeline(models).generate("a red ball rolls past a blue cube", seed=0, steps=1 if wan else 2, solver="euler", **wanted)
    peak = resident("VmHWM")
    blueprint = read_blueprint(model_folder(folder or None))
    work = Work(width=wanted["size"][0], height=wanted["size"][1], num_frames=wanted["num_frames"], window=models.scheduler.window)
    taken = footprint(blueprint, work, settings, device="cpu")
    torch.manual_seed(0)
    figures = {"loaded": loaded, "measured": peak, "planned": taken.host, "process": PROCESS, **{f"stage_{k}": v for k, v in taken.stages.items()}}
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run, options.folder)
        return
    with tempfile.TemporaryDirectory() as place:
        if any(case.startswith("wan") for case in options.case):
            wan_folder(Path(place))
        for case in options.case:
            folder = ["--folder", place] if case.startswith("wan") else []
            done = subprocess.run([sys.executable, __file__, "--run", case, *folder], capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{case}: {done.stderr}")
                continue
            f = json.loads(done.stdout.splitlines()[-1])
            stages = ", ".join(f"{name.removeprefix('stage_')} {value / GIB:.2f}" for name, value in f.items() if name.startswith("stage_"))
            print(
                f"{case:14} planned {f['planned'] / GIB:.2f} GiB, measured {f['measured'] / GIB:.2f} GiB: {f['planned'] / f['measured']:.2f}; "
                f"{f['loaded'] / GIB:.2f} before the request; stages {stages}",
                flush=True,
            )


if __name__ == "__main__":
    main()
