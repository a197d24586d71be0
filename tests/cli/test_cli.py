"""What every command shares: help, versions, mistakes."""

from __future__ import annotations

import pytest

from diorama import __version__
from diorama.cli import COMMANDS, main
from diorama.cli.modes import modes


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("--help",), ("help",)):
        code, out, _ = run(capsys, *arguments)
        assert code == 0
        assert all(f"\n  {name} " in out for name in (*modes(), *COMMANDS))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[1] == f"diorama {__version__}\n"


@pytest.mark.parametrize("command", [*modes(), *COMMANDS])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"diorama {command}" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["genrate"], "did you mean 'generate'"),
        (["extnd"], "did you mean 'extend'"),
        (["inspct"], "did you mean 'inspect'"),
        (["worlds", "rendr"], "did you mean 'render'"),
        (["evaluate", "promt"], "did you mean 'prompt'"),
        (["train", "autoencodr"], "did you mean 'autoencoder'"),
        (["train", "judge"], "needs a config file"),
        (["train", "judge", "absent.toml"], "config file absent.toml cannot be read"),
        (["a red ball", "--size", "100x96"], "nearest size is 96x96"),
        (["a red ball", "--size", "big"], "width x height"),
        (["a red ball", "--seconds", "0"], "0 seconds cannot be made"),
        (["a red ball", "--seconds", "1e9"], "1e+09 seconds cannot be made"),
        (["a red ball", "--variations", "0"], "ask for at least 1"),
        (["a red ball", "--seed", "-1"], "seed -1 is out of range"),
        (["a red ball", "-o", "a.xyz"], "allowed endings"),
        (["a red ball", "--device", "toaster"], "device 'toaster'"),
        (["a red ball", "--model", "absent"], "absent"),
        (["inspect", "absent.mp4"], "absent.mp4"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_an_unknown_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "a red ball", "--stepz", "3")
    assert code == 2
    assert "--steps" in out + err
