"""Does the transformer heed the prompt? Loss on rendered worlds with their caption, with a wrong one, and with none.

    python benchmarks/prompt_gap.py [--model FOLDER | --transformer FOLDER] [--clips 24] [--judged 24]

Each clip is noised to a few flow times, with and without its first frame given. A model that knows which way the camera is
to move loses by the wrong word; one that reads the motion off the noisy clip, or guesses, does not notice it. The second
table asks the same of stills: do other shapes, or other colours, in the caption cost anything? The tables are the loss with
the right caption and how much the others add to it. Worlds are drawn as those of the evaluation are, never trained on.
With ``--judged`` the model draws the first frames of prompts of the evaluation, and the judge looks at each as a clip that stands still: it was not
taught to, so its answers on rendered truth stand beside.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diorama import Pipeline
from diorama.evaluation.judge import Judge
from diorama.evaluation.prompt import FIRST_SEED, PromptConfig, questions
from diorama.flow import frame_losses, interpolate, velocity_target
from diorama.media import Clip, to_tensor
from diorama.patches import patchify
from diorama.pipeline import Models
from diorama.runtime import prepare_cpu
from diorama.transformer import Transformer
from diorama.worlds.captions import caption
from diorama.worlds.clip import film, make_clip
from diorama.worlds.sample import sample_scene, sample_world
from diorama.worlds.scene import CAMERA_MOVES, COLORS, SHAPES, CameraMove, Scene

OPPOSITE: dict[CameraMove, CameraMove] = {
    "pan_left": "pan_right",
    "orbit_left": "orbit_right",
    "tilt_up": "tilt_down",
    "crane_up": "crane_down",
    "dolly_in": "dolly_out",
}
OPPOSITE |= {there: here for here, there in OPPOSITE.items()}
GROUPS = {"left, right": ("pan", "orbit"), "up, down": ("tilt", "crane"), "in, out": ("dolly",)}
TIMES = (0.8, 0.9, 0.97)
STILL_TIMES = (0.6, 0.8, 0.9, 0.97)
FIRST_SCENE = FIRST_SEED + 500_000


def scenes(kinds: Sequence[str], count: int, size: int) -> list[Scene]:
    drawn = (sample_scene(seed, width=size, height=size) for seed in itertools.count(FIRST_SCENE))
    return list(itertools.islice((scene for scene in drawn if scene.camera.move.split("_")[0] in kinds), count))


def latent(models: Models, scene: Scene, num_frames: int | None = None) -> Tensor:
    with torch.inference_mode():
        drawn = sample_world(scene.seed, width=scene.width, height=scene.height)
        frames = film(*drawn, num_frames=num_frames).frames.numpy()
        return models.autoencoder.encode(to_tensor(Clip(frames, scene.fps)))[0].float()


def turned(scene: Scene) -> Scene:
    return replace(scene, camera=replace(scene.camera, move=OPPOSITE[scene.camera.move]))


def reshaped(scene: Scene) -> Scene:
    bodies = (replace(body, shape=SHAPES[(SHAPES.index(body.shape) + 1 + (scene.seed + i) % 4) % 5]) for i, body in enumerate(scene.bodies))
    return replace(scene, bodies=tuple(bodies))


def repainted(scene: Scene) -> Scene:
    unused = [color for color in COLORS if color not in {body.color for body in scene.bodies}]
    bodies = (replace(body, color=unused[(scene.seed + i) % len(unused)]) for i, body in enumerate(scene.bodies))
    return replace(scene, bodies=tuple(bodies))


def dense(worlds: Sequence[Scene]) -> list[str]:
    return [caption(scene, scene.seed).dense for scene in worlds]


@torch.inference_mode()
def loss(models: Models, latents: Sequence[Tensor], prompts: Sequence[str], t: float, given: bool) -> float:
    transformer, fps = models.transformer, 12.0
    generator = torch.Generator().manual_seed(0)
    times = [torch.full((latent.shape[1],), t) for latent in latents]
    for row in times:
        row[0] *= not given
    noisy, targets = [], []
    for latent, row in zip(latents, times, strict=True):
        noise = torch.randn(latent.shape, generator=generator)
        noisy.append(interpolate(latent, noise, row[:, None, None]))
        targets.append(patchify(velocity_target(latent, noise), transformer.config.patch_size))
    text = models.text_encoder.encode(list(prompts))
    pack = transformer.pack(noisy, times, fps=[fps] * len(latents), begins=[True] * len(latents))
    counts = torch.cat([torch.full((f,), h * w) for f, h, w in pack.grids])
    with torch.autocast("cpu", torch.bfloat16):
        velocity = transformer(pack, transformer.encode_text(text.states, text.mask, text.pooled))
    losses = frame_losses(velocity.float(), torch.cat(targets), counts)
    return float(losses[torch.cat(times) > 0].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None, help="model folder; the packaged one if left out")
    parser.add_argument("--transformer", type=Path, default=None, help="a transformer alone, with the other parts of the model")
    parser.add_argument("--clips", type=int, default=24, help="of each kind of camera move; stills are four times as many")
    parser.add_argument("--size", type=int, default=96, help="pixels of a side")
    parser.add_argument("--judged", type=int, default=0, help="only let the judge look at stills of so many prompts, two seeds each")
    options = parser.parse_args()
    prepare_cpu()
    models = Pipeline.load(options.model).models
    if options.transformer is not None:
        models = replace(models, transformer=Transformer.load(options.transformer).eval())
    if options.judged:
        judged(models, options.judged)
        return
    cameras(models, options.clips, options.size)
    stills(models, 4 * options.clips, options.size)


def cameras(models: Models, count: int, size: int) -> None:
    """Print how much the camera turned round costs."""
    print("| camera | first frame | t | loss | turned round | no prompt |\n|---|---|---|---|---|---|")
    for name, kinds in GROUPS.items():
        worlds = scenes(kinds, count, size)
        latents = [latent(models, scene) for scene in worlds]
        right, wrong = dense(worlds), dense([turned(scene) for scene in worlds])
        for given, t in itertools.product((False, True), TIMES):
            own, other, none = (loss(models, latents, prompts, t, given) for prompts in (right, wrong, [""] * count))
            print(f"| {name} | {'given' if given else 'noisy'} | {t} | {own:.4f} | {other - own:+.4f} | {none - own:+.4f} |", flush=True)


def stills(models: Models, count: int, size: int) -> None:
    """Print how much other shapes and other colours cost in first frames."""
    print("\n| stills | loss | other shapes | other colours | no prompt |\n|---|---|---|---|---|")
    worlds = scenes([move.split("_")[0] for move in CAMERA_MOVES], count, size)
    latents = [latent(models, scene, 1) for scene in worlds]
    wrong = (dense([reshaped(scene) for scene in worlds]), dense([repainted(scene) for scene in worlds]), [""] * count)
    for t in STILL_TIMES:
        own = loss(models, latents, dense(worlds), t, False)
        added = (f"{loss(models, latents, prompts, t, False) - own:+.4f}" for prompts in wrong)
        print(f"| t = {t} | {own:.4f} | {' | '.join(added)} |", flush=True)


def judged(models: Models, count: int) -> None:
    """Print how many bodies the judge finds of the asked shape and colour in drawn first frames and in rendered ones."""
    judge, pipeline = Judge.load(Path(str(files("diorama"))) / "models" / "judge"), Pipeline(models)
    asked = [question for question in questions(PromptConfig(count=count + count // 2)) if not question.paraphrase][:count]
    rows: dict[str, list[tuple[bool, bool]]] = {"drawn": [], "rendered": []}
    for question in asked:
        scene = question.scene
        truth = make_clip(scene.seed, split=question.split, width=128, height=128, num_bodies=len(scene.bodies)).frames.numpy()
        drawn = [pipeline.generate(question.prompt, size=(128, 128), num_frames=1, seed=seed).frames for seed in (0, 1)]
        for name, stills in (("drawn", drawn), ("rendered", [truth[:1]])):
            for still in stills:
                reading = judge.read([np.repeat(still, 33, axis=0)])[0]
                seen, shapes = {body.color for body in reading.bodies}, {body.color: body.shape for body in reading.asked}
                rows[name] += [(shapes[body.color] == body.shape, body.color in seen) for body in scene.bodies]
    print(f"| {count} prompts | bodies | shape | colour |\n|---|---|---|---|")
    for name, found in rows.items():
        shape, color = np.mean(found, axis=0)
        print(f"| {name} | {len(found)} | {shape:.1%} | {color:.1%} |")


if __name__ == "__main__":
    main()
