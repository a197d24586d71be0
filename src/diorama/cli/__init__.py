"""The command line: a prompting mode or a thin file per command, found by its first word.

``diorama "a prompt"`` is ``diorama generate "a prompt"``. Nothing heavy is imported until a command runs.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

from diorama.errors import DioramaError, InputError, nearest
from diorama.threads import settle_threads

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "inspect": "show what a video file is and how it was made",
    "worlds": "preview or render simulated worlds, the training data of the default model",
    "curate": "raw videos and pictures to training shards, with the fate of every second",
    "train": "train the autoencoder, the transformer, the text encoder, the judge or the captioner",
    "evaluate": "measure prompt fidelity, captions, reconstruction quality or geometry",
    "models": "list models, plan their memory, export and import them",
    "geometry": "reconstruct a video by SfM, NeRF and splats: does it show one rigid world?",
}
"""Commands with a file of their own; the others are the prompting modes."""


def usage() -> str:
    """Return the text of ``diorama --help``."""
    from diorama.cli.modes import modes

    making = {name: _line(mode.about) for name, mode in modes().items()}
    width = max(map(len, [*making, *COMMANDS]))
    across = max(width + 30, min(120, shutil.get_terminal_size().columns))

    def table(rows: Mapping[str, str]) -> str:
        return "\n".join(
            textwrap.fill(what, across, initial_indent=f"  {name:<{width}}  ", subsequent_indent=" " * (width + 4)) for name, what in rows.items()
        )

    return (
        'usage: diorama "PROMPT" [options]\n       diorama COMMAND [options]\n\n'
        "An open, trainable, self-hosted successor to Sora.\n\n"
        f"making videos (a prompt alone is generate):\n{table(making)}\n\nother commands:\n{table(COMMANDS)}\n\n"
        "diorama COMMAND --help lists a command's options; --version prints the version."
    )


def _line(about: str) -> str:
    """Return a docstring's first sentence as the line of a list."""
    first = " ".join(about.partition("\n\n")[0].split()).removesuffix(".")
    return first[:1].lower() + first[1:]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 the user can mend it, 130 interrupted.

    Args:
        arguments: What was typed after ``diorama``; the process's own arguments if None.
    """
    settle_threads()
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
    name, *rest = arguments
    if name in COMMANDS:
        importlib.import_module(f"diorama.cli.{name}").run(rest)
        return
    from diorama.cli.modes import DEFAULT, modes, run

    if name in modes():
        run(name, rest)
    elif " " not in name.strip() and not name.startswith("-") and (hint := nearest(name, [*modes(), *COMMANDS])):
        raise InputError(f"unknown command '{name}'{hint}; a prompt of one word goes after: diorama {DEFAULT}")
    else:
        run(DEFAULT, arguments)
