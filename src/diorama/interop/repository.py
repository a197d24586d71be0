"""Folders of the Wan repositories and others without ``model_index.json``: each weights file is asked what it is, and the parts are put together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.checkpoint import fill, open_files
from diorama.errors import CheckpointError, MissingExtraError
from diorama.interop.folder import Parts, check_parts, defaults_of, window_of
from diorama.interop.image_encoder import ClipImageEncoder
from diorama.interop.original import Kind, Recognised, recognise
from diorama.interop.scheduler import SchedulerConfig
from diorama.runtime import fast_dtype
from diorama.text import OnDemandTextEncoder, Umt5TextEncoder
from diorama.transformer.config import TransformerConfig
from diorama.transformer.model import Transformer

__all__ = ["load_text_encoder", "looks_original", "open_original"]

_ENDINGS = (".safetensors", ".pth", ".pt")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_HIGH, _LOW = re.compile("high", re.IGNORECASE), re.compile("low", re.IGNORECASE)


def looks_original(folder: Path) -> bool:
    """Return whether a folder holds weights files, in itself or in a folder of it."""
    return folder.is_dir() and next(_files(folder), None) is not None


def _files(folder: Path) -> Iterator[Path]:
    for pattern in ("*", "*/*"):
        yield from sorted(path for path in folder.glob(pattern) if path.suffix in _ENDINGS and path.is_file())


def open_original(folder: Path, device: torch.device, dtype: torch.dtype | None = None) -> Parts:
    """Read the parts of a Wan model from files of any name; arguments and errors as `folder.open_folder`."""
    found = _find(folder)
    wanted = dtype or fast_dtype(device)
    high, low = _experts(found["transformer"], folder)
    (vae,) = found["vae"]
    config = cast(TransformerConfig, high.config)
    transformer, second = (
        None if part is None else Transformer.build(cast(TransformerConfig, part.config), part.weights, wanted, mapped=True).to(device)
        for part in (high, low)
    )
    assert transformer is not None
    autoencoder = Autoencoder.build(cast(AutoencoderConfig, vae.config), vae.weights, wanted, mapped=True).to(device)
    pictures = config.in_channels > config.out_channels
    encoder = found["image_encoder"][0] if config.image_dim is not None and found["image_encoder"] else None
    scheduler = _scheduler(config, autoencoder.config, experts=second is not None)
    text = partial(load_text_encoder, folder, device, torch.float32 if dtype == torch.float32 else torch.bfloat16)
    parts = Parts(
        transformer=transformer,
        autoencoder=autoencoder,
        text_encoder=OnDemandTextEncoder(folder, text, device),
        scheduler=scheduler,
        transformer_2=second,
        boundary=None if second is None else 0.9 if pictures else 0.875,
        image_encoder=None if encoder is None else _image_encoder(encoder, device, dtype),
    )
    check_parts(parts, folder)
    return replace(parts, defaults=_defaults(parts))


def _find(folder: Path) -> dict[Kind, list[Recognised]]:
    sets: dict[tuple[Path, str], list[Path]] = {}
    for path in _files(folder):
        sets.setdefault((path.parent, _SHARD.sub("", path.stem)), []).append(path)
    found: dict[Kind, list[Recognised]] = {"transformer": [], "vae": [], "text_encoder": [], "image_encoder": []}
    for paths in sets.values():
        part = recognise(open_files(paths))
        if part is not None:
            found[part.kind].append(part)
    for kind, most in (("transformer", 2), ("vae", 1), ("text_encoder", 1)):
        if not 1 <= len(found[cast(Kind, kind)]) <= most:
            names = ", ".join(str(part.weights.source.relative_to(folder)) for part in found[cast(Kind, kind)]) or "none"
            raise CheckpointError(
                f"{folder} holds no model_index.json, and of its weights files {names} are a Wan {kind}; a model needs one transformer (or a high- "
                "and a low-noise one), one autoencoder and one UMT5 text encoder with its tokenizer in one folder"
            )
    return found


def _experts(parts: list[Recognised], folder: Path) -> tuple[Recognised, Recognised | None]:
    if len(parts) == 1:
        return parts[0], None
    names = [str(part.weights.source.relative_to(folder)) for part in parts]
    high = [part for part, name in zip(parts, names, strict=True) if _HIGH.search(name)]
    low = [part for part, name in zip(parts, names, strict=True) if _LOW.search(name)]
    if len(high) != 1 or len(low) != 1:
        raise CheckpointError(f"{folder} holds two transformers, {' and '.join(names)}; name one 'high_noise' and the other 'low_noise'")
    return high[0], low[0]


def _scheduler(transformer: TransformerConfig, autoencoder: AutoencoderConfig, *, experts: bool) -> SchedulerConfig:
    """Return the time shift that the repositories of Wan 2.1 and 2.2 sample with at their usual sizes."""
    pictures, small = transformer.in_channels > transformer.out_channels, transformer.hidden_size <= 2048
    shift = (5.0 if pictures else 12.0) if experts else 3.0 if pictures else 8.0 if small else 5.0
    return SchedulerConfig(shift=shift, shift_tokens=None, window=window_of(autoencoder), times="unipc")


def _defaults(parts: Parts) -> dict[str, Any]:
    return defaults_of(parts.transformer.config, parts.autoencoder.config, parts.scheduler, experts=parts.transformer_2 is not None)


def load_text_encoder(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16) -> Umt5TextEncoder:
    """Read the UMT5 encoder and the tokenizer of a folder of original files.

    Args:
        folder: Holds the weights of the encoder and, in a folder below, its tokenizer.
        device: Where to put the encoder.
        dtype: Number format of its weights.

    Raises:
        MissingExtraError: transformers is not installed.
        CheckpointError: there is no encoder or no tokenizer, or the weights do not fit.
    """
    try:
        from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel
    except ImportError as error:
        raise MissingExtraError("transformers", "hub", "a UMT5 or T5 text encoder") from error
    (part,) = _find(folder)["text_encoder"]
    with torch.device("meta"):
        model = UMT5EncoderModel(UMT5Config(**cast(dict[str, Any], part.config)))
    shared = part.weights.tensors["shared.weight"]
    weights = replace(part.weights, tensors={**part.weights.tensors, "encoder.embed_tokens.weight": shared})
    fill(model, weights, lambda _, __: dtype, mapped=True)
    model.encoder.embed_tokens.weight = model.shared.weight
    places = [path.parent for path in sorted(folder.rglob("tokenizer_config.json")) if (path.parent / "tokenizer.json").is_file()]
    places = [place for place in places if "xlm" not in place.name] or places  # the other is of the picture encoder's texts
    if not places:
        raise CheckpointError(f"{folder} holds no tokenizer.json for the text encoder; download the folder 'google/umt5-xxl' of the repository too")
    return Umt5TextEncoder(model.to(device).requires_grad_(False), AutoTokenizer.from_pretrained(places[0], local_files_only=True))


def _image_encoder(part: Recognised, device: torch.device, dtype: torch.dtype | None) -> ClipImageEncoder:
    try:
        from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel
    except ImportError as error:
        raise MissingExtraError("transformers", "hub", "the picture encoder of an image-to-video checkpoint") from error
    config = CLIPVisionConfig(**cast(dict[str, Any], part.config))
    with torch.device("meta"):
        model = CLIPVisionModel(config)
    tower = getattr(model, "vision_model", model)  # older versions wrap it
    fill(tower, part.weights, lambda _, stored: dtype or stored, mapped=True)
    embeddings = tower.embeddings
    embeddings.position_ids = torch.arange(embeddings.position_embedding.num_embeddings).expand(1, -1)
    processor = CLIPImageProcessor(size={"shortest_edge": config.image_size}, crop_size={"height": config.image_size, "width": config.image_size})
    return ClipImageEncoder(model.to(device).requires_grad_(False), processor)
