"""``diorama inspect FILE``: what a video file is and how it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from diorama.cli.arguments import parse

__all__ = ["Inspect", "run"]


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show what a video or image file is and how it was made."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """Video or image file."""
    as_json: bool = False
    """Print JSON instead of lines."""


def run(arguments: Sequence[str]) -> None:
    """Print size, length, rate and the recorded prompt, seed, model and settings."""
    options: Inspect = parse(Inspect, arguments, command="inspect")
    import dataclasses

    from diorama.media import probe, read_metadata

    info = dataclasses.asdict(probe(options.file))
    made = json.loads(read_metadata(options.file).get("diorama", "{}"))
    if options.as_json:
        print(json.dumps({"file": info, "made": made}, indent=2, default=str))
        return
    for name, value in info.items():
        print(f"{name:<18} {value}")
    print("\nmade with Diorama:" if made else "\nnot made with Diorama: the file holds no record")
    for name, value in made.items():
        print(f"{name:<18} {value}")
