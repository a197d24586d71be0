"""The geometry room measured: worlds with known cameras, real clips, what breaks them, and what a model generates.

    python benchmarks/geometry.py [--show 1 2 3 4] [--out runs/geometry] [--videos ../shared/data/video] [--seeds 2] [--frames 48] [--quick]
        [--sfm-seconds 3000]

(1) a rendered orbit against its true cameras, with wall time; (2) real clips, moving and static; (3) every negative control against every
positive on the headline score, and between them what coding leaves; (4) real, rendered, coded and generated videos side by side.
``--references`` writes the packaged rows. Everything measured stays in ``--out``; a run that was stopped goes on. ``--quick`` leaves out NeRF
and splats.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from diorama import Pipeline, __version__
from diorama.autoencoder import decode_evenly
from diorama.evaluation.geometry import GeometryReport, compare, still_world, world_source
from diorama.evaluation.report import machine, table
from diorama.geometry.controls import CONTROLS, bent, negatives
from diorama.geometry.frames import read_footage
from diorama.geometry.measure import MeasureConfig, Source, measure
from diorama.geometry.report import write_report
from diorama.media import Pixels, place, read_clip
from diorama.runtime import prepare_cpu

ORBITS = (5_000_084, 5_000_085, 5_000_183, 5_000_185)
REAL = {"karma": "gpmf-parser__karma.mp4", "frog": "learning-area__frog.mp4", "monster": "learning-area__monster.mp4"}
STATIC = {"dog": "sam2__01_dog.mp4", "stream": "interactive-examples__stream-of-water.mp4"}
PROMPTS = Path(__file__).with_name("geometry_prompts.txt")
WORLDS = (5_000_084, 5_000_183, 5_000_151, 5_000_073, 5_000_169)
"""Seeds of the worlds whose captions ``geometry_prompts.txt`` holds, line by line: still, on floors with corners to follow."""
PART, SIDE, NATIVE = 45, 256, 177
"""Frames of a real clip, and their shorter side, where it is compared with itself coded or broken: and frames that the autoencoder is given."""


class Bench:
    """Where things are, and what was measured already."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out, self.videos = options.out, options.videos
        steps = 0 if options.quick else options.steps
        self.config = MeasureConfig(
            num_frames=options.frames,
            nerf_steps=steps,
            splat_steps=steps,
            nerf_seconds=options.seconds,
            splat_seconds=options.seconds,
            sfm_seconds=options.sfm_seconds,
        )
        self.seeds, self.prompts = options.seeds, options.prompts

    @cache  # noqa: B019
    def pipe(self) -> Pipeline:
        return Pipeline.load()

    def row(self, name: str, make: Callable[[], Source], *, whole: bool = False) -> dict[str, Any]:
        """Measure a case, or take its row from where an earlier run left it; ``whole`` takes all frames that there are."""
        config = replace(self.config, num_frames=PART) if whole else self.config
        kept = self.out / f"frames-{config.num_frames}" / name / f"row-{config.nerf_steps}.json"
        if kept.exists():
            return dict(json.loads(kept.read_text(encoding="utf-8")))
        begun, cpu = time.monotonic(), os.times()
        source = make()
        report = write_report(measure(source, kept.parent, config), source, config, kept.parent, machine())
        row = dict(report["row"]) | {"seconds": report["seconds"], "sentence": report["verdict"]["sentence"]}
        after = os.times()
        row["wall"] = time.monotonic() - begun
        row["cpu"] = sum(after[:4]) - sum(cpu[:4])
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(row, indent=1), encoding="utf-8")
        print(
            f"{name:<34} {row['score']:.3f} {row['structure']:.3f} {row['sentence']} [{row['wall']:.0f} s wall, {row['cpu']:.0f} s CPU]", flush=True
        )
        return row

    def real(self, name: str) -> Source:
        path = self.videos / {**REAL, **STATIC}[name]
        return Source(name=path.name, path=path)

    @cache  # noqa: B019
    def part(self, name: str) -> Pixels:
        """Frames chosen from a real clip, at a size that the autoencoder takes."""
        frames = read_footage(self.videos / REAL[name], num_frames=PART).frames
        height, width = frames.shape[1:3]
        scale = SIDE / min(width, height)
        return place(frames, (16 * round(scale * width / 16), 16 * round(scale * height / 16)))[0]

    def native(self, name: str) -> Pixels:
        """A real clip's beginning with every frame, at the same size: what an autoencoder is made for."""
        height, width = self.part(name).shape[1:3]
        return read_clip(self.videos / REAL[name], max_frames=NATIVE, size=(width, height)).frames

    def coded(self, frames: Pixels) -> Pixels:
        """Frames through the packaged autoencoder and back."""
        from diorama.evaluation.geometry import coded
        from diorama.runtime import autocast

        models = self.pipe().models
        with autocast(models.device):
            return coded(frames, lambda video: models.autoencoder.encode(video.to(models.device)), partial(decode_evenly, models.autoencoder))

    def orbit(self, seed: int) -> Source:
        return world_source(still_world(seed), f"rendered orbit {seed}")


def positives(bench: Bench) -> Iterator[tuple[str, dict[str, Any]]]:
    """Clips that are known to show a rigid world: rendered, and real ones at their own size and as small as an autoencoder is given them."""
    for seed in ORBITS:
        yield f"rendered orbit {seed}", bench.row(f"orbit-{seed}", lambda seed=seed: bench.orbit(seed))
    yield "karma", bench.row("real-karma", lambda: bench.real("karma"), whole=True)
    for name in REAL:
        yield f"{name}, {SIDE} px", bench.row(f"part-{name}", lambda name=name: Source(name=name, frames=bench.part(name)), whole=True)


def round_trips(bench: Bench) -> Iterator[tuple[str, dict[str, Any]]]:
    """Clips through the packaged autoencoder: whether they still show a rigid world is what is asked of them."""
    for name in REAL:
        yield (
            f"{name}, coded",
            bench.row(f"coded-{name}", lambda name=name: Source(name=f"{name}, coded", frames=bench.coded(bench.native(name))), whole=True),
        )
    seed = ORBITS[0]
    frames = lambda: bench.coded(bench.orbit(seed).frames)  # noqa: E731
    yield f"orbit {seed}, coded", bench.row(f"coded-{seed}", lambda: Source(name=f"orbit {seed}, coded", frames=frames()))


def controls(bench: Bench, chosen: Sequence[str] = ("monster", f"orbit-{ORBITS[0]}")) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each control of a rendered orbit and of real clips, with other scenes cut in; and bending, which is none of the five."""
    clips: dict[str, tuple[Callable[[], Pixels], Callable[[], Pixels]]] = {
        "monster": (lambda: bench.part("monster"), lambda: bench.part("frog")),
        f"orbit-{ORBITS[0]}": (lambda: bench.orbit(ORBITS[0]).frames, lambda: bench.orbit(ORBITS[2]).frames),
    }
    for clip in chosen:
        frames, other = clips[clip]
        for control in CONTROLS:
            name = f"{control}-{clip}".replace(" ", "-")

            def broken(control: str = control, name: str = name, frames: Any = frames, other: Any = other) -> Source:
                return Source(name=name, frames=negatives(frames(), other())[control])

            yield f"{control} ({clip})", bench.row(name, broken, whole=clip in REAL)
        yield (
            f"bent ({clip})",
            bench.row(f"bent-{clip}", lambda clip=clip, frames=frames: Source(name=f"bent {clip}", frames=bent(frames())), whole=clip in REAL),
        )


def form(value: float | None, spec: str = ".2f") -> str:
    return "-" if value is None else format(value, spec)


HEAD = ("clip", "score", "structure", "verdict", "registered", "tracks", "reproj. px", "points", "tie", "keep", "NeRF dB", "splat dB", "gap", "map s")


def line(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        form(row["score"], ".3f"),
        form(row["structure"], ".3f"),
        row["cause"],
        f"{row['registered']}/{row['attempted']}",
        form(row.get("track_length"), ".1f"),
        form(row.get("reprojection_error")),
        form(row.get("points_per_frame"), ".0f"),
        form(row.get("tie")),
        form(row.get("keep_ratio")),
        form(row.get("nerf_psnr"), ".1f"),
        form(row.get("splat_psnr"), ".1f"),
        form(row.get("gap"), "+.1f"),
        form(row.get("map_seconds"), ".1f"),
    )


def show_orbits(bench: Bench) -> None:
    rows = [bench.row(f"orbit-{seed}", lambda seed=seed: bench.orbit(seed)) for seed in ORBITS[:2]]
    head = (*HEAD, "trajectory error / extent", "wall s")
    print(table(head, [(*line(row["name"], row), form(100 * row["trajectory_error"], ".2f") + " %", form(row["wall"], ".0f")) for row in rows]))


def show_real(bench: Bench) -> None:
    rows = [(name, bench.row(f"real-{name}", lambda name=name: bench.real(name), whole=True)) for name in (*REAL, *STATIC)]
    print(table(HEAD, [line(name, row) for name, row in rows]))
    print("\n".join(f"{name}: {row['sentence']}" for name, row in rows))


def show_controls(bench: Bench) -> None:
    good, coded, bad = list(positives(bench)), list(round_trips(bench)), list(controls(bench))
    five = [pair for pair in bad if not pair[0].startswith("bent")]
    signed = [(sign, *pair) for sign, pairs in (("+", good), ("o", coded), ("-", bad)) for pair in pairs]
    ranked = sorted(signed, key=lambda item: -item[2]["score"])
    print(table(("", *HEAD), [(sign, *line(name, row)) for sign, name, row in ranked]))
    worst, best = min(row["score"] for _, row in good), max(row["score"] for _, row in five)
    worst_structure, best_structure = min(row["structure"] for _, row in good), max(row["structure"] for _, row in five)
    print(f"lowest positive {worst:.3f}, highest of the five controls {best:.3f}: {'separated' if worst > best else 'NOT separated'}")
    print(f"without held-out views {worst_structure:.3f} and {best_structure:.3f}")


def show_study(bench: Bench) -> None:
    from diorama.evaluation.geometry import evaluate_geometry

    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    worlds = dict(zip(prompts, WORLDS, strict=True))
    prompts = prompts[: bench.prompts]
    twins = lambda prompt, _: twin(worlds[prompt])  # noqa: E731
    pipe = bench.pipe()
    reports: list[GeometryReport] = []
    for label, generate, seeds in (
        ("rendered", twins, 1),
        ("rendered, coded", lambda prompt, seed: bench.coded(twins(prompt, seed)), 1),
        (f"generated by {pipe.hash}", lambda prompt, seed: pipe.generate(prompt, seed=seed).frames, bench.seeds),
    ):
        folder = bench.out / f"study-{bench.config.num_frames}-{bench.config.nerf_steps}" / label.replace(" ", "-").replace(",", "")
        reports.append(evaluate_geometry(generate, prompts, folder, label=label, seeds=seeds, config=bench.config))
        print(reports[-1].text(), flush=True)
    print(compare(reports))


def twin(seed: int) -> Pixels:
    """The world that a prompt of the study describes, at the size and length that the default model makes."""
    from diorama.worlds.clip import make_clip

    return make_clip(seed, split="any", num_bodies=3).frames.numpy()


def write_references(bench: Bench) -> None:
    """Write the rows that every report shows beside its own."""
    orbit = bench.row(f"orbit-{ORBITS[0]}", lambda: bench.orbit(ORBITS[0]))
    real = bench.row("real-monster", lambda: bench.real("monster"))
    coded = bench.row("coded-monster", lambda: Source(name="monster, coded", frames=bench.coded(bench.native("monster"))), whole=True)
    bench.config = replace(bench.config, nerf_steps=0, splat_steps=0)
    bad = dict(controls(bench, ("monster",)))
    rows = [
        {**orbit, "name": "rendered world, known cameras", "kind": "positive"},
        {**real, "name": "real toy on a table", "kind": "positive"},
        {**coded, "name": "its first 177 frames, through the autoencoder", "kind": "positive"},
        *({**bad[f"{control} (monster)"], "name": f"{control}, of the real clip", "kind": "negative"} for control in CONTROLS),
    ]
    for row in rows:
        for key in ("regions", "sentence", "seconds", "wall", "cpu"):
            row.pop(key, None)
        row |= {key: round(value, 4) for key, value in row.items() if isinstance(value, float)}
    error = 100 * orbit["trajectory_error"]
    about = (
        f"Measured once with diorama {__version__} ({machine()}) by benchmarks/geometry.py --references. The rendered world's found cameras are "
        f"{error:.2f} % of its extent off the true ones. Errors in pixels of an 854 x 480 frame's area; "
        "broken clips without NeRF and splats."
    )
    path = Path(__file__).parents[1] / "src" / "diorama" / "geometry" / "references.json"
    path.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", type=int, nargs="*", default=[1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("runs/geometry"))
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/video"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=len(WORLDS), help="of the study")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--steps", type=int, default=2000, help="of NeRF and of splatting")
    parser.add_argument("--seconds", type=float, default=150.0, help="for each of them at most")
    parser.add_argument("--sfm-seconds", type=float, default=3000.0, help="for structure from motion at most: a loaded machine must not decide a row")
    parser.add_argument("--quick", action="store_true", help="leave NeRF and splats out")
    parser.add_argument("--references", action="store_true")
    options = parser.parse_args(arguments)
    prepare_cpu()
    print(machine())
    bench = Bench(options)
    for number, show in ((1, show_orbits), (2, show_real), (3, show_controls), (4, show_study)):
        if number in options.show:
            print(f"\n({number})")
            show(bench)
    if options.references:
        write_references(bench)


if __name__ == "__main__":
    main()
