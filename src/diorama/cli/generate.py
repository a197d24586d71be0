"""What every prompting mode does once its command line is read: load the model, generate, write, report.

The options that all modes share are here too; none is passed on unless it was typed, so that a mode given a clip can take size
and length from it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from diorama.errors import InputError
from diorama.shapes import parse_size

if TYPE_CHECKING:
    from diorama.media import Clip
    from diorama.pipeline import Models, Pipeline

__all__ = ["Input", "Memory", "Output", "Rewriting", "Sampling", "Shape", "Shared", "make", "numbered"]


def _shown(metavar: str | None, hint: str = "", aliases: tuple[str, ...] = ()) -> Any:
    """Return how help shows an option: the name of its value, and its default where it has one to tell."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {hint})" if hint else "", aliases=aliases)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Size and length of what is made."""

    size: Annotated[str | None, _shown("WIDTHxHEIGHT", "128x128, or the shape of the input")] = None
    """Pixels: multiples of 16, between 3:1 and 1:3."""
    seconds: Annotated[float | None, _shown("N", "33 frames, or what the input sets")] = None
    """Length; the clip has the nearest number of frames on the grid of 1 + 4 k."""
    fps: Annotated[float | None, _shown("N", "12")] = None
    """Frames per second that the model makes."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """How what is given comes to the model's size, and back."""

    fit: Annotated[Literal["crop", "pad", "stretch"] | None, _shown(None, "crop")] = None
    """How input comes to --size; without --size there is next to nothing to fit."""
    scale: Annotated[Literal["original", "model"] | None, _shown(None, "original")] = None
    """Whether the result has the size and rate of the input or those that the model worked at."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How it is made."""

    seed: Annotated[int | None, _shown("N", "drawn and printed")] = None
    """Same seed, same bytes."""
    variations: Annotated[int, _shown("N", "1")] = 1
    """Make this many, with seeds that count up from the first."""
    steps: Annotated[int | None, _shown("N", "24")] = None
    """Solver steps; more is slower and a little better."""
    guidance: Annotated[float | None, _shown("N", "4, or 1 beside given frames")] = None
    """How strongly the prompt steers; 1 is off and twice as fast."""
    guidance_2: Annotated[float | None, _shown("N", "as --guidance")] = None
    """The same for the second of two experts, as in Wan 2.2 A14B."""
    guidance_interval: Annotated[tuple[float, float] | None, _shown("A B", "0 1")] = None
    """Flow times between which guidance acts; 1 is noise, 0 is data."""
    negative: Annotated[str | None, _shown("TEXT")] = None
    """What to stay away from."""
    solver: Annotated[Literal["euler", "heun", "multistep", "unipc"] | None, _shown("WORD", "multistep")] = None
    """How the flow is integrated: euler, heun, multistep, or unipc, which is what Wan checkpoints are sampled with."""
    window: Annotated[int | None, _shown("N", "as trained")] = None
    """Latent frames, four frames each, that the model sees at once; a longer clip is made by a window that rolls on."""
    anchor: Annotated[int | None, _shown("N", "as the model prefers")] = None
    """Latent frames that such a window began with and goes on to show, so that a long clip does not drift; 0 is none."""
    cache_threshold: Annotated[float | None, _shown("N", "0, which is off")] = None
    """Leave out the blocks behind the first where its result has changed by less than this share since they were run; usual is 0.05 to 0.15."""
    still_first: Annotated[Literal["yes", "no"] | None, _shown(None, "as the model prefers")] = None
    """Make the first frame alone, then animate it, or all frames together; only where nothing is given of the clip."""
    candidates: Annotated[int | None, _shown("N", "as the model prefers")] = None
    """Draw this many first frames, or stills, and take the one that shows best what the prompt says; only where nothing is given of the clip."""
    takes: Annotated[int | None, _shown("N", "as the model prefers")] = None
    """Sketch this many times how the first frame goes on, and make the take that shows best what the prompt says; 1 is twice as fast."""
    model: Annotated[Path | None, _shown("FOLDER|NAME", "the packaged model")] = None
    """Model folder, hub repository, or a name of `diorama models list`."""
    device: Annotated[str, _shown("NAME", "auto")] = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """How the model is read: what is merged into it, and what makes it fit (see ``diorama models plan``)."""

    lora: Annotated[tuple[str, ...], _shown("FILE[:SCALE][:high|:low]"), tyro.conf.UseAppendAction] = ()
    """Merge a LoRA, at a strength of 1 or SCALE, with :high or :low into one of two experts, as in Wan 2.2 A14B; may be given several times."""
    dtype: Annotated[Literal["bf16", "float32"] | None, _shown(None, "by model and device")] = None
    """Number format of weights and products."""
    quantise: Annotated[Literal["int8", "fp8", "fp8-products"] | None, _shown(None, "none")] = None
    """Keep the weights of linear layers in 8 bits; fp8-products multiplies in 8 bits too, which cards since Ada and Hopper can do."""
    offload: Annotated[Literal["none", "model", "block"], _shown(None, "none")] = "none"
    """What waits in the host's memory until it is used: every part but one, or the weights of the blocks too."""
    tile: Annotated[int | None, _shown("PIXELS", "whole frames")] = None
    """Decode in tiles of this side."""
    compile: Annotated[Literal["none", "blocks", "graphs"], _shown(None, "none")] = "none"
    """Compile the transformer's blocks before the first step, which takes a minute or so; graphs replays them as CUDA graphs too."""


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """How the prompt is expanded."""

    rewrite: Annotated[bool, _shown(None)] = False
    """Expand a short prompt into a dense caption like those the model was trained on."""
    rewrite_url: Annotated[str | None, _shown("URL")] = None
    """OpenAI-compatible chat endpoint to expand with, its key in OPENAI_API_KEY; implies --rewrite."""
    rewrite_model: Annotated[str, _shown("NAME", "default")] = "default"
    """Model name for --rewrite-url."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is written."""

    output: Annotated[str | None, _shown("FILE", "diorama.mp4, or diorama.png for a still", ("-o",))] = None
    """Where to write; the ending chooses the format: mp4, webm, gif, webp, png, jpg, or NAME/ for a folder of pictures."""
    thumbnail: Annotated[bool, _shown(None)] = False
    """Also write the middle frame as a PNG."""
    contact_sheet: Annotated[bool, _shown(None)] = False
    """Also write a sheet of frames as a PNG."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The options that modes share."""

    shape: Shape
    """Size and length."""
    input: Input | None
    """None for a mode that takes no file."""
    sampling: Sampling
    """How it is made."""
    memory: Memory
    """How the model is read."""
    rewriting: Rewriting | None
    """None for a mode that takes no prompt."""
    output: Output
    """Where it goes."""

    def typed(self) -> dict[str, Any]:
        """Return what was typed as keywords of ``Pipeline.film``, the seed left out."""
        shape, sampling = self.shape, self.sampling
        values = {
            "size": None if shape.size is None else parse_size(shape.size),
            "seconds": shape.seconds,
            "fps": shape.fps,
            "steps": sampling.steps,
            "guidance_scale": sampling.guidance,
            "guidance_scale_2": sampling.guidance_2,
            "guidance_interval": sampling.guidance_interval,
            "solver": sampling.solver,
            "negative_prompt": sampling.negative,
            "window": sampling.window,
            "anchor": sampling.anchor,
            "cache_threshold": sampling.cache_threshold,
            "candidates": sampling.candidates,
            "takes": sampling.takes,
            "still_first": None if sampling.still_first is None else sampling.still_first == "yes",
            "fit": self.input and self.input.fit,
            "scale": self.input and self.input.scale,
        }
        return {name: value for name, value in values.items() if value is not None}


def make(mode: str, given: Mapping[str, Any], options: Shared) -> None:
    """Generate and write every variation of a mode, and say where, with which seed, how long it took and the peak memory.

    Args:
        mode: Name of a function in ``pipeline/modes.py``.
        given: Its arguments.
        options: What was typed beside them.

    Raises:
        InputError: a value is outside its range, or the result would be written over a file that is read.
        MediaError: a file cannot be read or written.
        TooLargeError: the request does not fit into the memory.
    """
    sampling, keywords, place = options.sampling, options.typed(), options.output.output
    if sampling.variations < 1:
        raise InputError(f"{sampling.variations} variations cannot be made; ask for at least 1")
    if place is not None:
        _check_place(place, options, given)
    from diorama.cli.progress import progress_bar
    from diorama.media import save_clip
    from diorama.pipeline import Pipeline
    from diorama.runtime import peak_memory, prepare_cpu

    prepare_cpu()
    pipeline = Pipeline(_load(options))
    seed = secrets.randbelow(2**31) if sampling.seed is None else sampling.seed
    asked, (mode, given) = mode, _rewritten(pipeline, mode, given, options, seed)
    if mode != asked:
        keywords.pop("seconds", None)
    notes: set[str] = set()
    for i in range(sampling.variations):
        film = pipeline.film(mode, **given, **keywords, seed=seed + i)
        if place is None:
            place = "diorama.png" if all(shot.request.num_frames == 1 for shot in film.shots) else "diorama.mp4"
            _check_place(place, options, given)
        began = time.perf_counter()
        with progress_bar() as progress:
            clip = pipeline.shoot(film, progress=progress, mode=mode)
        seconds = time.perf_counter() - began
        path = save_clip(clip, numbered(place, i, sampling.variations))
        for note in json.loads(clip.metadata["diorama"]).get("notes", []):
            if note not in notes:
                print(f"note: {note}", file=sys.stderr)
                notes.add(note)
        memory = peak_memory(pipeline.models.device) / 2**30
        print(f"{path}  seed {seed + i}  {clip.width}x{clip.height}, {clip.num_frames} frames  {seconds:.1f} s  peak memory {memory:.2f} GiB")
        _write_pictures(clip, path, options.output)


def _load(options: Shared) -> Models:
    """Read the model with what was typed, unless the request cannot fit."""
    from diorama.interop.lora import parse_lora
    from diorama.interop.settings import Settings
    from diorama.pipeline.fitted import check_typed, load_fitted

    memory, sampling = options.memory, options.sampling
    settings = Settings(dtype=memory.dtype, quantise=memory.quantise, offload=memory.offload, tile=memory.tile, compile=memory.compile)
    loras = [parse_lora(text) for text in memory.lora]
    if sampling.model is not None:
        check_typed(sampling.model, options.typed(), settings, sampling.device)
    return load_fitted(sampling.model, sampling.device, settings, loras)


def _check_place(place: str, options: Shared, given: Mapping[str, Any]) -> None:
    """Refuse a place that cannot be written, or where something that is read would be overwritten."""
    from diorama.media import check_output

    read, total = _words(list(given.values())), options.sampling.variations
    for path in (check_output(numbered(place, i, total)) for i in range(total)):
        for written in (path, *_pictures(path, options.output).values()):
            if any(_is_same(word, written) for word in read):
                raise InputError(f"{written} is read and would be overwritten by the result; give another place with -o")


def _words(value: Any) -> list[str]:
    """Return the strings in an argument of a mode: any of them can be the path of a file."""
    if isinstance(value, str):
        return [value]
    return [word for part in value for word in _words(part)] if isinstance(value, list | tuple) else []


def _is_same(word: str, path: Path) -> bool:
    try:
        return path.samefile(word)
    except (OSError, ValueError):
        return False


def _rewritten(pipeline: Pipeline, mode: str, given: Mapping[str, Any], shared: Shared, seed: int) -> tuple[str, Mapping[str, Any]]:
    """Return the mode and its arguments with the prompt expanded, if that was asked for.

    A prompt for a video that tells of several moments becomes a storyboard, a card for each.
    """
    options = shared.rewriting
    if options is None or not (options.rewrite or options.rewrite_url):
        return mode, given
    prompt = given["prompt"]
    if not prompt:
        raise InputError("--rewrite expands a prompt and none was given; type one or leave --rewrite out")
    if options.rewrite_url is not None:
        from diorama.text import rewrite_with_endpoint

        prompt = rewrite_with_endpoint(prompt, options.rewrite_url, options.rewrite_model, os.environ.get("OPENAI_API_KEY"))
    elif mode == "text":
        from diorama.pipeline import Storyboard

        board = Storyboard.from_prompt(prompt, shared.shape.seconds, expand=lambda part: pipeline.rewrite(part, seed))
        if len(board.cards) > 1:
            for card in board.cards:
                print(f"card at {card.at:.1f} s: {card.text}", file=sys.stderr)
            return "storyboard", {"board": board}
        prompt = board.cards[0].text
    else:
        prompt = pipeline.rewrite(prompt, seed)
    print(f"prompt: {prompt}", file=sys.stderr)
    return mode, {**given, "prompt": prompt}


def _pictures(path: Path, output: Output) -> dict[str, Path]:
    """Return where the pictures beside a video go."""
    wanted = {"thumbnail": output.thumbnail, "sheet": output.contact_sheet}
    return {name: path.with_name(f"{path.stem}-{name}.png") for name in wanted if wanted[name]}


def _write_pictures(clip: Clip, path: Path, output: Output) -> None:
    from diorama.media import contact_sheet, save_image, thumbnail

    for name, picture in _pictures(path, output).items():
        print(f"{name + ':':<10} {save_image(thumbnail(clip) if name == 'thumbnail' else contact_sheet(clip), picture)}")


def numbered(place: str, index: int, total: int) -> str:
    """Return ``place`` for a single result, or ``name-1.ext``, ``name-2.ext`` ... for several; a folder keeps its slash."""
    if total == 1:
        return place
    path = Path(place)
    return f"{path.with_name(f'{path.stem}-{index + 1}{path.suffix}')}{'/' if place.endswith('/') else ''}"
