from __future__ import annotations

from dataclasses import dataclass

import pytest

from diorama.cli.arguments import choose, parse
from diorama.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Do a thing."""

    steps: int = 3
    """How many."""
    fast: bool = False
    """Hurry."""


def test_values_and_defaults() -> None:
    assert parse(Options, ["--steps", "5", "--fast"], command="x") == Options(steps=5, fast=True)
    assert parse(Options, [], command="x") == Options()


def test_a_wrong_value_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(Options, ["--steps", "many"], command="x")
    assert stop.value.code == 2
    assert "--steps" in capsys.readouterr().err


def test_choose_runs_the_named_action(capsys: pytest.CaptureFixture[str]) -> None:
    got: list[list[str]] = []
    actions = {"add": ("put in", lambda words: got.append(list(words))), "take": ("get out", lambda words: None)}
    choose(actions, ["add", "--n", "3"], command="box")
    assert got == [["--n", "3"]]
    choose(actions, [], command="box")
    assert "usage: diorama box add|take" in capsys.readouterr().out
    with pytest.raises(InputError, match="did you mean 'take'"):
        choose(actions, ["tak"], command="box")
