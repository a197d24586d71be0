from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from diorama.config import from_dict, load_json, load_toml, override, to_dict
from diorama.errors import ConfigError, InputError


@dataclass(frozen=True, kw_only=True)
class Inner:
    steps: int = 10
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps cannot be made; give at least 1")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    train: Inner = field(default_factory=Inner)
    sizes: tuple[tuple[int, int], ...] = ()
    out: Path | None = None
    flag: bool = False


def test_round_trip() -> None:
    config = Outer(name="x", train=Inner(steps=3), sizes=((1, 2), (3, 4)), out=Path("a/b"))
    assert from_dict(Outer, to_dict(config)) == config


def test_toml_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('name = "x"\n[train]\nsteps = 5\n')
    config = load_toml(Outer, path, ["--train.steps", "7", "--train.rate=2", "--name", "some words", "--flag", "true"])
    assert config == Outer(name="some words", train=Inner(steps=7, rate=2.0), flag=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "train": {"stepz": 1}}, r"unknown config key 'train.stepz'; did you mean 'steps'"),
        ({}, "'name' is missing"),
        ({"name": 3}, "'name' must be str"),
        ({"name": "x", "train": {"steps": 1.5}}, "'train.steps' must be int"),
        ({"name": "x", "train": {"steps": True}}, "'train.steps' must be int"),
        ({"name": "x", "train": {"kind": "c"}}, "allowed: 'a', 'b'"),
        ({"name": "x", "train": 3}, "must be a table"),
        ({"name": "x", "sizes": [[1, 2, 3]]}, "needs 2 values, got 3"),
        ({"name": "x", "train": {"steps": 0}}, "config train: 0 steps"),
    ],
)
def test_mistakes_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, values)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_toml(Outer, tmp_path / "absent.toml")
    (tmp_path / "bad").write_text("= [")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_toml(Outer, tmp_path / "bad")
    with pytest.raises(ConfigError, match="not valid JSON"):
        load_json(Outer, tmp_path / "bad")


def test_json_skips_private_keys(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "X", "steps": 4}')
    assert load_json(Inner, tmp_path / "config.json") == Inner(steps=4)


@pytest.mark.parametrize("arguments", [["--a"], ["a", "b"], ["--x.y", "1"]])
def test_bad_overrides(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="override"):
        override({"x": 3}, arguments)


def test_override_leaves_its_input_alone() -> None:
    values = {"train": {"steps": 1}}
    assert override(values, ["--train.steps", "2"]) == {"train": {"steps": 2}}
    assert values == {"train": {"steps": 1}}
