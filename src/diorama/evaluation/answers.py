"""Answers kept in a folder as they come, so that an evaluation that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diorama.checkpoint import write_text
from diorama.errors import InputError

__all__ = ["append", "claim", "recall"]


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Mark a folder as holding answers of these settings.

    Args:
        folder: Made if absent.
        settings: JSON values.

    Raises:
        InputError: it holds others'.
        CheckpointError: the place cannot be written.
    """
    mark = folder / "settings.json"
    if not mark.exists():
        write_text(mark, json.dumps(settings, indent=2) + "\n")
    elif json.loads(mark.read_text(encoding="utf-8")) != settings:
        raise InputError(f"{folder} holds answers of another model, judge or other settings; give another folder or remove it")


def recall(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file of JSON lines, none if it is not there, and cut off one that a crash left unfinished."""
    rows: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    if len(rows) < len(lines):
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
