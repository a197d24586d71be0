"""Model folders in diffusers' layout: ``model_index.json`` and one folder per part; and whatever else `interop` can open."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from diorama import __version__, checkpoint, runtime
from diorama.autoencoder.model import Autoencoder
from diorama.errors import CheckpointError
from diorama.interop.catalogue import find_known
from diorama.interop.folder import Parts, class_in, open_folder, read_index, save_parts
from diorama.interop.hub import fetch, is_hub_id
from diorama.interop.image_encoder import ClipImageEncoder
from diorama.interop.repository import looks_original, open_original
from diorama.interop.scheduler import SchedulerConfig, read_scheduler, scheduler_json
from diorama.shapes import Stride
from diorama.text import Grammar, TextEncoder
from diorama.text.captioner import Captioner
from diorama.text.encoder import CompactTextEncoder, load_text_encoder
from diorama.transformer.model import Transformer

__all__ = ["Models", "SchedulerConfig", "load_captioner", "load_models", "model_folder", "save_models", "write_index"]

_GRAMMAR = Path("text_encoder", "grammar.json")
_DIFFUSERS = ("AutoencoderKLWan", "WanTransformer3DModel")


@dataclass(frozen=True, kw_only=True)
class Models:
    """The parts of one model, on one device."""

    transformer: Transformer
    """The only one, or the one for high noise."""
    autoencoder: Autoencoder
    text_encoder: TextEncoder
    scheduler: SchedulerConfig
    device: torch.device
    grammar: Grammar | None = None
    """Words of the captions it was trained on, for rewriting prompts; None if the folder has no ``grammar.json``."""
    transformer_2: Transformer | None = None
    """For flow times below ``boundary``; None where one transformer does all."""
    boundary: float | None = None
    """Flow time, 0 to 1, at which the second transformer takes over."""
    captioner: Captioner | None = None
    """Says of which of several pictures a prompt is the better caption; None if the folder has no ``captioner/``."""
    captioner_2: Captioner | None = None
    """Says the same beside the first, of clips; None if the folder has no ``captioner_2/``."""
    image_encoder: ClipImageEncoder | None = None
    """Of pictures, for transformers that look at them so."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Options that the model was made for, where they are not those of ``Request``."""
    exact: bool = False
    """Whether everything is computed in float32; otherwise in bf16 where that is faster."""
    tile: int | None = None
    """Side in pixels of the tiles that are decoded one after another, to save memory; None decodes whole frames."""
    source: Path | None = None
    """The folder it was read from, if its text encoder and the like are still there alone."""

    @property
    def stride(self) -> Stride:
        """Frames and pixels of one token: sides must be multiples of it."""
        cell, patch = self.autoencoder.config.stride, self.transformer.config.patch_size
        return Stride(time=cell.time * patch[0], space=cell.space * patch[1])

    @property
    def animates(self) -> bool:
        """Whether the transformer takes a given picture as channels beside the noise, and never goes without one."""
        return self.transformer.config.in_channels > self.transformer.config.out_channels

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context that the model is evaluated in: weights in bf16 need bf16 inputs, however slow the device is at them."""
        return runtime.autocast(self.device, enabled=False if self.exact else self._is_half or None)

    @cached_property
    def _is_half(self) -> bool:
        return any(parameter.dtype == torch.bfloat16 for part in (self.transformer, self.autoencoder) for parameter in part.parameters())

    @cached_property
    def hash(self) -> str:
        """16 hex digits that identify all weights."""
        parts = {"transformer": self.transformer, "vae": self.autoencoder, "text_encoder": self.text_encoder, "transformer_2": self.transformer_2}
        parts |= {"captioner": self.captioner, "captioner_2": self.captioner_2}
        modules = {part: model for part, model in parts.items() if isinstance(model, nn.Module)}
        return checkpoint.tensors_hash({f"{part}.{name}": value for part, model in modules.items() for name, value in model.state_dict().items()})


def model_folder(source: str | Path | None) -> Path:
    """Return the folder of a model.

    Args:
        source: A folder, or a hub repository ``owner/name`` or an open model's name, which is downloaded; None for the packaged model.

    Raises:
        CheckpointError: there is no such folder or repository, or it is no model.
        InputError: it is nearly the name of an open model.
        MissingExtraError: a repository is asked for and huggingface_hub is not installed.
    """
    folder = Path(str(resources.files("diorama"))) / "models" / "default" if source is None else Path(source)
    if (folder / "model_index.json").is_file():
        return folder
    if source is None:
        raise CheckpointError(f"the packaged model is missing at {folder}; install diorama again, or pass a model folder")
    if folder.exists():
        if looks_original(folder):
            return folder
        raise CheckpointError(f"{folder} holds no model_index.json, so it is no model folder; pass one made by training, save or export")
    if is_hub_id(str(source)):
        return model_folder(fetch(str(source)))
    if (known := find_known(str(source))) is not None:
        return model_folder(fetch(known.repository))
    raise CheckpointError(
        f"model folder {folder} does not exist; pass a folder that holds model_index.json, or a name that 'diorama models list' shows"
    )


def load_models(source: str | Path | None = None, device: str = "auto", dtype: torch.dtype | None = None) -> Models:
    """Read a model folder.

    Args:
        source: As in ``model_folder``.
        device: As in ``runtime.choose_device``.
        dtype: Number format of the weights and of all that is computed; None keeps small models in float32 and large ones in bf16 and
            computes in bf16, where the device is fast at it.

    Raises:
        CheckpointError: the folder or a part of it cannot be read.
        ConfigError: a config does not fit.
        InputError: the device is absent.
        MissingExtraError: a package is needed that is not installed.
    """
    folder, where = model_folder(source), runtime.choose_device(device)
    if not (folder / "model_index.json").is_file():
        return _from_parts(open_original(folder, where, dtype), folder, where, dtype)
    index = read_index(folder)
    if class_in(index, "text_encoder") not in (None, CompactTextEncoder.__name__):
        return _from_parts(open_folder(folder, where, dtype), folder, where, dtype)
    _check_index(folder)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    return Models(
        transformer=Transformer.load(folder / "transformer", dtype or torch.float32).to(where).eval().requires_grad_(False),
        autoencoder=Autoencoder.load(folder / "vae", dtype or torch.float32).to(where).eval().requires_grad_(False),
        text_encoder=load_text_encoder(folder, device=where),
        scheduler=read_scheduler(scheduler) if scheduler.is_file() else SchedulerConfig(),
        device=where,
        grammar=Grammar.load(folder) if (folder / _GRAMMAR).is_file() else None,
        captioner=load_captioner(folder, "captioner", where),
        captioner_2=load_captioner(folder, "captioner_2", where),
        exact=dtype == torch.float32,
    )


def load_captioner(folder: Path, name: Literal["captioner", "captioner_2"], device: torch.device) -> Captioner | None:
    """Read one of the captioners in a folder, or None where it is not there.

    Raises:
        CheckpointError: it is damaged.
    """
    return Captioner.load(folder / name, device=device) if (folder / name).is_dir() else None


def _from_parts(parts: Parts, folder: Path, device: torch.device, dtype: torch.dtype | None) -> Models:
    return Models(
        transformer=parts.transformer,
        autoencoder=parts.autoencoder,
        text_encoder=parts.text_encoder,
        scheduler=parts.scheduler,
        device=device,
        transformer_2=parts.transformer_2,
        boundary=parts.boundary,
        image_encoder=parts.image_encoder,
        defaults=parts.defaults,
        exact=dtype == torch.float32,
        source=folder,
    )


def _check_index(folder: Path) -> None:
    missing = [part for part in ("transformer", "vae", "text_encoder", "tokenizer") if not (folder / part).is_dir()]
    if missing:
        raise CheckpointError(f"model folder {folder} lacks {', '.join(missing)}; copy or download the folder again")


def save_models(models: Models, folder: Path) -> None:
    """Write a model folder that ``load_models`` reads, each part whole or not at all.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
    """
    if not isinstance(models.text_encoder, CompactTextEncoder):
        assert models.source is not None, "a model with a foreign text encoder was read from a folder"
        save_parts(_parts(models), models.source, folder)
        return
    models.transformer.save(folder / "transformer")
    models.autoencoder.save(folder / "vae")
    models.text_encoder.save(folder)
    for name, captioner in (("captioner", models.captioner), ("captioner_2", models.captioner_2)):
        if captioner is not None:
            captioner.save(folder / name)
    if models.grammar is not None:
        grammar = {"words": models.grammar.words, "paraphrases": models.grammar.paraphrases}
        checkpoint.write_text(folder / _GRAMMAR, json.dumps(grammar, indent=1) + "\n")
    write_index(folder, models.scheduler)


def _parts(models: Models) -> Parts:
    return Parts(
        transformer=models.transformer,
        autoencoder=models.autoencoder,
        text_encoder=models.text_encoder,
        scheduler=models.scheduler,
        transformer_2=models.transformer_2,
        boundary=models.boundary,
        image_encoder=models.image_encoder,
    )


def write_index(folder: Path, scheduler: SchedulerConfig) -> None:
    """Write what binds the parts of a model folder together: the scheduler's config and ``model_index.json``.

    Args:
        folder: A model folder whose parts are written.
        scheduler: What sampling must know about training.

    Raises:
        CheckpointError: a part is missing, the disk is full or the place is not writable.
    """
    values = scheduler_json(scheduler)
    checkpoint.write_text(folder / "scheduler" / "scheduler_config.json", json.dumps(values, indent=2) + "\n")
    index = {
        "_class_name": "Pipeline",
        "_diorama_version": __version__,
        "scheduler": ["diffusers", values["_class_name"]],
        "text_encoder": _class_of(folder / "text_encoder"),
        "tokenizer": ["diorama", "PromptTokenizer"],
        "transformer": _class_of(folder / "transformer"),
        "vae": _class_of(folder / "vae"),
    }
    checkpoint.write_text(folder / "model_index.json", json.dumps(index, indent=2) + "\n")


def _class_of(part: Path) -> list[str]:
    try:
        name = str(json.loads((part / "config.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{part / 'config.json'} is missing or names no class; write the parts of a model before its index") from error
    return ["diffusers" if name in _DIFFUSERS else "diorama", name]
