"""``Pipeline``: a loaded model and the ways to ask it for clips."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Unpack

from diorama import __version__
from diorama.errors import InputError
from diorama.media import Clip
from diorama.pipeline import modes
from diorama.pipeline.generate import Progress, generate
from diorama.pipeline.items import Item
from diorama.pipeline.load import Models, load_models, save_models
from diorama.pipeline.request import Options, Request, make_request
from diorama.text import rewrite

__all__ = ["Pipeline"]


class Pipeline:
    """A text-to-video model, ready to use.

    Args:
        models: Its parts; ``Pipeline.load`` reads them from a folder.
    """

    def __init__(self, models: Models) -> None:
        self.models = models

    @classmethod
    def load(cls, source: str | Path | None = None, device: str = "auto") -> Pipeline:
        """Read a model.

        Args:
            source: A model folder in diffusers' layout; None for the packaged model.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

        Raises:
            CheckpointError: the folder or a part of it cannot be read.
            InputError: the device is absent.
        """
        return cls(load_models(source, device))

    def save(self, folder: str | Path) -> None:
        """Write the model folder.

        Raises:
            CheckpointError: the disk is full or the place is not writable.
        """
        save_models(self.models, Path(folder))

    @property
    def hash(self) -> str:
        """16 hex digits that identify all weights."""
        return self.models.hash

    def rewrite(self, prompt: str, seed: int = 0) -> str:
        """Expand a short prompt into a dense caption like those the model was trained on.

        Args:
            prompt: What the user typed.
            seed: Chooses what is added; the same seed adds the same.

        Raises:
            InputError: the prompt is empty, or the model carries no grammar.
        """
        if self.models.grammar is None:
            raise InputError("this model carries no grammar to rewrite prompts with; write the prompt in full or use a chat endpoint")
        return rewrite(prompt, self.models.grammar, seed)

    def generate(self, prompt: str, *, progress: Progress | None = None, **options: Unpack[Options]) -> Clip:
        """Make a video.

        Args:
            prompt: What to show.
            progress: Called with a stage's name and its steps done and in all.
            **options: See ``Options``: size, seconds or num_frames, fps, seed, steps, guidance and more.

        Returns:
            The clip; its metadata says how it was made.

        Raises:
            InputError: an option is outside its range.
            TooLargeError: the request does not fit into the memory.
        """
        request = make_request(prompt, options, self.models.stride)
        return self.make(request, modes.text(request), progress=progress)

    def image(self, prompt: str, *, progress: Progress | None = None, **options: Unpack[Options]) -> Clip:
        """Make a still: a clip of one frame. Arguments and errors as ``generate``."""
        if "seconds" in options or options.get("num_frames", 1) != 1:
            raise InputError("a still has no length; leave out seconds and num_frames")
        request = make_request(prompt, {**options, "num_frames": 1}, self.models.stride)
        return self.make(request, modes.image(request), progress=progress)

    def variations(self, prompt: str, num_variations: int, *, progress: Progress | None = None, **options: Unpack[Options]) -> Iterator[Clip]:
        """Make several videos with seeds that count up from ``seed``, each as it would come alone.

        They are made one after another: in one batch their last bits would depend on each other.

        Args:
            prompt: What to show.
            num_variations: How many, at least 1.
            progress: As in ``generate``.
            **options: As in ``generate``.

        Yields:
            The clips, as they are done.

        Raises:
            InputError: an option is outside its range.
            TooLargeError: the request does not fit into the memory.
        """
        if num_variations < 1:
            raise InputError(f"{num_variations} variations cannot be made; ask for at least 1")
        request = make_request(prompt, options, self.models.stride)
        for i in range(num_variations):
            one = replace(request, seed=request.seed + i)
            yield self.make(one, modes.text(one), progress=progress)

    def make(self, request: Request, items: Sequence[Item], *, progress: Progress | None = None) -> Clip:
        """Make the clip of any mode.

        Args:
            request: What is asked for.
            items: What the mode knows about the clip, see ``items``.
            progress: As in ``generate``.

        Raises:
            InputError: the request is off the model's grid, or an item does not fit it.
            TooLargeError: the request does not fit into the memory.
        """
        frames, notes = generate(self.models, request, items, progress=progress)
        record = {"version": __version__, "model": self.hash, **asdict(request), **({"notes": notes} if notes else {})}
        return Clip(frames, request.fps, {"diorama": json.dumps(record)})
