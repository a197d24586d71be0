"""Make the pictures of the README and docs/ from fixed prompts and seeds: rows of frames by the packaged model.

python benchmarks/pictures.py [--out docs/pictures] [--model FOLDER]
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
from pathlib import Path

import numpy as np

from diorama import Pipeline
from diorama.media import Clip, contact_sheet, save_image
from diorama.runtime import prepare_cpu

PROMPTS = (
    "A large shiny red ball bounces on a checkered floor by day. The camera stays still.",
    "A blue cube slides to the right on a wooden floor at sunset. The camera stays still.",
    "A green cone rests on a grass floor by day while the camera orbits left.",
    "A yellow cylinder and a purple ball on a concrete floor by day. The camera moves closer.",
    "An orange capsule falls onto a brick floor at night. The camera stays still.",
    "A pink ball rolls to the left past a black cube on a striped floor by day.",
)
SHAPES = (("landscape", 176, 96), ("portrait", 96, 176), ("square", 128, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--model", type=Path, default=None)
    options = parser.parse_args()
    prepare_cpu()
    pipeline = Pipeline.load(options.model)
    rows = [pipeline.generate(prompt, seed=7).frames for prompt in PROMPTS]
    shown = np.linspace(0, len(rows[0]) - 1, 6).round().astype(int)
    sheet = contact_sheet(Clip(np.concatenate([row[shown] for row in rows]), 12.0), columns=6, rows=len(rows))
    print(save_image(sheet, options.out / "prompts.png"))
    for name, width, height in SHAPES:
        clip = pipeline.generate(PROMPTS[0], size=(width, height), seed=7)
        print(save_image(contact_sheet(clip, columns=6, rows=1), options.out / f"{name}.png"))


if __name__ == "__main__":
    main()
