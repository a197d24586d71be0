"""The prompting modes measured on held-out worlds: joins, kept frames, fidelity, physics, long videos, passages, edits.

    python benchmarks/modes.py [--show 1 2 3 4 5] [--model FOLDER] [--clips 32] [--modes animate,extend] [--steps 24]

(1) every mode and its naive twins, (2) where an object goes in the next second, against the simulator, (3) a minute by the rolling
window, (4) whether passages are more than cross-fades, (5) what the strength of an edit does. World i is the held-out world of seed
10,000,000 + i, and i is the seed of all that is generated from it; its prompt is its dense caption.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diorama import Pipeline
from diorama.cli.progress import progress_bar
from diorama.evaluation.clips import EVALUATION_SEED
from diorama.evaluation.judge import Judge
from diorama.evaluation.report import machine, table
from diorama.evaluation.score import grade
from diorama.evaluation.seams import (
    FLOW_FLOOR,
    STEP_FLOOR,
    SeamScore,
    Spliced,
    color_drift,
    cross_fade,
    mix_residual,
    spread,
)
from diorama.evaluation.walks import path_length, walks
from diorama.media import Clip, Pixels, resize
from diorama.pipeline.film import Altered, Film, Framed, Given, Made, assemble
from diorama.pipeline.generate import decode, encode, generate
from diorama.pipeline.storyboard import Card, Storyboard
from diorama.runtime import peak_memory, prepare_cpu
from diorama.worlds.captions import caption
from diorama.worlds.clip import WorldClip, make_clip
from diorama.worlds.sample import sample_scene
from diorama.worlds.scene import COLORS, Scene

FPS, NUM_FRAMES = 12.0, 33
MEMORY_GOAL, DRIFT_GOAL = 1.2, 2.0
PATH_SEED, LONG_SEED = EVALUATION_SEED + 3_000_000, EVALUATION_SEED + 4_000_000
LONG_SCENES = 3


@dataclass(frozen=True, kw_only=True)
class World:
    """A held-out world and what a user would have of it."""

    seed: int
    truth: WorldClip

    @property
    def scene(self) -> Scene:
        return self.truth.scene

    @property
    def prompt(self) -> str:
        return self.truth.captions.dense

    @property
    def frames(self) -> Pixels:
        return self.truth.frames.numpy()

    def clip(self, first: int = 0, last: int | None = None) -> Clip:
        """Frames [first, last), with the prompt where a generated clip has it."""
        return Clip(self.frames[first:last], FPS, {"diorama": json.dumps({"prompt": self.prompt})})

    @property
    def recolored(self) -> Scene:
        """The scene of an edit: the first body in the next colour that no other body has."""
        names, body = list(COLORS), self.scene.bodies[0]
        taken = {one.color for one in self.scene.bodies}
        turn = names.index(body.color)
        color = next(name for name in names[turn:] + names[:turn] if name not in taken)
        return replace(self.scene, bodies=(replace(body, color=color), *self.scene.bodies[1:]))


@cache
def world(index: int) -> World:
    return World(seed=index, truth=make_clip(EVALUATION_SEED + index, split="held_out", num_frames=NUM_FRAMES, fps=FPS))


@dataclass(frozen=True, kw_only=True)
class Take:
    """What a mode made, with its parts."""

    film: Film
    shots: Sequence[Pixels]
    frames: Pixels
    seconds: float

    def spans(self) -> Iterator[tuple[Any, slice]]:
        """Every piece and its place in the result; inputs have the model's rate here."""
        start = 0
        for piece in self.film.pieces:
            if isinstance(piece, Made):
                length = len(self.shots[piece.shot][piece.first : piece.last])
            else:
                length = len(piece.source.clip.frames[piece.first : piece.last] if isinstance(piece, Given) else piece.source.clip.frames)
            yield piece, slice(start, start + length)
            start += length
        assert start == len(self.frames)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Who generates, who judges, and how much of it."""

    pipe: Pipeline
    judge: Judge
    clips: int
    steps: int
    modes: Sequence[str]
    seconds: float
    """Length of the long videos."""
    alone: dict[str, Any]
    """How another process loads the model."""

    def shoot(self, seed: int, mode: str, *given: Any, **how: Any) -> Take:
        start = time.perf_counter()
        film = self.pipe.film(mode, *given, seed=seed, steps=self.steps, **how)
        shots = [generate(self.pipe.models, shot.request, shot.items)[0] for shot in film.shots]
        frames = assemble(film, shots).frames
        return Take(film=film, shots=shots, frames=frames, seconds=time.perf_counter() - start)

    def coded(self, frames: Pixels) -> Pixels:
        """Frames through the autoencoder and back."""
        missing = -(len(frames) - 1) % self.pipe.models.stride.time
        whole = np.concatenate([frames, np.repeat(frames[-1:], missing, 0)])
        with torch.inference_mode():
            return decode(self.pipe.models, encode(self.pipe.models, whole).to(self.pipe.models.device), FPS)[: len(frames)]


def result(take: Take, *scenes: Scene) -> Spliced:
    """Return what is measured of a mode's result; of two scenes each half of the new part should show one."""
    given, known = np.zeros_like(take.frames), np.zeros(take.frames.shape[:3], bool)
    joins, made, whole, box = [], list[Pixels](), True, None
    spans = list(take.spans())
    for index, (piece, span) in enumerate(spans):
        source = None if isinstance(piece, Made) else piece.source.clip.frames
        if isinstance(piece, Given):
            given[span], known[span], whole = source[piece.first : piece.last], True, False
        elif isinstance(piece, Framed):
            box = (piece.left, piece.top, piece.left + source.shape[2], piece.top + source.shape[1])
            given[span, box[1] : box[3], box[0] : box[2]], known[span, box[1] : box[3], box[0] : box[2]] = source, True
        elif isinstance(piece, Altered):
            given[span], known[span] = source, (piece.mask == 0).expand(len(source), -1, -1).numpy()
        elif index > 1 and spans[index - 1][1].stop - spans[index - 1][1].start == 1:
            made[-1] = np.concatenate([made[-1], take.frames[span]])  # a single picture between does not part them
        else:
            made.append(take.frames[span])
        before = spans[index - 1][0] if index or take.film.ring else None
        if before is not None and (isinstance(before, Given) != isinstance(piece, Given) or before is piece):
            joins.append(span.start)
    parts = [take.frames] if whole else made
    if len(scenes) > 1:
        half = len(parts[0]) // 2
        parts = [parts[0][:half], parts[0][half:]]
    asked = [(part, scenes[min(i, len(scenes) - 1)]) for i, part in enumerate(parts)]
    kept = {"given": given, "known": known} if known.any() else {}
    return Spliced(frames=take.frames, joins=joins, asked=asked, seconds=take.seconds, box=box, **kept)


def swapped(before: Pixels, new: Pixels, after: Pixels | None, *scenes: Scene, wrap: bool = False) -> Spliced:
    """Return given frames with new ones between them, put together without a mode."""
    frames = np.concatenate([before, new] if after is None else [before, new, after])
    joins = [0] * wrap + [len(before)] * (len(new) > 0) + [len(before) + len(new)] * (after is not None)
    known = np.ones(frames.shape[:3], bool)
    known[len(before) : len(before) + len(new)] = False
    halves = [new] if len(scenes) < 2 else [new[: len(new) // 2], new[len(new) // 2 :]]
    return Spliced(frames=frames, joins=joins, given=frames, known=known, asked=list(zip(halves, scenes, strict=True)) if len(new) else ())


Rows = Iterator[tuple[str, Spliced]]


def both(bench: Bench, name: str, take: Take, *scenes: Scene) -> Rows:
    """Yield a mode's result, and what it would be if all frames were left as they come out of the autoencoder."""
    yield name, result(take, *scenes)
    parts = []
    for piece, _ in take.spans():
        frames = take.shots[piece.shot] if isinstance(piece, Made) else bench.coded(piece.source.clip.frames)
        parts.append(frames[piece.first : piece.last])
    yield "- re-encoded", replace(result(replace(take, frames=np.concatenate(parts)), *scenes), seconds=None)


def _animate(bench: Bench, a: World, _: World) -> Rows:
    yield from both(bench, "animate", bench.shoot(a.seed, "animate", a.clip(0, 1), a.prompt, num_frames=NUM_FRAMES), a.scene)


def _extend_forward(bench: Bench, a: World, _: World) -> Rows:
    take = bench.shoot(a.seed, "extend", a.clip(), a.prompt)
    yield from both(bench, "extend forward", take, a.scene)
    new = bench.shoot(a.seed, "animate", a.clip(NUM_FRAMES - 1), a.prompt, num_frames=25).frames[1:]
    yield "- last frame as image", swapped(a.frames, new, None, a.scene)


def _extend_backward(bench: Bench, a: World, _: World) -> Rows:
    yield from both(bench, "extend backward", bench.shoot(a.seed, "extend", a.clip(), a.prompt, direction="backward"), a.scene)


def _loop_clip(bench: Bench, a: World, _: World) -> Rows:
    take = bench.shoot(a.seed, "loop", a.clip(), a.prompt)
    yield from both(bench, "loop of a clip", take, a.scene)
    yield "- cross-fade", swapped(a.frames, cross_fade(a.frames[-1:], a.frames[:1], len(take.frames) - NUM_FRAMES), None, a.scene, wrap=True)
    yield "- played again", swapped(a.frames, a.frames[:0], None, wrap=True)


def _loop_prompt(bench: Bench, a: World, _: World) -> Rows:
    yield "loop of a prompt", result(bench.shoot(a.seed, "loop", a.prompt, num_frames=NUM_FRAMES), a.scene)
    plain = bench.shoot(a.seed, "text", a.prompt, num_frames=NUM_FRAMES)
    yield "- text, played again", Spliced(frames=plain.frames, joins=[0], asked=[(plain.frames, a.scene)])


def _connect(bench: Bench, a: World, b: World) -> Rows:
    take = bench.shoot(a.seed, "connect", a.clip(), b.clip())
    yield from both(bench, "connect", take, a.scene, b.scene)
    new = len(take.frames) - 2 * NUM_FRAMES
    also = [(b.clip(0, 1), (new + 4) // 4 * 4 / FPS)]
    shown = bench.shoot(a.seed, "animate", a.clip(NUM_FRAMES - 1), f"{a.prompt} {b.prompt}", also=also, num_frames=1 + (new + 4) // 4 * 4)
    yield "- both frames as images", swapped(a.frames, shown.frames[1:-1], b.frames, a.scene, b.scene)
    yield "- cross-fade", swapped(a.frames, cross_fade(a.frames[-1:], b.frames[:1], new), b.frames, a.scene, b.scene)


def _blend(bench: Bench, a: World, b: World) -> Rows:
    take = bench.shoot(a.seed, "blend", a.clip(), b.clip())
    yield from both(bench, "blend", take, a.scene, b.scene)
    made = next(span for piece, span in take.spans() if isinstance(piece, Made))
    fade = cross_fade(a.frames[made], b.frames[made], made.stop - made.start)
    yield "- cross-fade", swapped(a.frames[: made.start], fade, b.frames[made.stop :], a.scene, b.scene)


def _edit(bench: Bench, a: World, _: World) -> Rows:
    wanted = caption(a.recolored, a.recolored.seed).dense
    yield "edit at 0.7", result(bench.shoot(a.seed, "edit", a.clip(), wanted, strength=0.7), a.recolored)
    rows, columns = (np.flatnonzero((a.truth.instances == 1).any(0).any(axis).numpy()) for axis in (1, 0))
    box = f"{columns[0]},{rows[0]},{columns[-1] + 1},{rows[-1] + 1}"
    yield "edit in a box at 0.9", result(bench.shoot(a.seed, "edit", a.clip(), wanted, strength=0.9, region=box), a.recolored)


def _remix(bench: Bench, a: World, _: World) -> Rows:
    for how in ("subtle", "mild", "strong"):
        take = bench.shoot(a.seed, "remix", a.clip(), caption(a.recolored, a.recolored.seed).dense, how=how)
        yield f"remix, {how}", result(take, a.recolored)


def _recut(bench: Bench, a: World, _: World) -> Rows:
    yield from both(bench, "recut", bench.shoot(a.seed, "recut", a.clip(), (8 / FPS, 25 / FPS), a.prompt, before=1.34, after=1.34), a.scene)


def _outpaint(bench: Bench, a: World, _: World) -> Rows:
    yield "outpaint to 16:9", result(bench.shoot(a.seed, "outpaint", a.clip(), a.prompt, aspect="16:9"), a.scene)


def _storyboard(bench: Bench, a: World, _: World) -> Rows:
    cards = [Card(at=frame / FPS, picture=a.clip(frame, frame + 1), text=a.prompt) for frame in (0, 16, 32)]
    board = Storyboard(cards=cards, seconds=NUM_FRAMES / FPS)
    yield "storyboard of 3 pictures", result(bench.shoot(a.seed, "storyboard", board), a.scene)


def _finish(bench: Bench, a: World, _: World) -> Rows:
    draft = bench.shoot(a.seed, "draft", a.prompt, num_frames=NUM_FRAMES)
    yield "draft", result(draft, a.scene)
    height, width = draft.frames.shape[1:3]
    done = bench.shoot(a.seed, "finish", Clip(draft.frames, FPS), a.prompt)
    small = resize(done.frames, (width, height))
    known = np.ones(small.shape[:3], bool)
    yield "finish (kept: the draft)", Spliced(frames=small, given=draft.frames, known=known, asked=[(done.frames, a.scene)], seconds=done.seconds)


SHOWN: dict[str, Callable[[Bench, World, World], Rows]] = {
    "animate": _animate,
    "extend-forward": _extend_forward,
    "extend-backward": _extend_backward,
    "loop-clip": _loop_clip,
    "loop-prompt": _loop_prompt,
    "connect": _connect,
    "blend": _blend,
    "edit": _edit,
    "remix": _remix,
    "recut": _recut,
    "outpaint": _outpaint,
    "storyboard": _storyboard,
    "draft-finish": _finish,
}


def show_modes(bench: Bench) -> None:
    """Every mode, and below it what is done without it."""
    chosen = {name: shown for name, shown in SHOWN.items() if not bench.modes or any(name.startswith(mode) for mode in bench.modes)}
    lines: dict[tuple[str, str], SeamScore] = {}
    with tempfile.TemporaryDirectory() as folder, progress_bar() as report:
        file = Path(folder) / "clip.mp4"
        for i in range(bench.clips):
            a, b = world(i), world(i + 1)
            truth = Spliced(frames=a.frames, joins=[NUM_FRAMES // 2], asked=[(a.frames, a.scene)])
            lines.setdefault(("", "rendered truth, no join"), SeamScore()).add(truth, bench.judge, file, FPS)
            for done, (name, shown) in enumerate(chosen.items(), start=1):
                for row, one in shown(bench, a, b):
                    lines.setdefault((name, row), SeamScore()).add(one, bench.judge, file, FPS)
                report("modes", i * len(chosen) + done, bench.clips * len(chosen))
    rows = [row for (mode, name), line in lines.items() for row in line.rows(name, judged=bool(mode) and not name.startswith("-"))]
    print(table(("mode", *SeamScore.HEAD), rows))
    print(NOTES)


NOTES = f"""
kept: PSNR of the given frames in the result, and in its H.264 file; of finish that of the draft. step: change of the picture at a join
over the median of the clip's other steps; flow step: the same for the change of motion; changes below {STEP_FLOOR:g}/255 and {FLOW_FLOOR:g} px
count as that, and of all joins the median (90th percentile) is printed. Outpaint: the border of the clip in the picture. colour to
motion: new parts that the judge reads as asked, in %; connect and blend: half for each clip; edit and remix: one body in another colour.
"""


def show_physics(bench: Bench) -> None:
    """The next second, against the simulator."""
    rows = []
    names = ("extend", "- it stays", "- it goes on evenly", "tracker on rendered truth")
    with progress_bar() as report:
        for direction in ("forward", "backward"):
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
            for i, walk in enumerate(itertools.islice(walks(PATH_SEED, backward=direction == "backward"), bench.clips)):
                frames, path, (last, next_, *_) = walk.world.frames.numpy(), walk.path, walk.order
                take = bench.shoot(i, "extend", Clip(frames[walk.known], FPS), walk.world.captions.dense, more=1.0, direction=direction)
                new = take.frames[11::-1] if direction == "backward" else take.frames[-12:]
                even = path[0] + torch.arange(1, 13)[:, None] * (path[0] - walk.places[last + 2 * (last - next_)]) / 2
                guesses = [((path[1:] - guess).norm(dim=1), 0.0) for guess in (path[0], even)]
                for name, (errors, lost) in zip(names, (walk.errors(new), *guesses, walk.errors(frames[list(walk.order[1:])])), strict=True):
                    found[name].append((float(errors.mean()), float(errors[-1]), float(errors.mean()) / path_length(path), lost))
                report(direction, i + 1, bench.clips)
            for name, values in found.items():
                mean, end, share, lost = zip(*values, strict=True)
                rows.append((direction, name, spread(mean, 1), spread(end, 1), spread(share), f"{100 * np.mean(lost):.0f} %"))
    print(table(("direction", "by", "error, px", "after 1 s, px", "error / path", "lost"), rows))
    print(f"\nmedian (90th percentile) over {bench.clips} worlds in which a body moves, at least 8 px in that second, and can be followed\n")


def _long_scene(seed: int, num_bodies: int) -> Scene:
    """Return a scene that could go on for ever: the camera stands and a body swings."""
    for number in itertools.count(seed):
        scene = sample_scene(number, num_bodies=num_bodies)
        motions = {body.motion for body in scene.bodies}
        if scene.camera.move == "static" and "swing" in motions and motions <= {"swing", "rest"}:
            return scene
    raise AssertionError


def make_alone(order: dict[str, Any]) -> None:
    """Generate one clip in this process, keep its frames and print its peak memory."""
    prepare_cpu(order["threads"])
    pipe = Pipeline.load(order["model"], order["device"])
    frames = pipe.generate(order["prompt"], seconds=order["seconds"], seed=order["seed"], steps=order["steps"]).frames
    peak = peak_memory(pipe.models.device)
    status = Path("/proc/self/status")
    if pipe.models.device.type != "cuda" and status.exists():  # what getrusage says may be the peak of the process that started this one
        peak = 1024 * next(int(line.split()[1]) for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
    np.save(order["out"], frames)
    print(json.dumps({"peak": peak}))


def show_long(bench: Bench) -> None:
    """Long videos by the rolling window."""
    rows, peaks = [], {8.0: 0, bench.seconds: 0}
    count = min(LONG_SCENES, bench.clips)
    with tempfile.TemporaryDirectory() as folder, progress_bar() as report:
        out = Path(folder) / "frames.npy"
        for i in range(count):
            scene = _long_scene(LONG_SEED + 10_000 * i, 1 + i % 2)
            order = {**bench.alone, "prompt": caption(scene, scene.seed).dense, "seed": i, "steps": bench.steps, "out": str(out)}
            for seconds in (8.0, bench.seconds) if i == 0 else (bench.seconds,):
                command = [sys.executable, __file__, "--alone", json.dumps({**order, "seconds": seconds})]
                peak = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)["peak"]
                peaks[seconds] = max(peak, peaks[seconds])
            frames = np.load(out)
            truth = make_clip(scene.seed, num_bodies=len(scene.bodies)).frames.numpy()
            windows = [frames[first : first + 25] for first in range(0, len(frames) - 24, 24)]
            read = [one["colour"] and one["count"] for one in (grade(scene, reading) for reading in bench.judge.read([*windows, truth]))]
            thirds = [f"{100 * np.mean(part):.0f} %" for part in np.array_split(read[:-1], 3)]
            drift = color_drift(frames, round(5 * FPS))
            verdict = "met" if drift <= DRIFT_GOAL else "missed"
            rows.append((f"{i}", f"{drift:.2f}", f"{DRIFT_GOAL:g} {verdict}", *thirds, "right" if read[-1] else "wrong"))
            report("long", i + 1, count)
    print(table(("seed", "drift of 255", "goal", "seen: 1st third", "2nd", "3rd", "judge on rendered truth"), rows))
    print(f"\n{bench.seconds:g} s each. drift: of the mean colour's worst channel, first to last 5 s; seen: windows of 2 s in which the judge reads")
    ratio = peaks[bench.seconds] / peaks[8.0]
    verdict = f"{ratio:.2f} times that of 8 s, goal {MEMORY_GOAL:g} {'met' if ratio <= MEMORY_GOAL else 'missed'}"
    mebibytes = " and ".join(f"{peak / 2**20:.0f} MiB" for peak in peaks.values())
    print(f"all colours and their number right. Peak memory of a fresh process: {mebibytes}, {verdict}\n")


def show_passages(bench: Bench) -> None:
    """Passages, not cross-fades."""
    left: dict[str, list[float]] = {name: [] for name in ("connect", "blend", "cross-fade", "rendered motion")}
    equal = {"connect": 0, "blend": 0}
    with progress_bar() as report:
        for i in range(bench.clips):
            a, b = world(i), world(i + 1)
            for name in equal:
                take = bench.shoot(i, name, a.clip(), b.clip())
                made = next(span for piece, span in take.spans() if isinstance(piece, Made))
                end = b.frames[made.stop - len(take.frames) :]
                equal[name] += np.array_equal(take.frames[: made.start], a.frames[: made.start]) and np.array_equal(take.frames[made.stop :], end)
                quarter = (made.stop - made.start) // 4
                middle = slice(made.start + quarter, made.stop - quarter)
                ends = (a.frames[-1], b.frames[0]) if name == "connect" else (a.frames[middle], b.frames[middle])
                left[name] += mix_residual(take.frames[middle], *ends).tolist()
            left["cross-fade"] += mix_residual(cross_fade(a.frames[-1:], b.frames[:1], 24)[6:18], a.frames[-1], b.frames[0]).tolist()
            left["rendered motion"] += mix_residual(a.frames[8:25], a.frames[0], a.frames[-1]).tolist()
            report("passages", i + 1, bench.clips)
    rows = [(name, f"{equal[name]} of {bench.clips}" if name in equal else "", spread(values, 4)) for name, values in left.items()]
    print(table(("passage by", "ends equal their sources", "no mix of the two"), rows))
    print("\nno mix of the two: share of the middle frames' energy that no mix of the clips' frames explains, median (90th percentile);")
    print("rendered motion: the middle of a world clip against its own first and last frame\n")


def show_strengths(bench: Bench) -> None:
    """The strength of an edit."""
    strengths = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    found = np.zeros((bench.clips, len(strengths)))
    same = 0
    with progress_bar() as report:
        for i in range(bench.clips):
            a = world(i)
            wanted = caption(a.recolored, a.recolored.seed).dense
            for k, strength in enumerate(strengths):
                frames = bench.shoot(i, "edit", a.clip(), wanted, strength=strength).frames
                found[i, k] = np.abs(frames.astype(np.int16) - a.frames).mean()
                report("edits", i * len(strengths) + k + 1, bench.clips * len(strengths))
            same += np.array_equal(frames, bench.shoot(i, "text", wanted, num_frames=NUM_FRAMES).frames)
    rises = int((np.diff(found, axis=1) > 0).all(1).sum())
    print(table(("strength", *(f"{strength:g}" for strength in strengths)), [("distance of 255", *(spread(column) for column in found.T))]))
    print(f"\ndistance to the input, mean absolute, median (90th percentile): 0 at 0 in {int((found[:, 0] == 0).sum())} of {bench.clips} clips,")
    print(f"rises at every step in {rises} of {bench.clips}, and at 1 the result is text-to-video of the same seed in {same} of {bench.clips}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", type=int, nargs="+", choices=range(1, 6), default=[1, 2, 3, 4, 5], metavar="N")
    parser.add_argument("--model", type=Path, default=None, help="model folder; the packaged model if left out")
    parser.add_argument("--judge", type=Path, default=Path(str(files("diorama").joinpath("models/judge"))))
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--modes", default="", help=f"of show 1, by name or beginning: {','.join(SHOWN)}")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the long videos of show 3")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--alone", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        make_alone(json.loads(options.alone))
        return
    modes = [mode.strip() for mode in options.modes.split(",") if mode.strip()]
    if unknown := [mode for mode in modes if not any(name.startswith(mode) for name in SHOWN)]:
        parser.error(f"unknown mode '{unknown[0]}'; allowed: {', '.join(SHOWN)}")
    prepare_cpu(options.threads)
    pipe = Pipeline.load(options.model, options.device)
    alone = {"model": options.model and str(options.model), "device": options.device, "threads": options.threads}
    judge = Judge.load(options.judge)
    bench = Bench(pipe=pipe, judge=judge, clips=options.clips, steps=options.steps, modes=modes, seconds=options.seconds, alone=alone)
    print(machine())
    print(f"model {pipe.hash} on {pipe.models.device}, {options.clips} clips of {NUM_FRAMES} frames of 128x128, {options.steps} steps\n")
    shows = (show_modes, show_physics, show_long, show_passages, show_strengths)
    for number in options.show:
        print(f"({number}) {shows[number - 1].__doc__}\n", flush=True)
        shows[number - 1](bench)


if __name__ == "__main__":
    main()
