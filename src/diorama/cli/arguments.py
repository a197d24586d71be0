"""Options from the command line into a dataclass, with one sentence for every mistake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["parse"]

T = TypeVar("T")


def parse(kind: type[T], arguments: Sequence[str], *, command: str) -> T:
    """Build ``kind`` from the words after a command; a mistake prints its sentence and exits with status 2.

    Args:
        kind: A dataclass whose fields are the options.
        arguments: The words.
        command: Name shown in the usage line.
    """
    import tyro

    return tyro.cli(kind, prog=f"diorama {command}", args=list(arguments), config=(tyro.conf.FlagCreatePairsOff,))
