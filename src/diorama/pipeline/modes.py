"""The prompting modes: each a short function from a request to conditioning items."""

from __future__ import annotations

from diorama.errors import InputError
from diorama.pipeline.items import Guide, Item
from diorama.pipeline.request import Request

__all__ = ["image", "text"]


def text(request: Request) -> list[Item]:
    """Make a video from the prompt alone."""
    return [Guide(prompt=request.prompt)]


def image(request: Request) -> list[Item]:
    """Make a still from the prompt alone.

    Raises:
        InputError: the request is for more than one frame.
    """
    if request.num_frames != 1:
        raise InputError(f"a still has 1 frame, {request.num_frames} were asked for; leave out the length")
    return [Guide(prompt=request.prompt)]
