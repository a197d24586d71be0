"""Models trained here as folders that diffusers' own ``WanPipeline`` opens."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from diorama.autoencoder.config import AutoencoderConfig, config_from_json, config_to_json
from diorama.autoencoder.model import Autoencoder
from diorama.checkpoint import read_json, write_text
from diorama.errors import CheckpointError, InputError
from diorama.interop.scheduler import SchedulerConfig, read_scheduler
from diorama.transformer.config import TransformerConfig, read_config
from diorama.transformer.model import Transformer

__all__ = ["export_diffusers", "outside_wan"]

_TRANSFORMER = {"pooled_dim": None, "coordinates": "index", "place": False}
_AUTOENCODER = {"widths": None, "factorized_time": False, "mid_block": True, "pointwise": False}


def outside_wan(transformer: TransformerConfig, autoencoder: AutoencoderConfig) -> str | None:
    """Return the sentence that says which config field is outside the Wan graph; None if all is inside."""
    for part, config, wanted in (("transformer", transformer, _TRANSFORMER), ("vae", autoencoder, _AUTOENCODER)):
        for name, value in wanted.items():
            if getattr(config, name) != value:
                said = json.dumps(value)
                got = json.dumps(getattr(config, name))
                return f"{part}.{name} is {got} and must be {said} in the Wan graph; train with {name} = {said} to export"
    if config_to_json(autoencoder)["_class_name"] != "AutoencoderKLWan":
        return f"vae.patch_size is {autoencoder.patch_size} and must be one number or null in the Wan graph; train with such patches to export"
    return None


def export_diffusers(source: Path, folder: Path) -> list[str]:
    """Write a model folder for diffusers.

    Args:
        source: A model folder in our layout.
        folder: Where to write; not the source.

    Returns:
        What a user of the folder must know, a sentence each.

    Raises:
        InputError: a config field is outside the Wan graph; the message names it.
        CheckpointError: the source cannot be read, or the place is not writable.
    """
    source, folder = Path(source), Path(folder)
    if folder.resolve() == source.resolve():
        raise InputError(f"{folder} is the model itself; give another place to export to")
    transformer = read_config(source / "transformer")
    autoencoder = config_from_json(read_json(source / "vae" / "config.json"))
    reason = outside_wan(transformer, autoencoder)
    if reason is not None:
        raise InputError(f"{source} does not open in diffusers: {reason}")
    Transformer.load(source / "transformer", None).save(folder / "transformer")
    vae = Autoencoder.load(source / "vae", None)
    # diffusers multiplies by the statistics and does not ask whether there are any.
    zeros, ones = (0.0,) * autoencoder.z_dim, (1.0,) * autoencoder.z_dim
    mean, std = autoencoder.latents_mean or zeros, autoencoder.latents_std or ones
    vae.config = replace(autoencoder, latents_mean=mean, latents_std=std, even_joins=False)
    vae.save(folder / "vae")
    path = source / "scheduler" / "scheduler_config.json"
    scheduler = read_scheduler(path) if path.is_file() else SchedulerConfig()
    kind = "FlowMatchEulerDiscreteScheduler"
    written = {"_class_name": kind, "num_train_timesteps": 1000, "shift": scheduler.shift, "use_dynamic_shifting": False}
    write_text(folder / "scheduler" / "scheduler_config.json", json.dumps(written, indent=2) + "\n")
    notes = []
    if autoencoder.even_joins:
        notes.append("the steps between latent frames are evened when a clip is shown here, not in diffusers")
    if scheduler.shift_tokens is not None:
        notes.append(f"the time shift grows with the clip here; in diffusers it is fixed, {scheduler.shift:g} as at {scheduler.shift_tokens} tokens")
    text, tokenizer = _text(source, folder)
    if text[0] is None:
        notes.append("diffusers does not know the compact text encoder: open with text_encoder=None, tokenizer=None and pass states as prompt_embeds")
    index = {
        "_class_name": "WanPipeline",
        "boundary_ratio": None,
        "expand_timesteps": False,
        "scheduler": ["diffusers", kind],
        "text_encoder": text,
        "tokenizer": tokenizer,
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    write_text(folder / "model_index.json", json.dumps(index, indent=2) + "\n")
    return notes


def _text(source: Path, folder: Path) -> tuple[list[str | None], list[str | None]]:
    """Copy a text encoder that transformers knows, and return the classes of encoder and tokenizer."""
    kinds = {"umt5": "UMT5EncoderModel", "t5": "T5EncoderModel"}
    kind = kinds.get(str(read_json(source / "text_encoder" / "config.json").get("model_type")))
    if kind is None:
        return [None, None], [None, None]
    try:
        for part in ("text_encoder", "tokenizer"):
            shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise CheckpointError(f"{folder} cannot be written: {error}") from error
    return ["transformers", kind], ["transformers", "AutoTokenizer"]
