"""Frozen dataclasses to and from TOML, JSON and command-line overrides.

A config is a tree of ``@dataclass(frozen=True, kw_only=True)``. Unknown keys and values of the wrong type are errors
that name the nearest key; nothing is dropped.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from diorama.errors import ConfigError, DioramaError, nearest

__all__ = ["from_dict", "load_json", "load_toml", "override", "to_dict"]

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Return the config as nested dicts, lists and scalars that JSON can hold."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config), default=str)))


def from_dict(kind: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build a dataclass from nested mappings.

    Args:
        kind: The dataclass.
        values: Field values; missing fields take their defaults.
        where: Dotted path of ``values`` inside the whole config, for messages.

    Raises:
        ConfigError: an unknown key, a missing key without default, or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    for key in values:
        if key not in fields:
            raise ConfigError(f"unknown config key '{where}{key}'{nearest(key, fields) or '; allowed: ' + ', '.join(fields)}")
    for name, field in fields.items():
        missing = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if missing and name not in values:
            raise ConfigError(f"config key '{where}{name}' is missing and has no default; add it")
    converted = {key: _convert(hints[key], value, f"{where}{key}") for key, value in values.items()}
    try:
        return kind(**converted)
    except DioramaError as error:
        raise ConfigError(f"config{' ' + where[:-1] if where else ''}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"config key '{where}' must be a table of values, got {value!r}")
        return from_dict(typing.cast(type[Any], hint), value, where=f"{where}.")
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        options = [option for option in args if option is not type(None)]
        for option in options[:-1]:
            try:
                return _convert(option, value, where)
            except ConfigError:
                continue
        return _convert(options[-1], value, where)
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise ConfigError(f"config key '{where}' needs {len(kinds)} values, got {len(value)}")
        return tuple(_convert(item, v, f"{where}[{i}]") for i, (item, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"config key '{where}' is {value!r}; allowed: {', '.join(map(repr, args))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if origin is None and isinstance(hint, type) and isinstance(value, hint) and (hint is not int or not isinstance(value, bool)):
        return value
    raise ConfigError(f"config key '{where}' must be {getattr(hint, '__name__', hint)}, got {value!r}")


def load_toml(kind: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Read a TOML file into a dataclass, then apply ``--section.key value`` overrides.

    Raises:
        ConfigError: the file is unreadable or not TOML, or a key or value is wrong.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from error
    return from_dict(kind, override(values, overrides))


def load_json(kind: type[T], path: Path) -> T:
    """Read a JSON file into a dataclass; keys that start with an underscore are for others and skipped.

    Raises:
        ConfigError: the file is unreadable or not JSON, or a key or value is wrong.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path} must hold one JSON object")
    return from_dict(kind, {key: value for key, value in values.items() if not key.startswith("_")})


def override(values: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return ``values`` with ``["--train.steps", "1000", "--train.lr=0.1"]`` applied; values are read as TOML.

    Raises:
        ConfigError: an argument is not of the form ``--key value``.
    """
    merged: dict[str, Any] = dict(values)
    pending = [part for argument in arguments for part in (argument.split("=", 1) if argument.startswith("--") else [argument])]
    while pending:
        key = pending.pop(0)
        if not key.startswith("--") or not pending:
            raise ConfigError(f"override '{key}' is not understood: write --section.key value")
        text, node = pending.pop(0), merged
        *parents, last = key[2:].split(".")
        for parent in parents:
            child = node.get(parent, {})
            if not isinstance(child, Mapping):
                raise ConfigError(f"override '{key}' goes inside '{parent}', which holds a value and no table")
            node[parent] = dict(child)
            node = node[parent]
        node[last.replace("-", "_")] = _scalar(text)
    return merged


def _scalar(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
