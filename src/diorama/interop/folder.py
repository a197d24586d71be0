"""Model folders as diffusers writes them: the parts of Wan 2.1 and 2.2, read from what their configs say, never in memory twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from diorama import checkpoint
from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.errors import CheckpointError, ConfigError
from diorama.interop.image_encoder import ClipImageEncoder, load_image_encoder
from diorama.interop.scheduler import SchedulerConfig, read_scheduler, scheduler_json
from diorama.runtime import fast_dtype
from diorama.text import OnDemandTextEncoder, TextEncoder, load_umt5
from diorama.transformer.config import TransformerConfig
from diorama.transformer.model import Transformer

__all__ = ["PARTS", "Parts", "check_parts", "class_in", "defaults_of", "open_folder", "read_index", "save_parts", "window_of"]

PARTS = ("transformer", "transformer_2", "vae", "text_encoder", "tokenizer", "scheduler", "image_encoder", "image_processor")
"""Folders that a model may have."""
_NEEDED = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of one model, on one device."""

    transformer: Transformer
    """The only one, or the one for high noise."""
    autoencoder: Autoencoder
    """Between pixels and latents."""
    text_encoder: TextEncoder
    """Of prompts."""
    scheduler: SchedulerConfig
    """What sampling must know."""
    transformer_2: Transformer | None = None
    """For flow times below ``boundary``; None where one transformer does all."""
    boundary: float | None = None
    """Flow time, 0 to 1, at which the second transformer takes over."""
    image_encoder: ClipImageEncoder | None = None
    """Of pictures; None where the transformer does not look at them so."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Options of a request that the checkpoint was made for, where they are not ours."""


def read_index(folder: Path) -> dict[str, Any]:
    """Read ``model_index.json``.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return checkpoint.read_json(folder / "model_index.json")


def class_in(index: Mapping[str, Any], part: str) -> str | None:
    """Return the class that an index names for a part; None if it has no such part."""
    entry = index.get(part)
    return entry[-1] if isinstance(entry, list) and entry else None


def open_folder(folder: Path, device: torch.device, dtype: torch.dtype | None = None) -> Parts:
    """Read the parts of a Wan model.

    Args:
        folder: Holds ``model_index.json`` and a folder for each part.
        device: Where the parts go; the text encoder is read when a prompt comes.
        dtype: Number format of the weights; None takes ``fast_dtype``. Weights that have it already are mapped from their files.

    Raises:
        CheckpointError: a part is missing, of a kind that is not known, or its weights do not fit.
        ConfigError: a config asks for what is not supported.
    """
    index = read_index(folder)
    names = [part for part in PARTS if class_in(index, part) is not None]
    missing = [part for part in {*_NEEDED, *names} if not (folder / part).is_dir()]
    if missing:
        raise CheckpointError(f"model folder {folder} lacks {', '.join(sorted(missing))}; copy or download the folder again")
    for part, kind in (("transformer", "WanTransformer3DModel"), ("vae", "AutoencoderKLWan")):
        if class_in(index, part) != kind:
            raise CheckpointError(
                f"{folder} has a {part} of kind {class_in(index, part)}; allowed is {kind}, that is Wan 2.1 or 2.2, and what is trained here"
            )
    wanted = dtype or fast_dtype(device)
    transformer = _transformer(folder / "transformer", device, wanted)
    autoencoder = Autoencoder.load(folder / "vae", wanted, mapped=True).to(device)
    second = _transformer(folder / "transformer_2", device, wanted) if "transformer_2" in names else None
    load = partial(load_umt5, folder, device=device, dtype=torch.float32 if dtype == torch.float32 else torch.bfloat16)
    parts = Parts(
        transformer=transformer,
        autoencoder=autoencoder,
        text_encoder=OnDemandTextEncoder(folder, load, device),
        scheduler=read_scheduler(folder / "scheduler" / "scheduler_config.json", window=window_of(autoencoder.config)),
        transformer_2=second,
        boundary=None if index.get("boundary_ratio") is None else float(index["boundary_ratio"]),
        image_encoder=load_image_encoder(folder, device=device, dtype=dtype) if "image_encoder" in names else None,
    )
    check_parts(parts, folder)
    return replace(parts, defaults=defaults_of(transformer.config, autoencoder.config, parts.scheduler, experts=second is not None))


def _transformer(folder: Path, device: torch.device, dtype: torch.dtype) -> Transformer:
    return Transformer.load(folder, dtype, mapped=True).to(device)


def window_of(config: AutoencoderConfig) -> int:
    """Return the latent frames of the clips that a Wan model was trained on: 81 frames with Wan 2.1's autoencoder, 121 with 2.2's."""
    return 31 if config.is_residual else 21


def defaults_of(transformer: TransformerConfig, autoencoder: AutoencoderConfig, scheduler: SchedulerConfig, *, experts: bool) -> dict[str, Any]:
    """Return the options of a request that a Wan checkpoint was made for. Source: the configs in the Wan 2.1 and 2.2 repositories.

    Args:
        transformer: Its config.
        autoencoder: Its config.
        scheduler: Its config.
        experts: Whether there are two transformers.
    """
    shape: dict[str, Any] = {"size": (832, 480), "num_frames": 81, "fps": 16.0}
    if autoencoder.is_residual:
        shape = {"size": (1280, 704), "num_frames": 121, "fps": 24.0}
    pictures = transformer.in_channels > transformer.out_channels
    guidance = 5.0 if not experts else 3.5 if pictures else 4.0
    late = {"guidance_scale_2": 3.0} if experts and not pictures else {}
    return {**shape, "steps": 40 if experts or pictures else 50, "guidance_scale": guidance, **late, "solver": scheduler.solver}


def check_parts(parts: Parts, folder: Path) -> None:
    """Check that the parts belong together.

    Raises:
        ConfigError: they do not.
    """
    config, latent, time = parts.transformer.config, parts.autoencoder.config.z_dim, parts.autoencoder.config.stride.time
    if config.out_channels != latent or config.in_channels not in (latent, 2 * latent + time):
        raise ConfigError(
            f"the transformer of {folder} has {config.in_channels} channels in and {config.out_channels} out, the autoencoder {latent}; allowed in "
            f"are {latent}, or {2 * latent + time} with a picture's latent and mask, so take both parts from one checkpoint"
        )
    if (parts.transformer_2 is None) != (parts.boundary is None):
        raise ConfigError(f"{folder} must have both transformer_2 and boundary_ratio, or neither; copy or download the folder again")
    if parts.transformer_2 is not None:
        other = parts.transformer_2.config
        if (other.in_channels, other.out_channels, other.patch_size) != (config.in_channels, config.out_channels, config.patch_size):
            raise ConfigError(f"the two transformers of {folder} take different latents; take both from one checkpoint")
    if config.image_dim is not None and parts.image_encoder is None:
        raise ConfigError(f"the transformer of {folder} looks at pictures through an image_encoder, which the folder lacks; download it too")


def save_parts(parts: Parts, source: Path, folder: Path) -> None:
    """Write a model folder that diffusers and `open_folder` read.

    Args:
        parts: What to write; encoders of texts and pictures are copied from where they were read.
        source: The folder that the parts were read from.
        folder: Where to write.

    Raises:
        CheckpointError: the source has lost its encoders, the disk is full or the place is not writable.
    """
    copied = ("text_encoder", "tokenizer", *(("image_encoder", "image_processor") if parts.image_encoder is not None else ()))
    absent = [part for part in copied if not (source / part).is_dir()]
    if absent:
        raise CheckpointError(f"{source} has no {', '.join(absent)} in transformers' format to copy; save the parts of a model in diffusers' format")
    parts.transformer.save(folder / "transformer")
    parts.autoencoder.save(folder / "vae")
    if parts.transformer_2 is not None:
        parts.transformer_2.save(folder / "transformer_2")
    values = scheduler_json(parts.scheduler)
    checkpoint.write_text(folder / "scheduler" / "scheduler_config.json", json.dumps(values, indent=2) + "\n")
    if folder.resolve() != source.resolve():
        try:
            for part in copied:
                shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise CheckpointError(f"{folder} cannot be written: {error}") from error
    checkpoint.write_text(folder / "model_index.json", json.dumps(_index(parts, str(values["_class_name"]), source), indent=2) + "\n")


def _index(parts: Parts, scheduler: str, source: Path) -> dict[str, Any]:
    """Return what goes into ``model_index.json``: the classes that diffusers' own pipelines ask for."""
    old = read_index(source)
    pictures = parts.transformer.config.in_channels > parts.transformer.config.out_channels
    index: dict[str, Any] = {
        "_class_name": "WanImageToVideoPipeline" if pictures else "WanPipeline",
        "boundary_ratio": parts.boundary,
        "expand_timesteps": bool(old.get("expand_timesteps", False)),
        "scheduler": ["diffusers", scheduler],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None] if parts.transformer_2 is None else ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    encoders = ("text_encoder", "tokenizer", *(("image_encoder", "image_processor") if pictures else ()))
    return index | {part: old.get(part, [None, None]) for part in encoders}
