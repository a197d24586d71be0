"""Storyboards: a file says what its value says, a prompt is spread over cards, and mistakes are told in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diorama.errors import ConfigError, InputError, MediaError
from diorama.media import Clip
from diorama.pipeline import Pipeline
from diorama.pipeline.load import Models
from diorama.pipeline.storyboard import Card, Storyboard, read_storyboard

FAST = {"steps": 2, "seed": 1, "guidance_scale": 1.0}
SMALL = {**FAST, "size": (48, 32)}


def noise(num_frames: int) -> Clip:
    return Clip(np.random.default_rng(num_frames).integers(0, 256, (num_frames, 32, 48, 3), np.uint8), 12.0)


@pytest.fixture
def pipe(models: Models) -> Pipeline:
    return Pipeline(models)


def test_a_prompt_is_spread_with_short_passages() -> None:
    board = Storyboard.from_prompt("a red ball rolls left, then it hits a blue cube. Finally it stops.", 6)
    assert [card.text for card in board.cards] == ["a red ball rolls left", "the red ball hits a blue cube", "the red ball stops"]
    spans = [(card.at, card.at + (card.seconds or 0)) for card in board.cards]
    assert np.allclose(spans, [(0, 1.75), (2.25, 3.75), (4.25, 6)])
    assert Storyboard.from_prompt("a ball", 2).cards == (Card(at=0, seconds=2, text="a ball"),)
    for prompt, seconds in (("", 1.0), ("a ball", 0.0), ("a ball", float("nan"))):
        with pytest.raises(InputError):
            Storyboard.from_prompt(prompt, seconds)


def test_a_file_says_the_same_as_its_value(pipe: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "story"
    folder.mkdir()
    noise(1).save(folder / "cat.png")
    noise(9).save(folder / "end.gif")
    path = folder / "story.toml"
    path.write_text(
        'seconds = 3\nprompt = "on wood"\n[[card]]\nat = 0\nseconds = 0.5\ntext = "red ball"\n'
        '[[card]]\nat = 1.0\npicture = "cat.png"\n[[card]]\nat = 2.0\nclip = "end.gif"\ntext = "blue cube"\ncut = true\n'
    )
    cards = (
        Card(at=0, seconds=0.5, text="red ball"),
        Card(at=1, picture=folder / "cat.png"),
        Card(at=2, clip=folder / "end.gif", text="blue cube", cut=True),
    )
    board = Storyboard(cards=cards, seconds=3, prompt="on wood")
    assert read_storyboard(path) == board
    clip = pipe.storyboard(path, **SMALL)
    assert np.array_equal(clip.frames, pipe.storyboard(board, **SMALL).frames)
    assert any(np.array_equal(frame, noise(1).frames[0]) for frame in clip.frames)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[card]\nat = 0", "not valid TOML"),
        ("seconds = 3", "at least one card"),
        ('[[card]]\nat = 0\ntxt = "x"', r"card\[0\]\.txt'; did you mean 'text'"),
        ('[[cards]]\nat = 0\ntext = "x"', "'cards'; did you mean 'card'"),
        ('[[card]]\ntext = "x"', "at' is missing"),
        ('[[card]]\nat = "now"\ntext = "x"', "must be float"),
        ("[[card]]\nat = 0\npicture = 5", "must be str"),
        ("[[card]]\nat = 2", "at 2 s has nothing to show"),
        ('[[card]]\nat = 2\ntext = " "', "has nothing to show"),
        ('[[card]]\nat = 2\npicture = "a.png"\nclip = "b.mp4"', "both a picture and a clip"),
        ('[[card]]\nat = -1\ntext = "x"', "at -1 s is out of range"),
        ('[[card]]\nat = nan\ntext = "x"', "at nan s is out of range"),
        ('[[card]]\nat = 0\nseconds = 0\ntext = "x"', "cannot hold 0 s"),
        ('[[card]]\nat = 1\ntext = "x"\n[[card]]\nat = 1\ntext = "y"', "rising times"),
        ('[[card]]\nat = 0\nseconds = 2\ntext = "x"\n[[card]]\nat = 1\ntext = "y"', "overlaps the one at 1 s"),
        ('seconds = 1\n[[card]]\nat = 1\ntext = "x"', "behind the end of the storyboard at 1 s"),
        ('seconds = 3\n[[card]]\nat = 1\nseconds = 5\ntext = "x"', "behind the end of the storyboard at 3 s"),
        ('seconds = -3\n[[card]]\nat = 1\ntext = "x"', "of -3 s cannot be made"),
        ('[[card]]\nat = 1\npicture = "absent.png"', "'absent.png', but there is no .*relative"),
    ],
)
def test_mistakes_in_a_file_are_told_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "story.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_storyboard(path)
    assert "\n" not in str(caught.value) or "TOML" in said


def test_what_is_no_storyboard_is_refused(pipe: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_storyboard(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="no storyboard"):
        pipe.storyboard(noise(5), **FAST)
    with pytest.raises(MediaError):
        pipe.storyboard(Storyboard(cards=[Card(at=0, picture=tmp_path / "absent.png")], seconds=2), **FAST)
