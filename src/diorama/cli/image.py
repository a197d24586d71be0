"""``diorama image "PROMPT"``: a still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diorama.cli.arguments import parse
from diorama.cli.generate import Sampling, make

if TYPE_CHECKING:
    from diorama.media import Clip
    from diorama.pipeline import Options, Pipeline

__all__ = ["Image", "run"]


@dataclass(frozen=True, kw_only=True)
class Image(Sampling):
    """Make a still image from a prompt."""


def run(arguments: Sequence[str]) -> None:
    """Generate a clip of one frame and write it as a picture."""
    options: Image = parse(Image, arguments, command="image")

    def generate(pipeline: Pipeline, prompt: str, sampling: Options, progress: Callable[[str, int, int], None]) -> Clip:
        return pipeline.image(prompt, progress=progress, **sampling)

    make(options, generate, Path("diorama.png"))
