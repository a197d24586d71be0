"""Results on disk, whole or not at all, so that a run that was stopped goes on where it was.

A result is a frozen dataclass of numbers, texts, arrays, tuples and further dataclasses; it comes back equal, arrays bit by bit.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from diorama.checkpoint import replacing

__all__ = ["keep", "recall"]

T = TypeVar("T")


def keep(path: Path, value: Any) -> None:
    """Write a result.

    Args:
        path: Where; the folder is made.
        value: A dataclass.

    Raises:
        CheckpointError: the disk is full or the place cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(_plain(value, arrays))
    with replacing(path) as fresh, fresh.open("wb") as file:
        np.savez(file, tree=np.array(tree), **arrays)  # type: ignore[arg-type]


def recall(path: Path, kind: type[T]) -> T | None:
    """Read a result back, or return None where there is none yet or what is there is damaged or of another shape.

    Args:
        path: Where it was kept.
        kind: The dataclass it is.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return typing.cast(T, _value(kind, json.loads(str(kept["tree"])), kept))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        arrays[f"array{len(arrays)}"] = value
        return f"array{len(arrays) - 1}"
    if isinstance(value, (list, tuple)):
        return [_plain(one, arrays) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one, arrays) for key, one in value.items()}
    if isinstance(value, Path):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def _value(hint: Any, plain: Any, kept: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if plain is None else _value(next(one for one in arguments if one is not type(None)), plain, kept)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return typing.cast(Any, hint)(**{field.name: _value(hints[field.name], plain[field.name], kept) for field in dataclasses.fields(hint)})
    if origin is np.ndarray or hint is np.ndarray:
        return kept[plain]
    if origin is tuple:
        each = [arguments[0]] * len(plain) if arguments[1:] == (Ellipsis,) else arguments
        return tuple(_value(one, item, kept) for one, item in zip(each, plain, strict=True))
    if isinstance(plain, list):
        return [_value(arguments[0] if arguments else Any, item, kept) for item in plain]
    if isinstance(plain, dict):
        return {key: _value(arguments[1] if len(arguments) == 2 else Any, item, kept) for key, item in plain.items()}
    return Path(plain) if hint is Path else plain
