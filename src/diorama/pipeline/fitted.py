"""Models read so that they fit: LoRAs merged, weights rounded, parts placed; and requests checked before anything is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from diorama import runtime
from diorama.errors import InputError
from diorama.interop.catalogue import find_known, known_as
from diorama.interop.fit import check_settings, fit_models, fit_text_encoder
from diorama.interop.folder import defaults_of, window_of
from diorama.interop.lora import Expert, LoraFile, load_lora, merge_lora
from diorama.interop.plan import Blueprint, Footprint, Work, blueprint_of, check_fits, read_blueprint
from diorama.interop.scheduler import SchedulerConfig, read_scheduler
from diorama.interop.settings import Settings
from diorama.pipeline.load import Models, load_models, model_folder
from diorama.pipeline.request import Options, Request, make_request
from diorama.pipeline.tiles import tiles_of
from diorama.transformer.model import Transformer

__all__ = ["check_request", "check_typed", "load_fitted", "memories", "request_of", "typed_work"]


def load_fitted(source: str | Path | None, device: str, settings: Settings, loras: Sequence[LoraFile] = ()) -> Models:
    """Read a model and make it fit.

    Args:
        source: As for `load_models`.
        device: As for `load_models`.
        settings: Number formats, what waits on the host, what is compiled, tiles.
        loras: Merged in this order, each into every transformer unless it is for one of two.

    Raises:
        CheckpointError: the model or a LoRA cannot be read, or they do not belong together.
        InputError: the device is absent, or a setting does not fit it or the model.
    """
    if settings == Settings() and not loras:
        return load_models(source, device)
    where, dtype = runtime.choose_device(device), settings.torch_dtype
    check_settings(settings, where)
    if dtype is None and _is_large(source):
        dtype = runtime.fast_dtype(where)
    models = load_models(source, "cpu", dtype)
    next(tiles_of((1, 1), models.autoencoder.config, settings.tile))  # refused here rather than after minutes of sampling
    transformers = [models.transformer] if models.transformer_2 is None else [models.transformer, models.transformer_2]
    for lora in loras:
        _merge(transformers, lora)
    identity = models.hash
    fit_models(transformers, models.autoencoder, settings, where)
    text_encoder = fit_text_encoder(models.text_encoder, settings, where)
    fitted = dataclasses.replace(models, device=where, text_encoder=text_encoder, tile=settings.tile)
    if models.image_encoder is not None:
        models.image_encoder.model.to(where)
    # Rounded weights are others, but the model is the one that was read: clips record settings beside it.
    fitted.__dict__["hash"] = identity
    return fitted


def _merge(transformers: Sequence[Transformer], wanted: LoraFile) -> None:
    """Merge a LoRA into the transformers that it is for.

    Raises:
        CheckpointError: it cannot be read, or is of another model.
        InputError: it is for one of two experts, and the model has one transformer or the file nothing for that expert.
    """
    if len(transformers) == 1:
        if wanted.expert is not None:
            raise InputError(
                f"LoRA {wanted.path} is asked for as ':{wanted.expert}' and this model has one transformer; leave ':{wanted.expert}' out"
            )
        merge_lora(transformers[0], load_lora(wanted.path), wanted.scale)
        return
    for expert, transformer in zip(get_args(Expert), transformers, strict=True):
        if wanted.expert in (None, expert):
            lora = load_lora(wanted.path, expert)
            if wanted.expert and not lora.changes:
                raise InputError(f"LoRA {wanted.path} holds nothing for the transformer of {expert} noise; leave ':{expert}' out")
            merge_lora(transformer, lora, wanted.scale)


def _is_large(source: str | Path | None) -> bool:
    folder = model_folder(source)
    return not (folder / "text_encoder").is_dir() or not read_blueprint(folder).small


def memories(device: str) -> tuple[int | None, int]:
    """Return bytes of the card, None for a CPU, and free bytes of the host."""
    where = runtime.choose_device(device)
    card = int(torch.cuda.get_device_properties(where).total_memory) if where.type == "cuda" else None
    return card, runtime.available_memory(torch.device("cpu"))


def check_request(blueprint: Blueprint, work: Work, settings: Settings, device: str) -> Footprint:
    """Refuse a request that cannot fit, before the model is read.

    Args:
        blueprint: The model.
        work: The request.
        settings: How the model will be read.
        device: As for `load_models`.

    Raises:
        TooLargeError: it does not fit; the message names settings that would.
    """
    card, host = memories(device)
    return check_fits(blueprint, work, settings, card=card, host=host)


def typed_work(blueprint: Blueprint, typed: Mapping[str, Any], defaults: Mapping[str, Any]) -> Work:
    """Return what a request asks for.

    Args:
        blueprint: The model.
        typed: Keywords of ``Options``; those that decide over memory are read.
        defaults: Options that the model was made for.

    Raises:
        InputError: a value is off the model's grid.
    """
    stride, patch = blueprint.autoencoder.stride, blueprint.transformer.patch_size
    whole = dataclasses.replace(stride, time=stride.time * patch[0], space=stride.space * patch[1])
    request = make_request("", {name: value for name, value in typed.items() if name in Options.__annotations__}, whole, defaults)
    return Work(
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        guided=request.guided,
        window=request.window,
        cached=request.cache_threshold > 0,
    )


def check_typed(source: str | Path, typed: Mapping[str, Any], settings: Settings, device: str) -> None:
    """Refuse what was typed if it cannot fit, before anything is downloaded or read.

    Args:
        source: A model folder in diffusers' layout, or an open model's name or repository; of others too little is known.
        typed: Keywords of ``Options``.
        settings: How the model will be read.
        device: As for `load_models`.

    Raises:
        TooLargeError: it does not fit; the message names settings that would.
        InputError: a value is off the model's grid.
    """
    folder = Path(source)
    known = not folder.exists() and known_as(str(source)) is not None
    if known or all((folder / part).is_dir() for part in ("transformer", "vae", "text_encoder")):
        blueprint, work, _ = request_of(folder, typed)
        check_request(blueprint, work, settings, device)


def request_of(source: str | Path | None, typed: Mapping[str, Any]) -> tuple[Blueprint, Work, int]:
    """Return a model's blueprint, what is asked of it and how many steps it takes, from configs alone.

    Args:
        source: A model folder, or an open model's name or repository; None for the packaged model.
        typed: Keywords of ``Options``; the model's own defaults fill in.

    Raises:
        InputError: a value is off the model's grid, or there is no open model of that name.
        CheckpointError: the folder cannot be read.
    """
    known = None if source is None or Path(source).exists() else find_known(str(source))
    if known is not None:
        blueprint, scheduler = blueprint_of(known), SchedulerConfig(window=window_of(known.autoencoder))
    else:
        folder = Path(source) if source is not None and Path(source).exists() else model_folder(source)
        blueprint, place = read_blueprint(folder), folder / "scheduler" / "scheduler_config.json"
        trained = None if blueprint.small else window_of(blueprint.autoencoder)
        scheduler = read_scheduler(place, window=trained) if place.is_file() else SchedulerConfig()
    defaults = {} if blueprint.small else defaults_of(blueprint.transformer, blueprint.autoencoder, scheduler, experts=blueprint.experts > 1)
    work = typed_work(blueprint, typed, defaults)
    steps = int(typed.get("steps", defaults.get("steps", Request.steps)))
    return blueprint, dataclasses.replace(work, window=work.window or scheduler.window), steps
