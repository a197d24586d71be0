"""Model folders in diffusers' layout: ``model_index.json`` and one folder per part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from diorama import __version__, checkpoint, runtime
from diorama.autoencoder.model import Autoencoder
from diorama.config import load_json, to_dict
from diorama.errors import CheckpointError, ConfigError
from diorama.flow import shift_for
from diorama.shapes import Stride
from diorama.text import Grammar
from diorama.text.encoder import CompactTextEncoder, load_text_encoder
from diorama.transformer.model import Transformer

__all__ = ["Models", "SchedulerConfig", "load_models", "model_folder", "save_models", "write_index"]

_GRAMMAR = Path("text_encoder", "grammar.json")
_DIFFUSERS = ("AutoencoderKLWan", "WanTransformer3DModel")


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """What sampling must know about training."""

    shift: float = 1.75
    """Time shift at ``shift_tokens`` tokens."""
    shift_tokens: int = 576
    """Tokens at which ``shift`` holds; it grows with their square root."""
    window: int | None = 9
    """Latent frames of the longest clips trained on; longer ones are made by a window that rolls on. None: any length at once."""
    context_noise: float = 0.0
    """Flow time, 0 to 1, at which a rolling window shows finished frames; a little steadies long videos."""

    def __post_init__(self) -> None:
        if not self.shift > 0 or self.shift_tokens < 1:
            raise ConfigError(f"scheduler shift {self.shift} at {self.shift_tokens} tokens cannot be used; both must be above 0")
        if (self.window is not None and self.window < 2) or not 0 <= self.context_noise <= 1:
            raise ConfigError(
                f"scheduler window {self.window} and context_noise {self.context_noise} cannot be used; allowed are 2 or more, and 0 to 1"
            )

    def shift_for(self, num_tokens: int) -> float:
        """Return the time shift for a clip of ``num_tokens``."""
        return shift_for(num_tokens, base=self.shift, base_tokens=self.shift_tokens)


@dataclass(frozen=True, kw_only=True)
class Models:
    """The parts of one model, on one device."""

    transformer: Transformer
    autoencoder: Autoencoder
    text_encoder: CompactTextEncoder
    scheduler: SchedulerConfig
    device: torch.device
    grammar: Grammar | None = None
    """Words of the captions it was trained on, for rewriting prompts; None if the folder has no ``grammar.json``."""

    @property
    def stride(self) -> Stride:
        """Frames and pixels of one token: sides must be multiples of it."""
        cell, patch = self.autoencoder.config.stride, self.transformer.config.patch_size
        return Stride(time=cell.time * patch[0], space=cell.space * patch[1])

    @cached_property
    def hash(self) -> str:
        """16 hex digits that identify all weights."""
        parts = {"transformer": self.transformer, "vae": self.autoencoder, "text_encoder": self.text_encoder}
        return checkpoint.tensors_hash({f"{part}.{name}": value for part, model in parts.items() for name, value in model.state_dict().items()})


def model_folder(source: str | Path | None) -> Path:
    """Return the folder of a model.

    Args:
        source: A folder; None for the packaged model.

    Raises:
        CheckpointError: there is no such folder, or it is no model.
    """
    folder = Path(str(resources.files("diorama"))) / "models" / "default" if source is None else Path(source)
    if (folder / "model_index.json").is_file():
        return folder
    if source is None:
        raise CheckpointError(f"the packaged model is missing at {folder}; install diorama again, or pass a model folder")
    if folder.exists():
        raise CheckpointError(f"{folder} holds no model_index.json, so it is no model folder; pass one made by training, save or export")
    if str(source).count("/") == 1 and not str(source).startswith((".", "/", "~")):
        raise CheckpointError(
            f"'{source}' is no folder here, and hub repositories cannot be loaded directly: download it with the extra "
            "(pip install 'diorama[hub]') and pass the folder"
        )
    raise CheckpointError(f"model folder {folder} does not exist; pass a folder that holds model_index.json")


def load_models(source: str | Path | None = None, device: str = "auto") -> Models:
    """Read a model folder.

    Args:
        source: As in ``model_folder``.
        device: As in ``runtime.choose_device``.

    Raises:
        CheckpointError: the folder or a part of it cannot be read.
        ConfigError: a config does not fit.
        InputError: the device is absent.
    """
    folder, where = model_folder(source), runtime.choose_device(device)
    _check_index(folder)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    return Models(
        transformer=Transformer.load(folder / "transformer").to(where).eval().requires_grad_(False),
        autoencoder=Autoencoder.load(folder / "vae").to(where).eval().requires_grad_(False),
        text_encoder=load_text_encoder(folder, device=where),
        scheduler=load_json(SchedulerConfig, scheduler) if scheduler.is_file() else SchedulerConfig(),
        device=where,
        grammar=Grammar.load(folder) if (folder / _GRAMMAR).is_file() else None,
    )


def _check_index(folder: Path) -> None:
    try:
        index: dict[str, Any] = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'model_index.json'} cannot be read ({error}); copy or download the folder again") from error
    missing = [part for part in ("transformer", "vae", "text_encoder", "tokenizer") if not (folder / part).is_dir()]
    if missing:
        raise CheckpointError(f"model folder {folder} lacks {', '.join(missing)}; copy or download the folder again")
    kind = index.get("text_encoder", [None, None])[-1]
    if kind != CompactTextEncoder.__name__:
        raise CheckpointError(f"{folder} has a text encoder of kind {kind}; this version reads {CompactTextEncoder.__name__} only")


def save_models(models: Models, folder: Path) -> None:
    """Write a model folder that ``load_models`` reads, each part whole or not at all.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
    """
    models.transformer.save(folder / "transformer")
    models.autoencoder.save(folder / "vae")
    models.text_encoder.save(folder)
    if models.grammar is not None:
        grammar = {"words": models.grammar.words, "paraphrases": models.grammar.paraphrases}
        checkpoint.write_text(folder / _GRAMMAR, json.dumps(grammar, indent=1) + "\n")
    write_index(folder, models.scheduler)


def write_index(folder: Path, scheduler: SchedulerConfig) -> None:
    """Write what binds the parts of a model folder together: the scheduler's config and ``model_index.json``.

    Args:
        folder: A model folder whose parts are written.
        scheduler: What sampling must know about training.

    Raises:
        CheckpointError: a part is missing, the disk is full or the place is not writable.
    """
    kind = "FlowMatchEulerDiscreteScheduler"
    checkpoint.write_text(folder / "scheduler" / "scheduler_config.json", json.dumps({"_class_name": kind, **to_dict(scheduler)}, indent=2) + "\n")
    index = {
        "_class_name": "Pipeline",
        "_diorama_version": __version__,
        "scheduler": ["diffusers", kind],
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
