"""``diorama generate "PROMPT"``: text in, video out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from diorama.cli.arguments import parse

__all__ = ["Generate", "Sampling", "expand", "run"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options that video and image generation share."""

    prompt: tyro.conf.Positional[str]
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
    """Make this many, with seeds counting up from the first."""
    rewrite: bool = False
    """Expand a short prompt into a dense caption like those the model was trained on."""
    rewrite_url: str | None = None
    """Chat endpoint (OpenAI-compatible) to expand with instead of the built-in grammar; implies --rewrite."""
    rewrite_model: str = "default"
    """Model name for --rewrite-url; the key is read from OPENAI_API_KEY."""
    model: Path | None = None
    """Model folder; the packaged model if left out."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where to write; the ending chooses the format."""


@dataclass(frozen=True, kw_only=True)
class Generate(Sampling):
    """Make a video from a prompt."""

    seconds: float = 2.75
    """Length."""
    fps: float = 12.0
    """Frames per second."""
    thumbnail: bool = False
    """Also write the middle frame as a PNG."""
    contact_sheet: bool = False
    """Also write a sheet of frames as a PNG."""


def run(arguments: Sequence[str]) -> None:
    """Generate, write, and say where, with which seed, how long it took and the peak memory."""
    options: Generate = parse(Generate, arguments, command="generate")
    from diorama.media import contact_sheet, save_image, thumbnail

    def extras(clip: object, path: Path) -> None:
        if options.thumbnail:
            save_image(thumbnail(clip), path.with_suffix(".thumbnail.png"))
        if options.contact_sheet:
            save_image(contact_sheet(clip), path.with_suffix(".png"))

    make(options, {"seconds": options.seconds, "fps": options.fps}, Path("diorama.mp4"), extras)
