"""``diorama models list|plan|export|import|average``: what there is, what it takes, how it comes in and out, and the mean of two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from diorama.cli.arguments import choose, parse
from diorama.errors import DioramaError, InputError
from diorama.shapes import parse_size

if TYPE_CHECKING:
    from diorama.interop.plan import Blueprint, Footprint, Work
    from diorama.interop.settings import Settings

__all__ = ["Average", "Export", "Import", "List", "Plan", "parse_bytes", "run"]

GIB = 2**30


def parse_bytes(text: str) -> int:
    """Parse ``8GB``, ``8GiB``, ``512MB``; as on a card's box, 1 GB is 2**30 bytes.

    Raises:
        InputError: the text is not a number above 0 and a unit.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([GM])(?:i?B)?\s*", text, re.IGNORECASE)
    size = 0 if match is None else int(float(match[1]) * (GIB if match[2].upper() == "G" else 2**20))
    if size < 1:
        raise InputError(f"memory '{text}' is not understood: write for example 8GB or 512MB")
    return size


@dataclass(frozen=True, kw_only=True)
class List:
    """List the packaged model, model folders here and the open models that are known by name."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = (Path("runs"), Path("models"))
    """Where to look for model folders, in themselves and two levels down."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say what a request takes in disk, host and device memory, and which settings fit; nothing is downloaded or loaded."""

    model: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")] = None
    """Model folder, or an open model's name or repository; the packaged model if left out."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None
    """Pixels; what the model was made for if left out."""
    seconds: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """Length; what the model was made for if left out."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """Frames per second."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Solver steps, for the operations in all."""
    guidance: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """1 is off and takes half."""
    cache_threshold: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """Above 0, what the blocks added is kept for the next step."""
    card: Annotated[str | None, tyro.conf.arg(metavar="8GB")] = None
    """Memory of the card; this machine's if left out, and a CPU where it has none. `cpu` plans for a CPU."""
    host: Annotated[str | None, tyro.conf.arg(metavar="32GB")] = None
    """Memory of the host; what is free here if left out."""
    dtype: Literal["bf16", "float32"] | None = None
    """Number format of weights and products."""
    quantise: Literal["int8", "fp8", "fp8-products"] | None = None
    """Weights of linear layers in 8 bits."""
    offload: Literal["none", "model", "block"] = "none"
    """What waits in the host's memory."""
    tile: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side of the tiles that are decoded."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model trained here as a folder that diffusers' own pipeline opens, or a LoRA in another naming."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Model folder, or a LoRA: a file or the export of ``train transformer --lora.rank``."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write; for a LoRA a file or a folder."""
    naming: Literal["diffusers", "kohya"] = "diffusers"
    """Of a LoRA: for diffusers and peft, or for ComfyUI and Kohya's scripts."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """Read a model of any kind (hub repository, diffusers folder, Wan's original files) and write it as a folder for here and diffusers."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """What to read."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write."""
    dtype: Literal["bf16", "float32"] = "bf16"
    """Number format of the weights."""


@dataclass(frozen=True, kw_only=True)
class Average:
    """Write the model half way between two trainings of one model; its error is often below that of either."""

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FIRST")]
    """Model folder."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SECOND")]
    """Model folder; all but the transformer is taken from here."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write."""
    share: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.5
    """How much of the second, from 0 to 1."""


def run(arguments: Sequence[str]) -> None:
    """Run one of the actions."""
    actions = {
        "list": ("the packaged model, model folders here, open models known by name", _list),
        "plan": ("what a request takes, and which settings fit a card, before anything is downloaded", _plan),
        "export": ("a model trained here for diffusers; a LoRA for ComfyUI", _export),
        "import": ("a hub repository or original checkpoint as a model folder", _import),
        "average": ("the mean of two trainings of one model", _average),
    }
    choose(actions, arguments, command="models")


def _list(arguments: Sequence[str]) -> None:
    options: List = parse(List, arguments, command="models list")
    from diorama.interop.catalogue import KNOWN
    from diorama.interop.plan import blueprint_of
    from diorama.pipeline import model_folder

    rows = [("(the default)", model_folder(None))]
    for root in options.folders:
        rows += [("", index.parent) for depth in ("", "*/", "*/*/") for index in sorted(root.glob(f"{depth}model_index.json"))]
    for name, folder in rows:
        print(f"{name or folder!s:<28} {_described(folder)}")
    print("\nopen models, downloaded when first used (diorama models plan NAME says what they take):")
    for name, known in KNOWN.items():
        blueprint = blueprint_of(known)
        print(f"{name:<28} {blueprint.num_transformer * known.experts / 1e9:5.1f} B  {sum(blueprint.disk.values()) / 1e9:6.1f} GB  {known.about}")


def _described(folder: Path) -> str:
    from diorama.interop.plan import read_blueprint

    try:
        found = read_blueprint(folder)
    except DioramaError as error:
        return f"cannot be read: {error}"
    return f"{found.num_transformer * found.experts / 1e6:8.1f} M  {sum(found.disk.values()) / 1e6:8.1f} MB"


def _plan(arguments: Sequence[str]) -> None:
    options: Plan = parse(Plan, arguments, command="models plan")
    from diorama.interop.plan import check_fits, fitting, footprint
    from diorama.interop.settings import Settings
    from diorama.pipeline.fitted import memories, request_of

    blueprint, work, steps = request_of(options.model, _typed(options))
    here, free = memories("auto") if options.card is None else (None if options.card == "cpu" else parse_bytes(options.card), memories("cpu")[1])
    host = free if options.host is None else parse_bytes(options.host)
    settings = Settings(dtype=options.dtype, quantise=options.quantise, offload=options.offload, tile=options.tile)
    print(_heading(blueprint, work, steps))
    plain = footprint(blueprint, work, settings, device="cpu" if here is None else "cuda")
    print(f"\n{'settings':<42} {'card':>10} {'host':>10}   stages: {', '.join(plain.stages)} (GiB)")
    found = fitting(blueprint, work, settings, card=here, host=host)
    shown = [(settings, plain), *((choice, taken) for choice, taken in found if choice != settings)]
    for choice, taken in shown[:6]:
        fits = any(choice == other for other, _ in found)
        print(_row(choice, taken, fits))
    budget = f"a card of {here / GIB:.1f} GiB and" if here is not None else "a CPU with"
    if found:
        print(f"\nfits {budget} {host / GIB:.1f} GiB of host memory with: {found[0][0].flags or 'no settings'}")
    check_fits(blueprint, work, settings if not found else found[0][0], card=here, host=host)


def _typed(options: Plan) -> dict[str, object]:
    values = {
        "size": None if options.size is None else parse_size(options.size),
        "seconds": options.seconds,
        "fps": options.fps,
        "steps": options.steps,
        "guidance_scale": options.guidance,
        "cache_threshold": options.cache_threshold,
    }
    return {name: value for name, value in values.items() if value is not None}


def _heading(blueprint: Blueprint, work: Work, steps: int) -> str:
    from diorama.interop.plan import num_flops

    parts = ", ".join(f"{part} {_amount(size, 'B')}" for part, size in blueprint.disk.items())
    operations = num_flops(blueprint, work)
    return (
        f"{blueprint.name}: {work.width}x{work.height}, {work.num_frames} frames, {steps} steps\n"
        f"disk {_amount(sum(blueprint.disk.values()), 'B')} ({parts})\n"
        f"denoising {_amount(operations * steps, 'FLOP')} in all, {_amount(operations, 'FLOP')} a step"
    )


def _amount(value: float, unit: str) -> str:
    """Return a number of bytes or operations with its prefix, such as ``57.15 GB``."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.2f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def _row(settings: Settings, taken: Footprint, fits: bool) -> str:
    card = f"{taken.card / GIB:6.2f} GiB" if taken.card else "-"
    stages = ", ".join(f"{size / GIB:.2f}" for size in taken.stages.values())
    return f"{settings.flags or '(none)':<42} {card:>10} {taken.host / GIB:6.2f} GiB   {stages}{'' if fits else '   does not fit'}"


def _export(arguments: Sequence[str]) -> None:
    options: Export = parse(Export, arguments, command="models export")
    from diorama.interop.export import export_diffusers
    from diorama.interop.lora import load_lora, save_lora

    if options.source.is_file() or not (options.source / "transformer").is_dir():
        print(save_lora(load_lora(options.source), options.out, naming=options.naming))
        return
    notes = export_diffusers(options.source, options.out)
    print(options.out)
    for note in notes:
        print(f"note: {note}")


def _import(arguments: Sequence[str]) -> None:
    options: Import = parse(Import, arguments, command="models import")
    from diorama.interop.settings import DTYPES
    from diorama.pipeline.load import load_models, save_models

    save_models(load_models(options.source, "cpu", DTYPES[options.dtype]), options.out)
    print(options.out)


def _average(arguments: Sequence[str]) -> None:
    options: Average = parse(Average, arguments, command="models average")
    from diorama.interop.average import average_folders

    average_folders(options.first, options.second, options.out, share=options.share)
    print(options.out)
