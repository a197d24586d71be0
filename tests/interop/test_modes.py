"""Every mode on every kind of open checkpoint, tiny and random: it runs, or refuses in one sentence, as docs/models.md has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diorama import Pipeline
from diorama.errors import InputError
from diorama.media import Clip

pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = (64, 32)
BOARD = '[[card]]\nat = 0.0\nseconds = 0.5\ntext = "a red ball"\n[[card]]\nat = 0.5\nseconds = 0.5\ntext = "the blue cube"\n'
NO_PICTURE = {"text", "image", "loop", "loop of a clip", "extend backward", "recut", "outpaint", "draft", "storyboard", "long"}
ONE_PICTURE = {"animate", "extend", "edit", "remix", "finish"}
REFUSED: dict[str, set[str]] = {
    "t2v": set(),
    "a14b t2v": set(),
    "ti2v": set(),
    "i2v": NO_PICTURE,
    "a14b i2v": NO_PICTURE,
    "flf2v": NO_PICTURE | ONE_PICTURE,
}


def clip(count: int) -> Clip:
    return Clip(np.random.default_rng(count).integers(0, 256, (count, 32, 64, 3)).astype(np.uint8), 16.0)


def calls(board: Path) -> dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]]:
    prompt, video, still = "a red ball", clip(9), clip(1)
    return {
        "text": ("text", (prompt,), {"num_frames": 5}),
        "image": ("image", (prompt,), {}),
        "animate": ("animate", (still, prompt), {"num_frames": 9}),
        "animate to a last": ("animate", (still, prompt), {"num_frames": 9, "fps": 16.0, "also": [(clip(1), 0.5)]}),
        "extend": ("extend", (video, prompt), {"more": 0.25}),
        "extend backward": ("extend", (video, prompt), {"more": 0.25, "direction": "backward"}),
        "loop": ("loop", (prompt,), {"num_frames": 9}),
        "loop of a clip": ("loop", (video, prompt), {"more": 0.25}),
        "connect": ("connect", (video, clip(5), prompt), {"passage": 0.25}),
        "insert": ("insert", (video, prompt), {"at": 0.3, "more": 0.25}),
        "blend": ("blend", (video, clip(10), prompt), {}),
        "edit": ("edit", (video, prompt), {}),
        "remix": ("remix", (video, prompt), {}),
        "recut": ("recut", (video, (0.2, 0.5), prompt), {}),
        "outpaint": ("outpaint", (video, prompt), {"aspect": "1:1", "size": (64, 64)}),
        "draft": ("draft", (prompt,), {"num_frames": 5, "size": (128, 64)}),
        "finish": ("finish", (video, prompt), {}),
        "storyboard": ("storyboard", (board,), {}),
        "long": ("text", (prompt,), {"num_frames": 17, "window": 3}),
    }


@pytest.mark.parametrize("kind", REFUSED)
def test_every_mode_runs_or_says_why_not(kind: str, checkpoint: Any, tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text(BOARD, encoding="utf-8")
    pipe = Pipeline.load(checkpoint(kind)[1], "cpu")
    refused = {}
    for name, (mode, given, options) in calls(board).items():
        if name.startswith("loop") and kind in ("t2v", "a14b t2v"):
            continue  # as with ti2v, whose decoder takes less time to turn a ring
        try:
            made = pipe.run(mode, *given, steps=1, seed=1, **{"size": SIZE, **options})
        except InputError as error:
            refused[name] = str(error)
        else:
            assert made.frames.std() > 0, name
    assert set(refused) == REFUSED[kind]
    assert all("this checkpoint" in said for said in refused.values())


def test_longer_than_a_window_says_how_long_it_may_be(checkpoint: Any) -> None:
    pipe = Pipeline.load(checkpoint("a14b i2v")[1], "cpu")
    with pytest.raises(InputError, match="for at most 9 frames, and 17 frames cannot be made so"):
        pipe.animate(clip(1), "a red ball", size=SIZE, num_frames=17, window=3, steps=1)
