"""``diorama generate "PROMPT"``: text in, video out."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from diorama.cli.arguments import parse
from diorama.errors import InputError

if TYPE_CHECKING:
    from diorama.media import Clip
    from diorama.pipeline import Options, Pipeline

__all__ = ["Generate", "Sampling", "make", "numbered", "run"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options that video and image generation share."""

    prompt: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROMPT")]
    """What to show."""
    size: str = "128x128"
    """Width x height in pixels: multiples of 16, between 3:1 and 1:3."""
    steps: int = 24
    """Solver steps; more is slower and a little better."""
    guidance: float = 4.0
    """How strongly the prompt steers; 1 is off and twice as fast."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Flow times between which guidance acts; 1 is noise, 0 is data."""
    solver: Literal["euler", "heun", "multistep"] = "multistep"
    """How the flow is integrated."""
    negative: str = ""
    """What to stay away from."""
    seed: int | None = None
    """Same seed, same bytes; drawn and printed when left out."""
    variations: int = 1
    """Make this many, with seeds that count up from the first."""
    rewrite: bool = False
    """Expand a short prompt into a dense caption like those the model was trained on."""
    rewrite_url: str | None = None
    """OpenAI-compatible chat endpoint to expand with, its key in OPENAI_API_KEY; implies --rewrite."""
    rewrite_model: str = "default"
    """Model name for --rewrite-url."""
    model: Path | None = None
    """Model folder; the packaged model if left out."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where to write; the ending chooses the format."""


@dataclass(frozen=True, kw_only=True)
class Generate(Sampling):
    """Make a video from a prompt."""

    seconds: float = 2.75
    """Length; the clip has the nearest number of frames on the grid of 1 + 4 k."""
    fps: float = 12.0
    """Frames per second."""
    thumbnail: bool = False
    """Also write the middle frame as a PNG."""
    contact_sheet: bool = False
    """Also write a sheet of frames as a PNG."""


def run(arguments: Sequence[str]) -> None:
    """Generate, write, and say where, with which seed, how long it took and the peak memory."""
    options: Generate = parse(Generate, arguments, command="generate")

    def generate(pipeline: Pipeline, prompt: str, sampling: Options, progress: Callable[[str, int, int], None]) -> Clip:
        timed: Options = {**sampling, "seconds": options.seconds, "fps": options.fps}
        return pipeline.generate(prompt, progress=progress, **timed)

    for clip, path in make(options, generate, Path("diorama.mp4")):
        from diorama.media import contact_sheet, save_image, thumbnail

        if options.thumbnail:
            print(f"thumbnail: {save_image(thumbnail(clip), path.with_name(path.stem + '-thumbnail.png'))}")
        if options.contact_sheet:
            print(f"sheet:     {save_image(contact_sheet(clip), path.with_name(path.stem + '-sheet.png'))}")


Make = Callable[["Pipeline", str, "Options", Callable[[str, int, int], None]], "Clip"]


def make(options: Sampling, generate: Make, default: Path) -> list[tuple[Clip, Path]]:
    """Load the model, generate and write every variation.

    Args:
        options: What was typed.
        generate: Calls the pipeline's method of this mode.
        default: Where to write when no output was given.

    Returns:
        Each clip and where it was written.
    """
    from diorama.cli.progress import progress_bar
    from diorama.media import check_output, save_clip
    from diorama.pipeline import Pipeline
    from diorama.runtime import peak_memory, prepare_cpu
    from diorama.shapes import parse_size

    if options.variations < 1:
        raise InputError(f"{options.variations} variations cannot be made; ask for at least 1")
    size, output = parse_size(options.size), options.output or default
    check_output(numbered(output, 0, options.variations))
    prepare_cpu()
    pipeline = Pipeline.load(options.model, options.device)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    prompt = _rewritten(pipeline, options, seed)
    written = []
    for i in range(options.variations):
        sampling: Options = {
            "size": size,
            "steps": options.steps,
            "guidance_scale": options.guidance,
            "guidance_interval": options.guidance_interval,
            "solver": options.solver,
            "negative_prompt": options.negative,
            "seed": seed + i,
        }
        began = time.perf_counter()
        with progress_bar() as progress:
            clip = generate(pipeline, prompt, sampling, progress)
        seconds = time.perf_counter() - began
        path = save_clip(clip, numbered(output, i, options.variations))
        written.append((clip, path))
        for note in json.loads(clip.metadata["diorama"]).get("notes", []):
            print(f"note: {note}", file=sys.stderr)
        memory = peak_memory(pipeline.models.device) / 2**30
        print(f"{path}  seed {seed + i}  {clip.width}x{clip.height}, {clip.num_frames} frames  {seconds:.1f} s  peak memory {memory:.2f} GiB")
    return written


def _rewritten(pipeline: Pipeline, options: Sampling, seed: int) -> str:
    if options.rewrite_url is not None:
        from diorama.text import rewrite_with_endpoint

        prompt = rewrite_with_endpoint(options.prompt, options.rewrite_url, options.rewrite_model, os.environ.get("OPENAI_API_KEY"))
    elif options.rewrite:
        prompt = pipeline.rewrite(options.prompt, seed)
    else:
        return options.prompt
    print(f"prompt: {prompt}", file=sys.stderr)
    return prompt


def numbered(path: Path, index: int, total: int) -> Path:
    """Return ``path`` for a single result, or ``name-1.ext``, ``name-2.ext`` ... for several."""
    return path if total == 1 else path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
