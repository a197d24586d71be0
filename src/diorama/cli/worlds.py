"""``diorama worlds preview|render``: simulated worlds to look at, or to train on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from diorama.cli.arguments import choose, parse
from diorama.cli.progress import progress_bar

__all__ = ["Preview", "Render", "run"]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Write one world as an mp4 and a contact sheet, and print its captions."""

    seed: int = 0
    """Which world."""
    size: str = "256x256"
    """Width x height in pixels."""
    seconds: float = 2.75
    """Length."""
    bodies: int | None = None
    """Objects, 1 to 4; drawn if left out."""
    device: str = "auto"
    """Where to render."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("world.mp4")
    """Where to write; the sheet goes beside it."""


@dataclass(frozen=True, kw_only=True)
class Render:
    """Render worlds into shards; a run that was stopped goes on where it was."""

    count: int
    """Clips that the folder shall hold."""
    out: Path
    """Folder of the shards."""
    seed: int = 0
    """Number of the run, 0 to 999; runs share no scene."""
    split: Literal["train", "held_out", "any"] = "train"
    """train leaves held-out combinations of colour and shape out, held_out has one in every clip."""
    sizes: Literal["all", "small"] = "all"
    """all mixes areas of about 96 x 96 and 128 x 128 pixels in five aspect ratios each; small has the former only."""
    bodies: int | None = None
    """Objects of every world, 1 to 4; drawn for each if left out."""
    stills: bool = False
    """Render the first frame of each clip alone, three times as fast; captions still tell the whole clip."""
    workers: int | None = None
    """Processes; one per core if left out."""


def run(arguments: Sequence[str]) -> None:
    """Run ``preview`` or ``render``."""
    actions = {
        "preview": ("write one world as an mp4 and a contact sheet", _preview),
        "render": ("render many worlds into training shards", _render),
    }
    choose(actions, arguments, command="worlds")


def _preview(arguments: Sequence[str]) -> None:
    options: Preview = parse(Preview, arguments, command="worlds preview")
    from diorama.media import Clip, contact_sheet, save_clip, save_image
    from diorama.runtime import choose_device, prepare_cpu
    from diorama.shapes import Stride, num_frames_for, parse_size
    from diorama.worlds.clip import make_clip

    width, height = parse_size(options.size)
    fps = 12.0
    prepare_cpu(1)
    world = make_clip(
        options.seed,
        split="any",
        width=width,
        height=height,
        num_frames=num_frames_for(options.seconds, fps, Stride()),
        fps=fps,
        num_bodies=options.bodies,
        device=choose_device(options.device),
    )
    clip = Clip(frames=world.frames.cpu().numpy(), fps=fps)
    print(f"{save_clip(clip, options.output)}\n{save_image(contact_sheet(clip), options.output.with_name(options.output.stem + '-sheet.png'))}")
    print(f"dense: {world.captions.dense}\nshort: {world.captions.short}")


def _render(arguments: Sequence[str]) -> None:
    options: Render = parse(Render, arguments, command="worlds render")
    from diorama.data.worlds import MIXTURE, SMALL_MIXTURE, render_shards

    mixture = SMALL_MIXTURE if options.sizes == "small" else MIXTURE
    with progress_bar() as progress:
        report = render_shards(
            options.out,
            options.count,
            seed=options.seed,
            split=options.split,
            mixture=tuple(dataclasses.replace(share, still=options.stills, num_bodies=options.bodies) for share in mixture),
            workers=options.workers,
            progress=lambda done, total: progress("rendering", done, total),
        )
    print(
        f"{options.out}: {report.clips} clips rendered, {report.kept} kept, {report.clips_per_second:.1f} clips/s, "
        f"{report.frames_per_second:.0f} frames/s"
    )
