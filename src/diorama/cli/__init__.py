"""The command line: one thin file per command, found by its first word.

``diorama "a prompt"`` is ``diorama generate "a prompt"``. Nothing heavy is imported until a command runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from diorama.errors import DioramaError, InputError, nearest

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "generate": 'make a video from a prompt (the default: diorama "a red ball bounces")',
    "image": "make a still image from a prompt",
    "inspect": "show what a video file is and how it was made",
    "worlds": "preview or render simulated worlds, the training data of the default model",
    "train": "train the autoencoder, the transformer, the text encoder or the judge",
    "evaluate": "measure prompt fidelity or reconstruction quality",
}


def usage() -> str:
    """Return the text of ``diorama --help``."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return (
        'usage: diorama "PROMPT" [options]\n       diorama COMMAND [options]\n\n'
        "An open, trainable, self-hosted successor to Sora.\n\n"
        f"commands:\n{rows}\n\n"
        "diorama COMMAND --help lists a command's options; --version prints the version."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 the user can mend it, 130 interrupted.

    Args:
        arguments: What was typed after ``diorama``; the process's own arguments if None.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(arguments)
    except DioramaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] == "--version":
        from diorama import __version__

        print(f"diorama {__version__}")
        return
    name = arguments[0]
    if name in COMMANDS:
        arguments = arguments[1:]
    elif " " not in name.strip() and not name.startswith("-") and (hint := nearest(name, COMMANDS)):
        raise InputError(f"unknown command '{name}'{hint}; a prompt of one word goes after: diorama generate")
    else:
        name = "generate"
    importlib.import_module(f"diorama.cli.{name}").run(arguments)
