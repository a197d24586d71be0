"""Folders of safetensors: written whole or not at all, read with every fault named.

A part of a model is a folder with ``config.json`` and either one ``<stem>.safetensors`` or shards with
``<stem>.safetensors.index.json``, the layout of Hugging Face folders. `Weights` are tensors that still lie on disk: their names and
shapes are known at once, and they are read one at a time or mapped into memory, so that a model is never in memory twice.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import mmap
import os
import pickle
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diorama.errors import CheckpointError, nearest

__all__ = [
    "SHARD_BYTES",
    "Stored",
    "Weights",
    "fill",
    "in_bytes",
    "load_file",
    "load_into",
    "load_tensors",
    "open_files",
    "open_weights",
    "read_json",
    "replacing",
    "save_folder",
    "tensors_hash",
    "write_file",
    "write_text",
]

SHARD_BYTES = 16 * 2**20
"""Size of a shard of a small model, so that it can live in a git repository."""
_LARGE, _LARGE_SHARD = 2**30, 4 * 2**30
"""Bytes from which a model is large, and the size of its shards."""
_SCALE = ":scale"
"""Behind the name of a tensor of bytes: the name of its scales."""
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


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
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    limit = _LARGE_SHARD if total > _LARGE else SHARD_BYTES
    shards: list[list[str]] = [[]]
    room = limit
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > room and shards[-1]:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= size
    weight_map: dict[str, str] = {}
    for i, names in enumerate(shards, start=1):
        file = f"{stem}.safetensors" if len(shards) == 1 else f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors"
        # A copy of one shard at a time, since two names may share their memory.
        save_file({name: tensors[name].detach().to("cpu", copy=True).contiguous() for name in names}, folder / file, metadata=metadata)
        weight_map.update(dict.fromkeys(names, file))
    if len(shards) == 1:
        return
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _cannot_write(path: Path, error: Exception) -> CheckpointError:
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    why = "the disk is full; free some space and try again" if full else f"{error}"
    return CheckpointError(f"{path} cannot be written: {why}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, and move what was written there into its place at the end; after an error nothing is left.

    Args:
        path: Where the file is to be; parents are made.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
    """
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        fresh.replace(path)
    except (OSError, SafetensorError) as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
    """
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file whole or not at all, whatever its size.

    Args:
        path: Where; parents are made.
        tensors: Names to tensors; any device.
        metadata: Strings kept in the header.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
    """
    with replacing(path) as fresh:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, fresh, metadata=dict(metadata or {}))
        fresh.chmod(0o644)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        CheckpointError: the file is missing, damaged or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy, download or export the folder again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one JSON object; copy, download or export the folder again")
    return values


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
    return {name: stored.read().to(device) for name, stored in open_weights(folder, stem=stem).tensors.items()}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A tensor on disk."""

    shape: tuple[int, ...]
    """Its shape."""
    dtype: torch.dtype
    """Its number format."""
    load: Callable[[bool], Tensor]
    """Returns it: mapped into memory if told so, else in memory of its own."""

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Tensor:
        """Return the tensor in memory of its own."""
        return self.load(False)

    def map(self) -> Tensor:
        """Return the tensor mapped from its file: a page is read when it is used, and the system may drop it again."""
        return self.load(True)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors that still lie on disk."""

    source: Path
    """Where they come from, for messages."""
    tensors: Mapping[str, Stored]
    """By name."""

    @property
    def num_bytes(self) -> int:
        """Size of all."""
        return sum(stored.num_bytes for stored in self.tensors.values())

    def renamed(self, rename: Callable[[str], str | None]) -> Weights:
        """Return the weights under other names; those renamed to None are left out."""
        named = ((rename(name), stored) for name, stored in self.tensors.items())
        return Weights(source=self.source, tensors={name: stored for name, stored in named if name is not None})


def open_weights(folder: Path, *, stem: str = "model") -> Weights:
    """Open the safetensors files of a folder.

    Raises:
        CheckpointError: a file is missing, truncated or not safetensors.
    """
    folder = Path(folder)
    index = folder / f"{stem}.safetensors.index.json"
    try:
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.exists() else {}
        names = sorted(set(placed.values())) or [f"{stem}.safetensors"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is not a safetensors index; download or export the folder again") from error
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"weights file {folder / name} is missing; the folder must hold {', '.join(names)}")
    weights = open_files([folder / name for name in names], source=folder)
    absent = next((name for name in placed if name not in weights.tensors), None)
    if absent is not None:
        raise CheckpointError(f"{folder / placed[absent]} lacks tensor '{absent}', which the index places there; download or export the folder again")
    return weights


def open_files(paths: Iterable[Path], *, source: Path | None = None) -> Weights:
    """Open weights files: safetensors by their headers, others (``.pth``, ``.pt``, ``.bin``) as torch saved them, tensors only.

    Args:
        paths: The files; together they are one set of weights.
        source: What messages call them; the first file if None.

    Raises:
        CheckpointError: a file is missing, truncated or of another kind.
    """
    files = [Path(path) for path in paths]
    tensors: dict[str, Stored] = {}
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"weights file {path} is missing; check the path")
        tensors.update(_open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path))
    return Weights(source=source or files[0], tensors=tensors)


def _open_safetensors(path: Path) -> dict[str, Stored]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError(f"its header of {length} bytes does not fit into {size}")
            header = json.loads(file.read(length))
        found = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            shape, dtype = tuple(entry["shape"]), _DTYPES[entry["dtype"]]
            if end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"tensor '{name}' of shape {shape} in {entry['dtype']} has {end - begin} bytes")
            found[name] = Stored(shape=shape, dtype=dtype, load=_reader(path, begin, end, shape, dtype))
            if end > size:
                raise CheckpointError(
                    f"weights file {path} is truncated: tensor '{name}' of shape {shape} ends at byte {end} and the file has {size}; copy or "
                    "download it again"
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"weights file {path} cannot be read ({error}); it may be truncated: copy or download it again") from error
    return found


def _reader(path: Path, begin: int, end: int, shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[bool], Tensor]:
    def load(mapped: bool) -> Tensor:
        if begin == end:
            return torch.empty(shape, dtype=dtype)
        try:
            with path.open("rb") as file:
                if mapped and begin % dtype.itemsize == 0:
                    # Private: what is written to it stays in memory. The map lives as long as the tensor.
                    start = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
                    area = mmap.mmap(file.fileno(), end - start, access=mmap.ACCESS_COPY, offset=start)
                    return torch.frombuffer(area, dtype=dtype, count=math.prod(shape), offset=begin - start).reshape(shape)
                data = torch.empty(shape, dtype=dtype)
                file.seek(begin)
                done = file.readinto(data.reshape(-1).view(torch.uint8).numpy().data)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"weights file {path} cannot be read ({error}); copy or download it again") from error
        if done != end - begin:
            raise CheckpointError(f"weights file {path} is truncated: {done} of {end - begin} bytes of a tensor are there; copy or download it again")
        return data

    return load


def _open_pickle(path: Path) -> dict[str, Stored]:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"weights file {path} cannot be read ({' '.join(str(error).split())[:120]}); allowed are safetensors files and torch files that hold "
            "nothing but tensors, whole: copy or download it again"
        ) from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise CheckpointError(f"weights file {path} holds more than named tensors; give the file of the weights alone")
    return {str(name): _stored(value) for name, value in values.items()}


def _stored(value: Tensor) -> Stored:
    return Stored(shape=tuple(value.shape), dtype=value.dtype, load=lambda mapped: value if mapped else value.clone())


def load_into(module: nn.Module, folder: Path, *, stem: str = "model") -> None:
    """Load a folder's tensors into ``module``, in the module's own dtype; those that `in_bytes` wrote are scaled again.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape; the message names it.
    """
    weights = open_weights(folder, stem=stem)
    tensors = {name: stored for name, stored in weights.tensors.items() if not name.endswith(_SCALE)}
    scaled = {name: _scaled(stored, weights.tensors[name + _SCALE]) for name, stored in tensors.items() if name + _SCALE in weights.tensors}
    fill(module, Weights(source=weights.source, tensors=tensors | scaled))


def in_bytes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return matrices as int8 beside a float16 scale for each row, and the rest as float16: small, and right to within half a scale."""
    stored: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.ndim < 2:
            stored[name] = value.half()
            continue
        rows = value.float().flatten(1)
        scale = (rows.abs().amax(1) / 127).clamp_min(1e-7).half()
        stored[name] = (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).view(value.shape)
        stored[name + _SCALE] = scale
    return stored


def _scaled(stored: Stored, scale: Stored) -> Stored:
    def load(_: bool) -> Tensor:
        return stored.read().float() * scale.read().float().view(-1, *[1] * (len(stored.shape) - 1))

    return Stored(shape=stored.shape, dtype=torch.float32, load=load)


def fill(module: nn.Module, weights: Weights, dtype_of: Callable[[str, torch.dtype], torch.dtype] | None = None, *, mapped: bool = False) -> None:
    """Load weights into a module, tensor by tensor, so that they are never in memory twice.

    Args:
        module: May be on the meta device: its parameters then become the tensors read.
        weights: What to load; nothing is loaded unless all fits.
        dtype_of: Number format of a parameter, from its name and the format on disk; None keeps the module's.
        mapped: Whether tensors that need no other format are mapped from their file.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape; the message names it.
    """
    expected, source, tensors = module.state_dict(), weights.source, weights.tensors
    for name, value in expected.items():
        if name not in tensors:
            raise CheckpointError(f"{source} lacks tensor '{name}' of shape {tuple(value.shape)}{nearest(name, tensors)}")
        if tensors[name].shape != tuple(value.shape):
            raise CheckpointError(f"{source}: tensor '{name}' has shape {tensors[name].shape}, expected {tuple(value.shape)}")
    extra = next((name for name in tensors if name not in expected), None)
    if extra is not None:
        raise CheckpointError(f"{source} holds an unknown tensor '{extra}'{nearest(extra, expected)}; the weights are of another model")
    read: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, value in expected.items():
            stored = tensors[name]
            dtype = value.dtype if dtype_of is None else dtype_of(name, stored.dtype)
            if value.is_meta:
                read[name] = stored.map() if mapped and stored.dtype == dtype else stored.read().to(dtype)
            else:
                value.copy_(stored.map() if mapped else stored.read())
    module.load_state_dict(read, strict=False, assign=True)


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return 16 hex digits that identify names, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
