"""What choosing among first frames is worth: stills drawn for prompts of known scenes, read by the judge.

    python benchmarks/candidates.py [--prompts 48] [--drawn 8] [--model FOLDER]

Scenes are other ones than those of `diorama evaluate prompt`; every fourth prompt is in words that no training caption uses. Six
stills for 48 prompts took five and a half minutes on two cores.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from diorama import Pipeline
from diorama.cli.progress import progress_bar
from diorama.evaluation.judge import Judge
from diorama.evaluation.prompt import FIRST_SEED
from diorama.evaluation.report import machine, table
from diorama.evaluation.score import grade
from diorama.pipeline.candidates import best_match
from diorama.pipeline.state import Cue
from diorama.runtime import prepare_cpu
from diorama.worlds.captions import caption, paraphrase
from diorama.worlds.sample import sample_scene
from diorama.worlds.scene import Scene

ASKED = ("colour", "shape", "count")


@dataclass(frozen=True)
class Drawn:
    """The stills of one prompt."""

    prompt: str
    reworded: bool
    stills: list[np.ndarray]
    right: list[bool]
    """Whether each shows every colour and shape asked for, and nothing more."""
    shapes: list[bool]
    """Whether each shows every shape asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None, help="model folder; the packaged model if left out")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--drawn", type=int, default=8, help="stills for each prompt")
    options = parser.parse_args()
    prepare_cpu()
    pipe = Pipeline.load(options.model)
    judge = Judge.load(Path(str(resources.files("diorama"))) / "models" / "judge")
    asked = list(itertools.islice(_scenes(), options.prompts))
    drawn = []
    with progress_bar() as progress:
        for index, scene in enumerate(asked):
            drawn.append(_draw(pipe, judge, scene, index % 4 == 3, options.drawn))
            progress("drawn", index + 1, len(asked))
    print(machine())
    counts = sorted({1, *range(2, options.drawn + 1, 2)})
    for reworded, name in ((False, "in the captions' words"), (True, "in reserved words")):
        group = [one for one in drawn if one.reworded == reworded]
        if group:
            print(f"\n{len(group)} prompts {name}: share of clips' first frames that are right, in %\n")
            print(
                table(
                    ("of the first", "shapes, chosen", "the best there is", "colour, shape and count, chosen", "the best there is"),
                    _rows(pipe, group, counts),
                )
            )


def _scenes() -> Iterator[Scene]:
    """Yield scenes of one or two bodies of different colours that neither training nor evaluation has."""
    for seed in itertools.count(FIRST_SEED + 1_000_000):
        scene = sample_scene(seed, split="held_out" if seed % 2 else "train", num_bodies=1 + seed // 2 % 2)
        if len({body.color for body in scene.bodies}) == len(scene.bodies):
            yield scene


def _draw(pipe: Pipeline, judge: Judge, scene: Scene, reworded: bool, number: int) -> Drawn:
    prompt = (paraphrase if reworded else caption)(scene, scene.seed).dense
    stills = [pipe.generate(prompt, size=(128, 128), num_frames=1, seed=seed, candidates=1).frames[0] for seed in range(number)]
    grades = [grade(scene, reading) for reading in judge.read([still[None] for still in stills])]
    return Drawn(prompt, reworded, stills, [all(one[name] for name in ASKED) for one in grades], [one["shape"] for one in grades])


def _rows(pipe: Pipeline, group: list[Drawn], counts: list[int]) -> list[tuple[str, ...]]:
    rows = []
    for number in counts:
        chosen = [best_match(pipe.models, one.stills[:number], [Cue(one.prompt, torch.ones(1))]) for one in group]
        figures = []
        for shown in ([one.shapes for one in group], [one.right for one in group]):
            figures.append(np.mean([hits[place] for hits, place in zip(shown, chosen, strict=True)]))
            figures.append(np.mean([any(hits[:number]) for hits in shown]))
        rows.append((str(number), *(f"{100 * figure:.0f}" for figure in figures)))
    return rows


if __name__ == "__main__":
    main()
