"""What choosing is worth: stills and clips made for prompts of known scenes, read by the judge.

    python benchmarks/candidates.py [--prompts 48] [--drawn 8] [--steps 24] [--takes 6] [--model FOLDER] [--against FOLDER]

First stills: all of them, without a choice, beside what the judge makes of the rendered scenes' first frames, and the difference from another
model's of the same noise; then the first drawn, and the chosen one of several. Then whole clips: the first take, and the chosen one of several.
Scenes are other ones than those of `diorama evaluate prompt`; every fourth prompt is in words that no training caption uses. 48 prompts take
about ten minutes on two cores.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import dataclasses
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
from diorama.pipeline.candidates import best_first
from diorama.pipeline.state import Cue
from diorama.runtime import prepare_cpu
from diorama.worlds.captions import caption, paraphrase
from diorama.worlds.clip import film
from diorama.worlds.physics import simulate
from diorama.worlds.sample import sample_scene
from diorama.worlds.scene import Scene

ASKED = ("colour", "shape", "count")
TAKEN = (*ASKED, "motion", "camera direction", "all five")


@dataclass(frozen=True)
class Drawn:
    """The stills of one prompt."""

    prompt: str
    reworded: bool
    bodies: int
    """How many the prompt asks for."""
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
    parser.add_argument("--steps", type=int, default=24, help="solver steps of each still")
    parser.add_argument("--against", type=Path, default=None, help="a second model folder, whose stills the first one's are compared with")
    parser.add_argument("--takes", type=int, default=6, help="sketches for each prompt; 1 leaves the clips out")
    options = parser.parse_args()
    prepare_cpu()
    pipe = Pipeline.load(options.model)
    other = None if options.against is None else Pipeline.load(options.against)
    judge = Judge.load(Path(str(resources.files("diorama"))) / "models" / "judge")
    asked = list(itertools.islice(_scenes(), options.prompts))
    drawn, compared, clips = [], [], []
    with progress_bar() as progress:
        for index, scene in enumerate(asked):
            reworded = index % 4 == 3
            drawn.append(_draw(pipe, judge, scene, reworded, options.drawn, options.steps))
            if other is not None:
                compared.append(_draw(other, judge, scene, reworded, options.drawn, options.steps))
            if options.takes > 1:
                clips.append((reworded, *(_clip(pipe, judge, scene, reworded, takes) for takes in (1, options.takes))))
            progress("drawn", index + 1, len(asked))
    print(machine())
    print(f"\n{len(drawn)} prompts, {options.drawn} stills each in {options.steps} steps: share of all stills that are right, in %\n")
    print(table(("", "shapes", "colour, shape and count"), _shares(drawn)))
    print("\nthe rendered scenes' own first frames, as the judge reads them\n")
    print(table(("", "shapes", "colour, shape and count"), _shares([_rendered(judge, scene) for scene in asked])))
    if compared:
        print(f"\nthe same noises by {options.against}\n")
        print(table(("", "shapes", "colour, shape and count"), _shares(compared)))
        print(f"\ndifference by prompt: shapes {_difference(drawn, compared)}")
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
        pairs = [pair for other, *pair in clips if other == reworded]
        if pairs:
            print(f"\n{len(pairs)} prompts {name}: share of clips that are right, in %\n")
            shares = [[100 * np.mean([pair[place][asked] for pair in pairs]) for asked in TAKEN] for place in (0, 1)]
            rows = [
                (label, *(f"{share:.0f}" for share in row)) for label, row in zip(("first take", f"best of {options.takes}"), shares, strict=True)
            ]
            print(table(("", *TAKEN), rows))


def _scenes() -> Iterator[Scene]:
    """Yield scenes of one or two bodies of different colours that neither training nor evaluation has."""
    for seed in itertools.count(FIRST_SEED + 1_000_000):
        scene = sample_scene(seed, split="held_out" if seed % 2 else "train", num_bodies=1 + seed // 2 % 2)
        if len({body.color for body in scene.bodies}) == len(scene.bodies):
            yield scene


def _draw(pipe: Pipeline, judge: Judge, scene: Scene, reworded: bool, number: int, steps: int) -> Drawn:
    prompt = _prompt(scene, reworded)
    stills = [pipe.generate(prompt, size=(128, 128), num_frames=1, seed=seed, steps=steps, candidates=1).frames[0] for seed in range(number)]
    return _read(judge, scene, prompt, reworded, stills)


def _rendered(judge: Judge, scene: Scene) -> Drawn:
    square = dataclasses.replace(scene, width=128, height=128)
    frame = film(square, simulate(square), num_frames=1).frames[0]
    return _read(judge, scene, _prompt(scene, reworded=False), False, [np.asarray(frame)])


def _read(judge: Judge, scene: Scene, prompt: str, reworded: bool, stills: list[np.ndarray]) -> Drawn:
    grades = [grade(scene, reading) for reading in judge.read([still[None] for still in stills])]
    right = [all(one[name] for name in ASKED) for one in grades]
    return Drawn(prompt, reworded, len(scene.bodies), stills, right, [one["shape"] for one in grades])


def _prompt(scene: Scene, reworded: bool) -> str:
    return (paraphrase if reworded else caption)(scene, scene.seed).dense


def _shares(drawn: list[Drawn]) -> list[tuple[str, ...]]:
    rows = []
    for label, bodies in (("one body", (1,)), ("two", (2,)), ("all", (1, 2))):
        group = [one for one in drawn if one.bodies in bodies]
        if group:
            rows.append((label, *(f"{100 * np.mean(hits):.1f}" for hits in ([one.shapes for one in group], [one.right for one in group]))))
    return rows


def _difference(drawn: list[Drawn], compared: list[Drawn]) -> str:
    """Return by how much the shapes of one model's stills are right oftener than another's; a prompt counts once, for its stills are alike."""
    gains = np.array([100 * (np.mean(one.shapes) - np.mean(two.shapes)) for one, two in zip(drawn, compared, strict=True)])
    error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    return f"{gains.mean():+.1f} points, standard error {error:.1f}; {(gains > 0).sum()} prompts better, {(gains < 0).sum()} worse"


def _clip(pipe: Pipeline, judge: Judge, scene: Scene, reworded: bool, takes: int) -> dict[str, bool]:
    clip = pipe.generate(_prompt(scene, reworded), size=(128, 128), num_frames=33, seed=scene.seed, takes=takes).frames
    return grade(scene, judge.read([clip])[0])


def _rows(pipe: Pipeline, group: list[Drawn], counts: list[int]) -> list[tuple[str, ...]]:
    rows = []
    for number in counts:
        chosen = [best_first(pipe.models, [still[None] for still in one.stills[:number]], [Cue(one.prompt, torch.ones(1))])[0] for one in group]
        figures = []
        for shown in ([one.shapes for one in group], [one.right for one in group]):
            figures.append(np.mean([hits[place] for hits, place in zip(shown, chosen, strict=True)]))
            figures.append(np.mean([any(hits[:number]) for hits in shown]))
        rows.append((str(number), *(f"{100 * figure:.0f}" for figure in figures)))
    return rows


if __name__ == "__main__":
    main()
