"""Are captions true? A sentence is read back with the worlds' grammar and compared with the scene it describes.

Whose sentences they are does not matter: a caption of the grammar, of a captioner, or a prompt. Words outside the grammar
are passed over, so that free prose can be read as far as it uses known words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from diorama.checkpoint import tensors_hash, write_text
from diorama.config import to_dict
from diorama.errors import InputError
from diorama.evaluation.clips import EVALUATION_SEED
from diorama.evaluation.judge import COLOR_NAMES, Reading, Seen, camera_direction
from diorama.evaluation.report import cell, machine, table
from diorama.evaluation.score import Score
from diorama.media import Clip, contact_sheet
from diorama.worlds.clip import make_clip
from diorama.worlds.scene import Scene
from diorama.worlds.words import RESERVED, SYNONYMS

__all__ = [
    "CAPTION_GOALS",
    "CaptionConfig",
    "CaptionReader",
    "CaptionReport",
    "attributes",
    "evaluate_captions",
    "read_caption",
    "total",
]

CAPTION_GOALS: Mapping[str, float] = {"colour": 0.95, "shape": 0.90, "camera": 0.90, "motion": 0.85}
"""What the packaged captioner must reach on held-out rendered clips, as rates."""
FIRST_SEED = EVALUATION_SEED + 2_000_000
_READ = ("size", "finish", "color", "shape", "motion", "direction", "beside", "floor", "backdrop", "light", "camera", "shot")


@dataclass(frozen=True)
class _Word:
    """A phrase of the grammar found in a text."""

    attribute: str
    value: str
    start: int
    end: int


@cache
def _grammar() -> tuple[re.Pattern[str], dict[str, tuple[str, str]]]:
    """Return a pattern for every phrase that captions use, longest first, and what each means."""
    meanings: dict[str, tuple[str, str]] = {"behind": ("behind", "")}
    for words in (RESERVED, SYNONYMS):
        for attribute in _READ:
            for value, phrases in words[attribute].items():
                for phrase in phrases:
                    forms = _participles(phrase) if attribute == "camera" else [phrase]
                    meanings.update(dict.fromkeys(forms, ("camera" if attribute == "shot" else attribute, value)))
    choices = "|".join(re.escape(phrase) for phrase in sorted(meanings, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{choices})(?![\w-])", re.IGNORECASE), meanings


def _participles(phrase: str) -> list[str]:
    """Return a phrase such as "the camera pans left" with its verb also as it may follow "with": panning, and its misspellings."""
    subject, verb, *rest = phrase.replace("the ", "the_", 1).split(" ")
    stems = {verb, verb[:-1] + "ing", verb[:-2] + "ing", verb[:-1] + verb[-2] + "ing", verb[:-3] + "ying"}
    return [" ".join([subject.replace("_", " "), form, *rest]) for form in sorted(stems)]


def _words(text: str) -> list[_Word]:
    pattern, meanings = _grammar()
    return [_Word(*meanings[match[0].lower()], match.start(), match.end()) for match in pattern.finditer(" ".join(text.split()))]


class _Listener:
    """Follows a text word by word and notes of whom it speaks."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, str]] = {}
        self.setting = {"camera": "static", "floor": "", "light": ""}
        self.subject: str | None = None
        self.partner_next = False

    def body(self, color: str, shape: str) -> None:
        """Note a body; after a verb that needs one it is the partner, else the text goes on about it."""
        self.bodies.setdefault(color, {"shape": shape, "motion": "rest", "direction": "none"})
        if not self.partner_next:
            self.subject = color
        self.partner_next = False

    def hear(self, word: _Word) -> None:
        """Note what a phrase says of the shot or of the body that the text is about."""
        if word.attribute in self.setting:
            self.setting[word.attribute] = word.value
        elif word.attribute == "behind":
            self._moves("pass_behind")
        elif self.subject is not None and word.attribute == "motion":
            self._moves(word.value)
        elif self.subject is not None and word.attribute == "direction":
            self.bodies[self.subject]["direction"] = word.value

    def _moves(self, motion: str) -> None:
        meets = motion in ("collide", "pass_behind")
        if self.subject is None or (not meets and self.bodies[self.subject]["motion"] in ("collide", "pass_behind")):
            return
        self.bodies[self.subject]["motion"] = motion
        self.partner_next = meets


def read_caption(text: str) -> Reading:
    """Say what a caption says, as the judge says what a clip shows.

    What is not said has the value that captions leave out: a body of which no motion is told rests, a camera of which nothing is
    told is static; floor and light are empty. Of two bodies of one colour the first counts.
    """
    listener, words = _Listener(), _words(text)
    for before, word in zip([None, *words], words, strict=False):
        if word.attribute != "shape":
            listener.hear(word)
        elif before is not None and before.attribute == "color" and word.start == before.end + 1:
            listener.body(before.value, word.value)
    seen = {color: Seen(color, said["shape"], said["motion"], said["direction"]) for color, said in listener.bodies.items()}
    asked = tuple(seen.get(color, Seen(color, "", "", "")) for color in COLOR_NAMES)
    return Reading(tuple(seen[color] for color in COLOR_NAMES if color in seen), asked, len(seen), **listener.setting)


class CaptionReader:
    """Reads clips by having them described, in the judge's place.

    Args:
        write: Clips, uint8 ``[T, H, W, 3]`` each, to captions.
        tensors: The weights behind it, which identify it.
    """

    def __init__(self, write: Callable[[Sequence[np.ndarray]], Sequence[str]], tensors: Mapping[str, Any]) -> None:
        self._write, self._tensors = write, tensors

    def read(self, clips: Sequence[np.ndarray]) -> list[Reading]:
        """Say in words what clips show; see ``Judge.read``."""
        return [read_caption(text) for text in self._write(clips)]

    def identity(self) -> str:
        """Return 16 hex digits that change with the weights."""
        return tensors_hash(dict(self._tensors))


def attributes(scene: Scene, text: str) -> dict[str, Score]:
    """Count what a caption says right about a scene.

    Args:
        scene: What the clip shows, its bodies of different colours.
        text: The caption.

    Returns:
        Colour, shape, motion and direction over bodies (a body that is not named fails all four); the others are right or
        wrong as a whole; ``nothing else`` is that no body is named that is not there.
    """
    reading = read_caption(text)
    seen = {body.color: body for body in reading.bodies}
    named = [(body, seen[body.color]) for body in scene.bodies if body.color in seen]

    def bodies(right: Iterable[bool]) -> Score:
        return Score(right=sum(right), trials=len(scene.bodies))

    def whole(right: bool) -> Score:
        return Score(right=int(right), trials=1)

    return {
        "colour": bodies(True for _ in named),
        "shape": bodies(body.shape == said.shape for body, said in named),
        "camera": whole(reading.camera == scene.camera.move),
        "motion": bodies(body.motion == said.motion for body, said in named),
        "camera direction": whole(camera_direction(reading.camera) == camera_direction(scene.camera.move)),
        "body direction": bodies(body.direction == said.direction for body, said in named),
        "count": whole(reading.count == len(scene.bodies)),
        "nothing else": whole(set(seen) <= {body.color for body in scene.bodies}),
        "floor": whole(reading.floor == scene.floor),
        "light": whole(reading.light == scene.light),
    }


def total(rows: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """Add counts of several captions up.

    Raises:
        InputError: there are none.
    """
    if not rows:
        raise InputError("0 captions cannot be scored; give at least 1")
    return {name: Score(right=sum(row[name].right for row in rows), trials=sum(row[name].trials for row in rows)) for name in rows[0]}


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """Which clips are described."""

    count: int = 128
    """Clips."""
    max_bodies: int = 2
    """Bodies in a clip: from 1 to this, in turn."""
    width: int = 128
    """Pixels."""
    height: int = 128
    """Pixels."""
    num_frames: int = 33
    """Frames of each clip."""
    fps: float = 12.0
    """Frames per second."""

    def __post_init__(self) -> None:
        if self.count < 1 or not 1 <= self.max_bodies <= 4:
            raise InputError(f"{self.count} clips of up to {self.max_bodies} bodies cannot be described; give at least 1 clip and 1 to 4 bodies")


@dataclass(frozen=True, kw_only=True)
class CaptionReport:
    """How true captions of rendered clips are."""

    label: str
    """Who wrote them."""
    scores: Mapping[str, Score]
    """Over all clips."""
    new_pairs: Mapping[str, Score]
    """Over clips with a pair of colour and shape that training on ``split = "train"`` never shows."""

    def text(self) -> str:
        """Return the table with 95 % Wilson intervals and the goals."""
        goals = {name: f"{100 * goal:.0f} %" for name, goal in CAPTION_GOALS.items()}
        rows = [(name, cell(score), goals.get(name, ""), cell(self.new_pairs[name])) for name, score in self.scores.items()]
        clips = self.scores["camera"].trials
        return f"{self.label}: {clips} clips\n{machine()}\n\n{table(('caption says right', 'all', 'goal', 'new pairs'), rows)}\n"


def rendered_clips(config: CaptionConfig) -> Iterator[tuple[Scene, np.ndarray, bool]]:
    """Yield scenes that no training set holds, their frames, and whether they hold a new pair of colour and shape, every other one."""
    for i in range(config.count):
        clip = make_clip(
            FIRST_SEED + i,
            split="held_out" if i % 2 else "train",
            width=config.width,
            height=config.height,
            num_frames=config.num_frames,
            fps=config.fps,
            num_bodies=1 + (i // 2) % config.max_bodies,
        )
        yield clip.scene, clip.frames.numpy(), bool(i % 2)


def evaluate_captions(
    write: Callable[[np.ndarray], str],
    folder: Path,
    *,
    label: str,
    config: CaptionConfig,
    progress: Callable[[int, int], None] | None = None,
) -> CaptionReport:
    """Have rendered clips described and count what is true.

    Args:
        write: Frames, uint8 ``[T, H, W, 3]``, to a dense caption.
        folder: Takes ``captions.jsonl`` (one line a clip), ``sheets/`` (contact sheets), ``report.txt`` and ``report.json``.
        label: Names the captioner.
        config: Which clips.
        progress: Called with clips done and clips in all.

    Raises:
        MissingExtraError: MuJoCo is not installed.
        CheckpointError: the folder cannot be written.
    """
    rows: list[tuple[dict[str, Score], bool]] = []
    lines: list[str] = []
    for i, (scene, frames, new_pair) in enumerate(rendered_clips(config)):
        said = write(frames)
        rows.append((attributes(scene, said), new_pair))
        bodies = [f"{body.color} {body.shape} {body.motion} {body.direction}" for body in scene.bodies]
        wrong = [name for name, score in rows[-1][0].items() if score.right < score.trials]
        shown = {"bodies": bodies, "camera": scene.camera.move, "floor": scene.floor, "light": scene.light}
        lines.append(json.dumps({"index": i, "caption": said, "shown": shown, "wrong": wrong}) + "\n")
        sheet = folder / "sheets" / f"{i:03d}.png"
        sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(Clip(frames=frames, fps=config.fps), columns=5, rows=1).save(sheet)
        if progress is not None:
            progress(i + 1, config.count)
    new = [row for row, new_pair in rows if new_pair]
    report = CaptionReport(label=label, scores=total([row for row, _ in rows]), new_pairs=total(new or [row for row, _ in rows]))
    counts = {name: asdict(score) for name, score in report.scores.items()}
    write_text(folder / "captions.jsonl", "".join(lines))
    write_text(folder / "report.txt", report.text())
    write_text(folder / "report.json", json.dumps({"label": label, "machine": machine(), **to_dict(config), "scores": counts}, indent=2) + "\n")
    return report
