"""Encoding of a training set into the latent cache, with the frozen parts of a model."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from diorama import data, runtime
from diorama.autoencoder.model import ENCODING, Autoencoder
from diorama.checkpoint import read_json, tensors_hash
from diorama.data import Encoders, LatentCache, ShardSet
from diorama.errors import CheckpointError
from diorama.text.encoder import CompactTextEncoder, load_text_encoder
from diorama.text.umt5 import OnDemandTextEncoder, load_umt5
from diorama.worlds.captions import mirror_caption

__all__ = ["CacheConfig", "FrozenEncoders", "load_encoders", "open_cache", "packaged_model", "write_cache"]

_SEEN = 2**16
"""Bytes at each end of a file that tell it from others of its size."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """What to encode, and with what."""

    shards: tuple[Path, ...]
    """Folders of shards."""
    encode: data.CacheConfig = field(default_factory=data.CacheConfig)
    """What is kept of each clip; training must ask for the same."""
    autoencoder: Path | None = None
    """Folder of the autoencoder; the packaged one if None."""
    text_encoder: Path | None = None
    """Folder that holds ``text_encoder/`` and ``tokenizer/``; the packaged model if None."""


@dataclass(frozen=True, kw_only=True)
class FrozenEncoders:
    """The parts of a model that are not trained with the transformer."""

    autoencoder: Autoencoder
    text: CompactTextEncoder | OnDemandTextEncoder
    device: torch.device
    autoencoder_folder: Path
    """Where the autoencoder was read from."""
    text_folder: Path
    """Where the text encoder was read from; it may hold more than the weights."""

    def export(self, folder: Path) -> None:
        """Copy the parts as they are into a model folder.

        Raises:
            CheckpointError: the disk is full or the place is not writable.
        """
        parts = {"vae": self.autoencoder_folder, **{part: self.text_folder / part for part in ("text_encoder", "tokenizer")}}
        parts |= {name: self.text_folder / name for name in ("captioner", "captioner_2") if (self.text_folder / name).is_dir()}
        try:
            for name, source in parts.items():
                shutil.copytree(source, folder / name, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise CheckpointError(f"{folder} cannot be written: {error}") from error

    def functions(self) -> Encoders:
        """Return them as the cache calls them."""

        def video(pixels: Tensor) -> Tensor:
            with runtime.autocast(self.device):
                return self.autoencoder.encode(pixels.to(self.device)).float()

        def text(prompts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
            encoded = self.text.encode(prompts)
            return encoded.states, encoded.mask, encoded.pooled

        # Latents stay what they are when only the decoder is trained further.
        encoding = {name: value for name, value in self.autoencoder.state_dict().items() if name.startswith(ENCODING)}
        video_weights = {**encoding, "mean": self.autoencoder.latents_mean, "std": self.autoencoder.latents_std}
        texts = tensors_hash(self.text.state_dict()) if isinstance(self.text, CompactTextEncoder) else _files_hash(self.text.folder)
        identity = f"{tensors_hash(video_weights)}-{texts}"
        return Encoders(video=video, text=text, mirror=mirror_caption, identity=identity)


def packaged_model() -> Path:
    """Return the folder of the packaged model."""
    return Path(str(resources.files("diorama"))) / "models" / "default"


def load_encoders(autoencoder: Path | None, text_encoder: Path | None, device: torch.device) -> FrozenEncoders:
    """Read the frozen parts.

    Args:
        autoencoder: Its folder; the packaged one if None.
        text_encoder: Folder that holds ``text_encoder/`` and ``tokenizer/``, with ours or with a UMT5 or T5, which is read when prompts come;
            the packaged model if None.
        device: Where to compute.

    Raises:
        CheckpointError: a folder is missing or damaged.
    """
    packaged = packaged_model()
    vae, texts = autoencoder or packaged / "vae", text_encoder or packaged
    return FrozenEncoders(
        autoencoder=Autoencoder.load(vae).to(device),
        text=_text_encoder(texts, device),
        device=device,
        autoencoder_folder=vae,
        text_folder=texts,
    )


def _text_encoder(folder: Path, device: torch.device) -> CompactTextEncoder | OnDemandTextEncoder:
    config = folder / "text_encoder" / "config.json"
    if not config.is_file() or "model_type" not in read_json(config):
        return load_text_encoder(folder, device=device)
    read_json(folder / "model_index.json")  # an export needs it, and hours later is too late to miss it
    return OnDemandTextEncoder(folder, functools.partial(load_umt5, folder, device=device), device)


def _files_hash(folder: Path) -> str:
    """Return 16 hex digits that identify a text encoder of many gigabytes by its files' names, sizes, first and last bytes."""
    digest = hashlib.sha256()
    for path in sorted(path for part in ("text_encoder", "tokenizer") for path in (folder / part).iterdir() if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SEEN))
            file.seek(max(0, size - _SEEN))
            digest.update(file.read(_SEEN))
    return digest.hexdigest()[:16]


def open_cache(
    shards: Sequence[Path],
    folder: Path,
    encoders: FrozenEncoders,
    config: data.CacheConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> LatentCache:
    """Return the complete cache of a training set, encoding what it lacks.

    Raises:
        DataError: the training set is empty or damaged, or the disk is full.
    """
    functions = encoders.functions()
    cache = LatentCache(folder, ShardSet(list(shards)), functions.identity, config)
    with encoders.text.kept() if isinstance(encoders.text, OnDemandTextEncoder) else contextlib.nullcontext():
        cache.build(functions, progress=progress)
    return cache


def write_cache(config: CacheConfig, folder: Path, device: torch.device, *, progress: Callable[[int, int], None] | None = None) -> str:
    """Encode a training set ahead of training and return one line that says where it is."""
    cache = open_cache(config.shards, folder, load_encoders(config.autoencoder, config.text_encoder, device), config.encode, progress=progress)
    return f"{len(cache)} clips encoded in {cache.folder}"
