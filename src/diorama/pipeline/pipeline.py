"""``Pipeline``: a loaded model and the ways to ask it for clips."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from diorama import __version__
from diorama.errors import InputError, nearest
from diorama.interop.lora import parse_lora
from diorama.interop.settings import Settings
from diorama.media import Clip
from diorama.pipeline import modes
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Film, Made, Shot, assemble
from diorama.pipeline.fitted import load_fitted
from diorama.pipeline.generate import Progress, generate
from diorama.pipeline.items import Item
from diorama.pipeline.load import Models, load_models, save_models
from diorama.pipeline.request import Options, Request
from diorama.pipeline.source import Canvas
from diorama.text import rewrite

if TYPE_CHECKING:
    import torch

__all__ = ["Pipeline"]


class Pipeline:
    """A video model, ready to use.

    Every mode of ``modes`` is a method: ``pipe.animate(...)``, ``pipe.extend(...)``, ``pipe.loop(...)`` and so on.

    Args:
        models: Its parts; ``Pipeline.load`` reads them from a folder.
    """

    def __init__(self, models: Models) -> None:
        self.models = models

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        *,
        settings: Settings | None = None,
        loras: Sequence[str] = (),
    ) -> Pipeline:
        """Read a model.

        Args:
            source: A model folder in diffusers' layout, a folder of Wan's original files, or a hub repository ``owner/name``; None for the
                packaged model.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
            dtype: Number format of the weights and of all that is computed; None chooses by the size of the model and the device.
            settings: What makes it fit a card or faster there: weights in 8 bits, what waits on the host, tiles, compiled blocks; and the
                number format, in the place of ``dtype``.
            loras: Files to merge, each as ``--lora`` takes it: ``FILE[:SCALE][:high|:low]``.

        Raises:
            CheckpointError: the folder or a part of it cannot be read.
            InputError: the device is absent or cannot follow the settings, or ``dtype`` is given beside them.
            MissingExtraError: a package is needed that is not installed.
        """
        if settings is None and not loras:
            return cls(load_models(source, device, dtype))
        if dtype is not None:
            raise InputError(f"dtype {dtype} is given beside settings or LoRAs; give it as Settings(dtype='bf16') or 'float32'")
        return cls(load_fitted(source, device, settings or Settings(), [parse_lora(text) for text in loras]))

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
        return self.run("text", prompt, progress=progress, **options)

    def image(self, prompt: str, *, progress: Progress | None = None, **options: Unpack[Options]) -> Clip:
        """Make a still: a clip of one frame. Arguments and errors as ``generate``."""
        return self.run("image", prompt, progress=progress, **options)

    def run(self, mode: str, *given: Any, progress: Progress | None = None, **keywords: Any) -> Clip:
        """Make a clip in any mode; ``pipe.extend(...)`` is ``pipe.run("extend", ...)``.

        Args:
            mode: Name of a function in ``modes``.
            *given: What the mode takes first: clips, pictures, prompts.
            progress: As in ``generate``.
            **keywords: What else the mode takes, ``Options``, and ``fit`` and ``scale`` of the ``Desk``.

        Returns:
            The clip; its metadata says how it was made.

        Raises:
            InputError: there is no such mode, or an argument is unknown, missing or outside its range.
            MediaError: what was given cannot be read.
            TooLargeError: the request does not fit into the memory.
        """
        film = self.film(mode, *given, **keywords)
        return self.shoot(film, progress=progress, mode=mode)

    def film(self, mode: str, *given: Any, **keywords: Any) -> Film:
        """Return what ``run`` would generate, without generating it. Arguments and errors as ``run``."""
        function = modes.MODES.get(mode)
        if function is None:
            raise InputError(f"unknown mode '{mode}'{nearest(mode, modes.MODES) or '; allowed: ' + ', '.join(modes.MODES)}")
        own = list(inspect.signature(function).parameters)[1:]
        taken = {name: keywords.pop(name) for name in own if name in keywords}
        how = {name: keywords.pop(name) for name in ("fit", "scale") if name in keywords}
        allowed = [*own, *Options.__annotations__, "fit", "scale"]
        for name in keywords:
            if name not in allowed:
                raise InputError(f"unknown option '{name}' of {mode}{nearest(name, allowed)}")
        try:
            bound = inspect.signature(function).bind(Desk(self.models, cast(Options, keywords), **how), *given, **taken)
        except TypeError as error:
            raise InputError(f"{mode} {error}; it takes {', '.join(own)}") from error
        return function(*bound.args, **bound.kwargs)

    def shoot(self, film: Film, *, progress: Progress | None = None, mode: str = "film") -> Clip:
        """Generate the shots of a film and put it together.

        Args:
            film: As a mode function returns it.
            progress: As in ``generate``.
            mode: Name for the metadata.

        Raises:
            InputError: a request is off the model's grid, or an item does not fit it.
            TooLargeError: a shot does not fit into the memory.
        """
        shots, notes = [], list(film.notes)
        for shot in film.shots:
            frames, remarks = generate(self.models, shot.request, shot.items, progress=progress)
            shots.append(frames)
            notes += [remark for remark in remarks if remark not in notes]
        clip = assemble(film, shots)
        record: dict[str, Any] = {"version": __version__, "model": self.hash, "mode": mode, **asdict(film.shots[0].request)}
        prompts = list(dict.fromkeys(shot.request.prompt for shot in film.shots))
        if len(prompts) > 1:
            record["prompts"] = prompts
        if notes:
            record["notes"] = notes
        return replace(clip, metadata={"diorama": json.dumps(record)})

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
        film = self.film("text", prompt, **options)
        (shot,) = film.shots
        for i in range(num_variations):
            one = replace(shot, request=replace(shot.request, seed=shot.request.seed + i))
            yield self.shoot(replace(film, shots=(one,)), progress=progress, mode="text")

    def make(self, request: Request, items: Sequence[Item], *, progress: Progress | None = None) -> Clip:
        """Make the clip of one request from conditioning items of your own.

        Args:
            request: What is asked for.
            items: What is known about the clip, see ``items``.
            progress: As in ``generate``.

        Raises:
            InputError: the request is off the model's grid, or an item does not fit it.
            TooLargeError: the request does not fit into the memory.
        """
        canvas = Canvas(width=request.width, height=request.height, fps=request.fps)
        film = Film(shots=(Shot(request=request, items=items),), pieces=(Made(),), canvas=canvas)
        return self.shoot(film, progress=progress)

    def __getattr__(self, name: str) -> Callable[..., Clip]:
        """Return the mode of this name as a method."""
        if name not in modes.MODES:
            raise AttributeError(f"a Pipeline has no '{name}'")
        method = partial(self.run, name)
        method.__doc__ = modes.MODES[name].__doc__
        return method

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *modes.MODES})
