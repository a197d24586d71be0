"""The desk that a mode works at: it opens what was given, encodes it, and knows what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from diorama.errors import InputError
from diorama.media import Clip, Fit, Pixels, place
from diorama.pipeline.film import Film, Made, Piece, Shot
from diorama.pipeline.generate import encode, encode_held
from diorama.pipeline.items import Item
from diorama.pipeline.load import Models
from diorama.pipeline.request import Options, Request, make_request
from diorama.pipeline.source import Canvas, Media, Source, as_clip, grid_size, made_with, open_source
from diorama.shapes import MAX_ASPECT, Stride, num_frames_for

__all__ = ["Desk"]


class Desk:
    """What a mode function is handed.

    Args:
        models: The model.
        options: Size, rate, seed and the like, as in ``Pipeline.generate``; a mode that is given a clip takes size and length from it.
        fit: How input of another shape than the size comes to it; None keeps its shape as nearly as the grid allows.
        scale: ``original`` gives results in the size and rate of the first input, ``model`` in the model's own.
    """

    def __init__(self, models: Models, options: Options, *, fit: Fit | None = None, scale: str = "original") -> None:
        if scale not in ("original", "model"):
            raise InputError(f"scale '{scale}' is not known; allowed: original, model")
        self.models, self.fit, self.scale = models, fit, scale
        self.options: dict[str, Any] = dict(options)
        self.notes: list[str] = []

    @property
    def stride(self) -> Stride:
        """The model's grid."""
        return self.models.stride

    @property
    def fps(self) -> float:
        """The model's frames per second."""
        return float(self.options.get("fps", self.models.defaults.get("fps", Request.fps)))

    @property
    def area(self) -> int:
        """Square pixels of the model's usual picture."""
        width, height = self.models.defaults.get("size", (Request.width, Request.height))
        return int(width * height)

    def frames(self, seconds: float) -> int:
        """Return the latent frames, at least 1, that play for about ``seconds``.

        Raises:
            InputError: the time is not above 0, or too long.
        """
        return max(1, (num_frames_for(seconds, self.fps, self.stride) - 1) // self.stride.time)

    def open(self, media: Media, like: Source | None = None) -> Source:
        """Read what was given and bring it to the model's grid, with a note on how.

        Args:
            media: A clip or a path.
            like: Another input whose size this one is to take; None takes the size asked for, or the grid's nearest to the input's own.

        Raises:
            InputError: the size or rate asked for is outside its range, or a side of the input is below 2 pixels.
            MediaError: the file cannot be read, or the fit is unknown.
        """
        asked: dict[str, Any] = {name: self.options[name] for name in ("size", "fps") if name in self.options}
        make_request("", {**asked, "num_frames": 1}, self.stride, self.models.defaults)
        clip = as_clip(media)
        source = self._own(clip) if like is None else self._alike(clip, like)
        if clip.num_frames > 1 and abs(clip.fps - self.fps) > 1e-6:
            self.notes.append(f"input of {clip.fps:g} frames per second seen at {self.fps:g}")
        return source

    def _own(self, clip: Clip) -> Source:
        """Bring a clip to the size asked for, or to the grid's nearest to its own."""
        size: tuple[int, int]
        if "size" in self.options:
            size, fit = tuple(self.options["size"]), self.fit or "crop"
        else:
            size = grid_size(clip.width, clip.height, self.area, self.stride)
            # The grid has nearly every shape; what it lacks of this one is a few per cent, which are given back at the end.
            fit = self.fit or ("stretch" if 1 / MAX_ASPECT <= clip.width / clip.height <= MAX_ASPECT else "crop")
        source = open_source(clip, size, self.fps, fit)
        if (clip.width, clip.height) != size:
            self.notes.append(f"input {source.placement.describe()} for the model")
        return source

    def _alike(self, clip: Clip, like: Source) -> Source:
        """Bring a clip to what another input is given back as; from there on it is treated as that one."""
        canvas = like.canvas
        if (clip.width, clip.height) != (canvas.width, canvas.height):
            frames, placement = place(clip.frames, (canvas.width, canvas.height), self.fit or "crop")
            self.notes.append(f"input {placement.describe()} as the first one")
            clip = replace(clip, frames=frames)
        return open_source(clip, like.placement.target, self.fps, "pad" if like.placement.fit == "pad" else "stretch")

    def encode(self, frames: Pixels) -> Tensor:
        """Return the latent ``[C, 1 + k, h, w]`` of frames ``[1 + k * time, H, W, 3]`` of the model's size."""
        return encode(self.models, frames)

    def encode_held(self, frame: Pixels) -> Tensor:
        """Return the latent ``[C, 1, h, w]`` of a frame ``[1, H, W, 3]`` that stands still in mid-clip."""
        return encode_held(self.models, frame)

    def prompt(self, prompt: str, source: Source | None = None) -> str:
        """Return the prompt, or where it is empty the one that a source was generated with."""
        return prompt or ("" if source is None else made_with(source.clip))

    def request(self, prompt: str, num_latents: int | None = None, source: Source | None = None, **changed: Any) -> Request:
        """Return a request of the options.

        Args:
            prompt: What to show.
            num_latents: Latent frames; None takes the length of the options.
            source: Input that sets the size.
            **changed: Options that the mode sets itself.

        Raises:
            InputError: an option is outside its range.
        """
        options = {**self.options, **changed}
        if source is not None:
            options["size"] = source.placement.target
        if num_latents is not None:
            if "seconds" in options or "num_frames" in options:
                raise InputError("the length follows from what is made here; leave out seconds and num_frames")
            options["num_frames"] = 1 + (num_latents - 1) * self.stride.time
        return make_request(prompt, options, self.stride, self.models.defaults)

    def canvas(self, request: Request, source: Source | None = None) -> Canvas:
        """Return the size and rate of the result: the source's, or the request's without one or where the model's scale is asked for."""
        if source is None or self.scale == "model":
            return Canvas(width=request.width, height=request.height, fps=request.fps)
        return source.canvas

    def film(self, request: Request, items: Sequence[Item], pieces: Sequence[Piece] = (Made(),), *, source: Source | None = None) -> Film:
        """Return a film of one shot.

        Args:
            request: Of the shot.
            items: Of the shot.
            pieces: What is written.
            source: Input that sets size and rate of the result.
        """
        shot = Shot(request=request, items=tuple(items))
        return Film(shots=(shot,), pieces=tuple(pieces), canvas=self.canvas(request, source), notes=tuple(self.notes))
