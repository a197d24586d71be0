"""Folders of safetensors: written whole or not at all, read with every fault named.

A part of a model is a folder with ``config.json`` and either one ``<stem>.safetensors`` or shards of at most
``SHARD_BYTES`` with ``<stem>.safetensors.index.json``, the layout of Hugging Face folders.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diorama.errors import CheckpointError, nearest

__all__ = ["SHARD_BYTES", "load_file", "load_into", "load_tensors", "save_folder", "tensors_hash", "write_file", "write_text"]

SHARD_BYTES = 16 * 2**20


def save_folder(
    folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, stem: str = "model", metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and config to ``folder``, replacing it in one step.

    The new folder is complete on disk before the old one goes, so a crash or a full disk leaves the old one.

    Args:
        folder: Where to write; parents are made.
        tensors: Names to tensors; any device.
        config: What goes into ``config.json``.
        stem: File stem, ``diffusion_pytorch_model`` for diffusers' own parts.
        metadata: Strings kept in the safetensors header.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
    """
    folder = Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        _write_shards(fresh, tensors, stem, dict(metadata or {}))
        (fresh / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        fresh.chmod(0o755)
        for file in fresh.iterdir():
            file.chmod(0o644)  # safetensors writes files that only their owner can read
        old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise _cannot_write(folder, error) from error


def _write_shards(folder: Path, tensors: Mapping[str, Tensor], stem: str, metadata: dict[str, str]) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    room = SHARD_BYTES
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > room and shards[-1]:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = tensor.detach().to("cpu", copy=True).contiguous()
        room -= size
    if len(shards) == 1:
        save_file(shards[0], folder / f"{stem}.safetensors", metadata=metadata)
        return
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, start=1):
        name = f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / name, metadata=metadata)
        weight_map.update(dict.fromkeys(shard, name))
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _cannot_write(path: Path, error: Exception) -> CheckpointError:
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    why = "the disk is full; free some space and try again" if full else f"{error}"
    return CheckpointError(f"{path} cannot be written: {why}")


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
    """
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error


def write_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file whole or not at all, whatever its size.

    Args:
        path: Where; parents are made.
        tensors: Names to tensors; any device.
        metadata: Strings kept in the header.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
    """
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, fresh, metadata=dict(metadata or {}))
        fresh.chmod(0o644)
        fresh.replace(path)
    except (OSError, SafetensorError) as error:
        fresh.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error


def load_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor of one safetensors file, and the strings of its header.

    Raises:
        CheckpointError: the file is missing, truncated or not safetensors.
    """
    if not path.is_file():
        raise CheckpointError(f"weights file {path} is missing; check the path")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"weights file {path} cannot be read ({error}); it may be truncated: copy or download it again") from error


def load_tensors(folder: Path, *, stem: str = "model", device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Read every tensor of a folder.

    Raises:
        CheckpointError: a file is missing, truncated or not safetensors.
    """
    folder = Path(folder)
    index = folder / f"{stem}.safetensors.index.json"
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())) if index.exists() else [f"{stem}.safetensors"]
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index} is not a safetensors index; download or export the folder again") from error
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"weights file {path} is missing; the folder must hold {', '.join(names)}")
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                tensors.update((key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"weights file {path} cannot be read ({error}); it may be truncated: copy or download it again") from error
    return tensors


def load_into(module: nn.Module, folder: Path, *, stem: str = "model") -> None:
    """Load a folder's tensors into ``module``, in the module's own dtype.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape; the message names it.
    """
    tensors = load_tensors(folder, stem=stem)
    expected = module.state_dict()
    for name, value in expected.items():
        if name not in tensors:
            raise CheckpointError(f"{folder} lacks tensor '{name}' of shape {tuple(value.shape)}{nearest(name, tensors)}")
        if tensors[name].shape != value.shape:
            raise CheckpointError(f"{folder}: tensor '{name}' has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}")
    extra = next((name for name in tensors if name not in expected), None)
    if extra is not None:
        raise CheckpointError(f"{folder} holds an unknown tensor '{extra}'{nearest(extra, expected)}; the weights are of another model")
    module.load_state_dict(tensors)


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return 16 hex digits that identify names, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
