"""Commands follow from the functions of ``pipeline/modes.py``: what their source tells is what they are, and they run."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diorama.cli import generate, main
from diorama.cli.generate import Shared
from diorama.cli.modes import DEFAULT, Mode, modes, run
from diorama.errors import InputError
from diorama.media import Clip, probe, read_clip, read_metadata, save_clip
from diorama.pipeline.given import BESIDE_GIVEN
from diorama.pipeline.modes import MODES
from diorama.pipeline.request import Request

QUICK = ("--size", "48x32", "--steps", "1", "--seed", "3", "--device", "cpu")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, dict[str, Any], Shared]]:
    """Return a function from a command line to the mode's name, its arguments and the shared options, with nothing generated."""
    calls: list[tuple[str, dict[str, Any], Shared]] = []
    monkeypatch.setattr(generate, "make", lambda *call: calls.append(call))

    def hear(name: str, *words: str) -> tuple[str, dict[str, Any], Shared]:
        run(name, words)
        return calls[-1]

    return hear


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Return a clip of 5 frames of 48x32 that move."""
    rows = np.arange(32, dtype=np.uint8)[:, None, None]
    frames = np.stack([np.broadcast_to(rows * 5 + 9 * i, (32, 48, 3)) for i in range(5)])
    return save_clip(Clip(frames, 12.0, {"diorama": json.dumps({"prompt": "a red ball"})}), tmp_path / "clip.mp4")


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the help of a command in one line, without its boxes."""
    assert status(name, "--help") == 0
    return " ".join(re.sub("[╭╮╰╯│─]", " ", capsys.readouterr().out).split())


def test_every_mode_is_a_command_and_the_source_tells_what_the_function_is() -> None:
    assert {mode.name for mode in modes().values()} == set(MODES)
    for mode in modes().values():
        _, *real = inspect.signature(MODES[mode.name]).parameters.values()
        assert [(parameter.name, parameter.default) for parameter in mode.parameters] == [(parameter.name, parameter.default) for parameter in real]
        assert [parameter.is_positional for parameter in mode.parameters] == [parameter.kind is not parameter.KEYWORD_ONLY for parameter in real]
        assert (inspect.getdoc(MODES[mode.name]) or "").startswith(mode.about)


@pytest.mark.parametrize("name", modes())
def test_help_tells_every_parameter_and_its_default(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = help_of(name, capsys)
    for parameter in modes()[name].parameters:
        assert parameter.help
        default = f"(default: {parameter.shown_default})" if parameter.shown_default else ""
        hint = "(required)" if parameter.default is inspect.Parameter.empty else default
        assert f" {parameter.word} {parameter.help} {hint}" in text


@pytest.mark.parametrize("mode", modes().values(), ids=modes())
def test_the_examples_on_the_command_line_and_in_python_mean_the_same(heard: Callable[..., Any], mode: Mode) -> None:
    class Recorder:
        def __getattr__(self, name: str) -> Any:
            return lambda *given, **keywords: (name, inspect.signature(MODES[mode.name]).bind(None, *given, **keywords))

    line, call = mode.example
    name, bound = eval(call, {"pipe": Recorder()})
    bound.apply_defaults()
    program, command, *words = shlex.split(line)
    assert (program, command) == ("diorama", name)
    heard_mode, given, options = heard(command, *words)
    assert heard_mode == mode.name
    assert options.typed() == {}
    taken = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    wanted = {key: tuple(value) if isinstance(value, list) else value for key, value in list(bound.arguments.items())[1:]}
    assert taken == wanted


def test_files_at_seconds(heard: Callable[..., Any]) -> None:
    _, given, _ = heard("animate", "a.png", "--also", "b@2x.png@1.5", "--at", "1", "it moves", "--also", "c.png@2")
    assert given == {"picture": "a.png", "prompt": "it moves", "at": 1.0, "also": [("b@2x.png", 1.5), ("c.png", 2.0)]}
    for word in ("b.png", "b.png@soon"):
        with pytest.raises(InputError, match=r"write FILE@SECONDS, for example --also another.png@2"):
            run("animate", ["a.png", "--also", word])


def test_only_what_was_typed_is_passed_on(heard: Callable[..., Any]) -> None:
    assert heard("extend", "a.mp4")[2].typed() == {}
    words = ("--size", "64x32", "--seconds", "2", "--guidance", "3", "--negative", "fog", "--fit", "pad", "--scale", "model", "--window", "5")
    words += ("--cache-threshold", "0.1")
    typed = {"size": (64, 32), "seconds": 2.0, "guidance_scale": 3.0, "negative_prompt": "fog", "fit": "pad", "scale": "model", "window": 5}
    typed["cache_threshold"] = 0.1
    assert heard("extend", "a.mp4", *words)[2].typed() == typed


def test_a_mode_without_files_or_prompt_has_no_options_about_them(heard: Callable[..., Any]) -> None:
    assert heard(DEFAULT, "a ball")[2].input is None
    assert heard("storyboard", "board.toml")[2].rewriting is None
    assert status(DEFAULT, "a ball", "--fit", "crop") == 2
    assert status("storyboard", "board.toml", "--rewrite") == 2


def test_the_defaults_that_help_tells_are_those_of_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row.split()[0]: row for row in help_of(DEFAULT, capsys).split(" --")}
    told = {
        "size": f"{Request.width}x{Request.height},",
        "seconds": f"{Request.num_frames} frames,",
        "fps": f"{Request.fps:g})",
        "steps": f"{Request.steps})",
        "guidance": f"{Request.guidance_scale:g}, or {BESIDE_GIVEN:g} beside given frames)",
        "guidance-interval": "{:g} {:g})".format(*Request.guidance_interval),
        "solver": f"{Request.solver})",
    }
    for flag, default in told.items():
        assert f"(default: {default}" in rows[flag]


@pytest.mark.parametrize("arguments", [["--help"], ["extend", "--help"], ["extnd"]])
def test_help_and_mistakes_do_not_wait_for_torch(arguments: list[str]) -> None:
    code = "import sys\nfrom diorama.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_clip_is_extended_and_stays_what_it_was(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "frames/"
    main(["extend", str(clip), "--more", "0.4", "--direction", "both", *QUICK, "--variations", "2", "-o", f"{out}/"])
    shown, err = capsys.readouterr()
    assert "note: " not in err
    assert "48x32" in shown
    given, results = read_clip(clip), [read_clip(tmp_path / f"frames-{i}") for i in (1, 2)]
    for result in results:
        assert np.array_equal(result.frames[4:9], given.frames)
    assert not np.array_equal(results[0].frames, results[1].frames)
    assert [json.loads(result.metadata["diorama"])["seed"] for result in results] == [3, 4]
    assert json.loads(results[0].metadata["diorama"])["prompt"] == "a red ball"


def test_what_was_done_to_the_input_is_told_once(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--steps", "1", "--seed", "3", "--device", "cpu", "--size", "32x32", "--variations", "2", "-o", str(tmp_path / "e.mp4"))
    main(["edit", str(clip), "at night", *words])
    assert capsys.readouterr().err.count("note: input 48x32 cropped") == 1


def test_a_still_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["image", "two cubes at sunset", *QUICK])
    info = probe(tmp_path / "diorama.png")
    assert (info.width, info.height, info.num_frames) == (48, 32, 1)
    main(["animate", "diorama.png", "they roll", "--seconds", "0.4", *QUICK])
    assert probe(tmp_path / "diorama.mp4").num_frames == 5


def test_what_is_read_is_not_overwritten(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = clip.read_bytes()
    (tmp_path / "link.mp4").symlink_to(clip)
    monkeypatch.chdir(tmp_path)
    clip.with_name("clip-1.mp4").write_bytes(before)
    for words in (["clip.mp4", "-o", str(clip)], ["clip.mp4", "-o", "link.mp4"], ["clip-1.mp4", "-o", "clip.mp4", "--variations", "2"]):
        assert status("extend", *words, *QUICK) == 2
        err = capsys.readouterr().err
        assert "would be overwritten" in err
        assert len(err.splitlines()) == 1
    clip.rename("diorama.mp4")
    assert status("loop", "diorama.mp4", *QUICK) == 2
    assert (tmp_path / "diorama.mp4").read_bytes() == before


def test_rewrite_expands_the_prompt_of_a_mode(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "e.mp4"
    main(["edit", str(clip), "a crimson orb", "--rewrite", *QUICK, "-o", str(out)])
    assert "red" in json.loads(read_metadata(out)["diorama"])["prompt"]
    assert "prompt: " in capsys.readouterr().err
    assert status("extend", str(clip), "--rewrite", *QUICK, "-o", str(out)) == 2
    assert "none was given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["extend", "absent.mp4"], "absent.mp4"),
        (["extend", "CLIP", "--seconds", "2"], "leave out seconds"),
        (["extend", "CLIP", "--more", "0"], "0 seconds cannot be made"),
        (["loop", "absent.mp4"], "absent.mp4"),
        (["storyboard", "absent.toml"], "absent.toml"),
        (["animate", "CLIP", "--also", "CLIP@9"], "outside the clip"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(clip: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    words = [word.replace("CLIP", str(clip)) for word in arguments]
    assert status(*words, *QUICK, "-o", str(clip.with_name("out.mp4"))) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
