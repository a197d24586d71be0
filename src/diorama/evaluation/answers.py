"""Answers kept in a folder as they come, so that an evaluation that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diorama.checkpoint import write_text
from diorama.errors import InputError

__all__ = ["append", "claim", "file_of", "recall", "recall_parts"]


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


def file_of(folder: Path, name: str, part: tuple[int, int]) -> Path:
    """Return the file that part ``number`` of ``of`` adds its lines to; processes that share a folder have one each."""
    number, of = part
    return folder / (f"{name}.jsonl" if of == 1 else f"{name}-{number}-of-{of}.jsonl")


def recall(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file of JSON lines, none if it is not there, and cut off one that a crash left unfinished."""
    rows, whole = _whole_lines(path)
    if not whole:
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def recall_parts(folder: Path, name: str, part: tuple[int, int]) -> list[dict[str, Any]]:
    """Return the whole lines of all parts' files; only the own one is cut, for others may be at work."""
    own = file_of(folder, name, part)
    others = sorted({folder / f"{name}.jsonl", *folder.glob(f"{name}-*-of-*.jsonl")} - {own})
    return recall(own) + [row for path in others for row in _whole_lines(path)[0]]


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return the lines up to one that is cut off, and whether there is none such."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            return rows, False
    return rows, True


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
