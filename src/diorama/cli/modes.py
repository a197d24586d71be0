"""The prompting modes as commands: a function in ``pipeline/modes.py`` is one by its name, its parameters and its docstring.

The functions are read from their source, without their bodies and without importing them: that would bring torch along, and
help and mistakes should not wait for it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import shlex
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import diorama
from diorama.cli.arguments import parse
from diorama.errors import InputError

__all__ = ["DEFAULT", "Mode", "Parameter", "modes", "run"]

DEFAULT = "generate"
"""The command that a prompt alone means: the mode ``text``."""
SOURCE = Path(diorama.__file__).parent / "pipeline" / "modes.py"
WIDEST = 24
"""Letters of an option and its value that help shows beside what they mean; what is wider goes above it."""
PROMPT = "a red ball rolls past a blue cube"
"""Said in examples."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a mode takes."""

    name: str
    """In Python; the command line has dashes for underscores."""
    annotation: Any
    """Its type; what comes from the package itself is a stand-in of that name."""
    default: Any
    """``inspect.Parameter.empty`` if it must be given."""
    is_positional: bool
    """Whether it is given by its place rather than its name."""
    help: str
    """What it is."""

    @property
    def is_file(self) -> bool:
        """Whether it is a clip or a picture, on the command line its path."""
        return any(getattr(part, "__name__", "") == "Media" for part in (self.annotation, *get_args(self.annotation)))

    @property
    def parts(self) -> tuple[Parameter, ...]:
        """What one of several is made of, for a sequence of tuples; empty for anything else."""
        if get_origin(self.annotation) is not Sequence:
            return ()
        return tuple(dataclasses.replace(self, annotation=part) for part in get_args(get_args(self.annotation)[0]))

    @property
    def metavar(self) -> str:
        """Its value as help writes it."""
        if self.parts:
            return "@".join("SECONDS" if part.annotation is float else part.metavar for part in self.parts)
        if get_origin(self.annotation) is tuple:
            return "FROM TO"
        if get_origin(self.annotation) is Literal:
            choices = f"{{{','.join(get_args(self.annotation))}}}"
            return choices if len(self.name + choices) < WIDEST - 2 else "WORD"
        if self.is_file:
            return "FILE"
        return {str: "TEXT", bool: ""}.get(self.annotation, "N")

    @property
    def word(self) -> str:
        """How the command line writes it: ``CLIP``, ``[PROMPT]``, ``--more N``."""
        if not self.is_positional:
            return f"--{self.name.replace('_', '-')} {self.metavar}".rstrip()
        name = self.metavar if get_origin(self.annotation) is tuple else self.name.upper()
        return name if self.default is inspect.Parameter.empty else f"[{name}]"

    @property
    def shown_default(self) -> str:
        """Its default as help writes it; empty where there is none to tell."""
        if isinstance(self.default, str):
            return self.default
        return f"{self.default:g}" if isinstance(self.default, float | int) and not isinstance(self.default, bool) else ""

    def read(self, words: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return a sequence of tuples from words such as ``FILE@SECONDS``.

        Raises:
            InputError: a word is not of this form.
        """
        kinds = [part.annotation if part.annotation in (float, int) else str for part in self.parts]
        try:
            return [tuple(kind(text) for kind, text in zip(kinds, word.rsplit("@", len(kinds) - 1), strict=True)) for word in words]
        except ValueError:
            flag, example = self.word.split()[0], self.example[0]
            raise InputError(f"{flag} {' '.join(words)} is not understood: write {self.metavar}, for example {flag} {example}") from None

    @property
    def example(self) -> tuple[str, str]:
        """A value as the command line and as Python writes it; empty where none tells anything."""
        if self.parts:
            return "another.png@2", '[("another.png", 2.0)]'
        if self.is_file:
            ending = ".toml" if get_args(self.annotation) else ".png" if self.name == "picture" else ".mp4"
            return self.name + ending, f'"{self.name}{ending}"'
        if get_origin(self.annotation) is tuple:
            return "0.5 1.5", "(0.5, 1.5)"
        if get_origin(self.annotation) is Literal:
            other = next(choice for choice in get_args(self.annotation) if choice != self.default)
            return other, f'"{other}"'
        if self.name == "prompt":
            return f'"{PROMPT}"', f'"{PROMPT}"'
        return (shlex.quote(self.shown_default), self.code) if self.shown_default else ("", "")

    @property
    def code(self) -> str:
        """Its default as Python writes it."""
        return json.dumps(self.default, ensure_ascii=False) if isinstance(self.default, str) else repr(self.default)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A prompting mode, as its source tells."""

    name: str
    """Of the function."""
    about: str
    """Its docstring without the arguments."""
    parameters: tuple[Parameter, ...]
    """What it takes beside the desk."""

    @property
    def command(self) -> str:
        """Its first word on the command line, and its method of ``Pipeline``."""
        return DEFAULT if self.name == "text" else self.name

    @property
    def example(self) -> tuple[str, str]:
        """A call as the command line and as Python writes it."""
        shown = [(parameter, *parameter.example) for parameter in self.parameters]
        line = [word if parameter.is_positional else f"{parameter.word.split()[0]} {word}" for parameter, word, _ in shown if word]
        call = [code if parameter.is_positional else f"{parameter.name}={code}" for parameter, _, code in shown if code]
        return " ".join(["diorama", self.command, *line]), f"pipe.{self.command}({', '.join(call)})"


@cache
def modes() -> dict[str, Mode]:
    """Return every mode by its command, in the order of the source."""
    found = {}
    for name, function in _signatures().items():
        about, _, arguments = (inspect.getdoc(function) or "").partition("\n\nArgs:\n")
        told = {match[1]: " ".join(match[2].split()) for match in re.finditer(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE)}
        _, *taken = inspect.signature(function, eval_str=True).parameters.values()
        parameters = [
            Parameter(
                name=parameter.name,
                annotation=parameter.annotation,
                default=parameter.default,
                is_positional=parameter.kind is not inspect.Parameter.KEYWORD_ONLY,
                help=told.get(parameter.name, ""),
            )
            for parameter in taken
        ]
        mode = Mode(name=name, about=about, parameters=tuple(parameters))
        found[mode.command] = mode
    return found


def _signatures() -> dict[str, Callable[..., Any]]:
    """Return the functions of the source that ``__all__`` names, with empty bodies; what they import from the package is a class of that name."""
    names: dict[str, Any] = {}
    kept: list[ast.stmt] = []
    for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            light = node.module in (typing.__name__, Sequence.__module__)
            for alias in node.names:
                names[alias.name] = getattr(import_module(str(node.module)), alias.name) if light else type(alias.name, (), {})
        elif isinstance(node, ast.FunctionDef):
            kept.append(ast.FunctionDef(**{**vars(node), "body": node.body[:1], "decorator_list": []}))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.List):
            kept.append(node)
    exec(compile(ast.Module(body=kept, type_ignores=[]), str(SOURCE), "exec"), names)
    return {name: value for name, value in names.items() if name in names["__all__"]}


def run(name: str, arguments: Sequence[str]) -> None:
    """Run a mode.

    Args:
        name: The command.
        arguments: The words after it.

    Raises:
        DioramaError: what was typed cannot be made.
    """
    mode = modes()[name]
    options = parse(_options(mode), arguments, command=name)
    from diorama.cli.generate import Shared, make

    given = {parameter.name: getattr(options, parameter.name) for parameter in mode.parameters}
    given |= {parameter.name: parameter.read(given[parameter.name]) for parameter in mode.parameters if parameter.parts}
    shared: dict[str, Any] = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(Shared)}
    make(mode.name, given, Shared(**shared))


def _options(mode: Mode) -> type[Any]:
    """Return a dataclass of what the command line of a mode takes."""
    import tyro

    from diorama.cli.generate import Input, Memory, Output, Rewriting, Sampling, Shape

    fields = [(parameter.name, *_field(parameter)) for parameter in mode.parameters]
    groups = {"shape": Shape, "input": Input, "sampling": Sampling, "memory": Memory, "rewriting": Rewriting, "output": Output}
    if not any(parameter.is_file for parameter in mode.parameters):
        del groups["input"]
    if not any(parameter.name == "prompt" for parameter in mode.parameters):
        del groups["rewriting"]
    silent = tyro.conf.arg(help="")
    shared = [(name, typing.Annotated[group, silent], dataclasses.field(default_factory=group)) for name, group in groups.items()]
    options = dataclasses.make_dataclass(mode.name, [*fields, *shared], frozen=True, kw_only=True)
    options.__doc__ = f"{mode.about}\n\nexample: {mode.example[0]}"
    return tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)(options)


def _field(parameter: Parameter) -> tuple[Any, Any]:
    """Return type and default of a parameter as tyro takes them."""
    import tyro

    kind: Any = tuple[str, ...] if parameter.parts else str if parameter.is_file else parameter.annotation
    metavar = parameter.word if parameter.is_positional else parameter.metavar or None
    hint = f"(default: {parameter.shown_default})" if parameter.shown_default else ""
    marks: list[Any] = [tyro.conf.arg(help=parameter.help, metavar=metavar, help_behavior_hint=hint)]
    if parameter.is_positional:
        marks.append(tyro.conf.Positional)
    if parameter.parts:
        marks.append(tyro.conf.UseAppendAction)
    default = dataclasses.field() if parameter.default is inspect.Parameter.empty else dataclasses.field(default=parameter.default)
    annotated: Any = typing.Annotated
    return annotated[kind, *marks], default
