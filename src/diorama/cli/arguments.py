"""Options from the command line into a dataclass, with one sentence for every mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from diorama.errors import InputError, nearest

__all__ = ["choose", "parse"]

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


def choose(actions: Mapping[str, tuple[str, Callable[[Sequence[str]], None]]], arguments: Sequence[str], *, command: str) -> None:
    """Run the action of a command that the first word names, or print what there is.

    Args:
        actions: Name to one line of help and the function that takes the words after the name.
        arguments: The words after the command.
        command: Its name.

    Raises:
        InputError: there is no such action.
    """
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, actions))
        rows = "\n".join(f"  {action:<{width}}  {what}" for action, (what, _) in actions.items())
        print(f"usage: diorama {command} {'|'.join(actions)} [options]\n\n{rows}")
    elif name not in actions:
        raise InputError(f"unknown action '{command} {name}'{nearest(name, actions) or '; allowed: ' + ', '.join(actions)}")
    else:
        actions[name][1](rest)
