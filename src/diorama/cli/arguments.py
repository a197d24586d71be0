"""Options from the command line into a dataclass, with one sentence for every mistake."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

__all__ = ["parse"]

T = TypeVar("T")


def parse(kind: type[T], arguments: Sequence[str], *, command: str, rest: bool = False) -> Any:
    """Build ``kind`` from the words after a command.

    Args:
        kind: A dataclass whose fields are the options.
        arguments: The words.
        command: Name shown in the usage line.
        rest: Also return the words that are no option of ``kind``.

    Returns:
        The dataclass, or the pair of it and the remaining words.
    """
    import tyro

    config = (tyro.conf.FlagConversionOff, tyro.conf.OmitSubcommandPrefixes) if rest else (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(
        kind, prog=f"diorama {command}", args=list(arguments), config=config, return_unknown_args=rest, console_outputs=sys.stdout is not None
    )
