"""Does the video show what the prompt asks for? Prompts with known truth, generated clips, and a judge or another reader.

The prompts are captions of scenes that no training set holds, one in four written in words that no training caption
uses. The generator comes in as a function, so anyone's can be graded. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from diorama.config import to_dict
from diorama.errors import DataError, InputError
from diorama.evaluation.answers import append, claim, file_of, recall_parts
from diorama.evaluation.clips import EVALUATION_SEED
from diorama.evaluation.judge import Reading
from diorama.evaluation.report import PromptReport
from diorama.evaluation.score import grade, scores
from diorama.media import Clip, contact_sheet
from diorama.worlds.captions import caption, paraphrase
from diorama.worlds.clip import make_clip
from diorama.worlds.sample import sample_scene
from diorama.worlds.scene import CAMERA_MOVES, MOTIONS, CameraMove, Motion, Scene

__all__ = ["Generator", "PromptConfig", "Question", "Reader", "evaluate_prompt", "questions", "rendered_grades"]

Generator = Callable[[str, int], np.ndarray]
"""Prompt and seed to uint8 frames ``[T, H, W, 3]``."""
FIRST_SEED = EVALUATION_SEED + 1_000_000


class Reader(Protocol):
    """Who says what clips show: the judge, or a captioner whose captions are read."""

    def read(self, clips: Sequence[np.ndarray]) -> list[Reading]:
        """Say what clips, uint8 ``[T, H, W, 3]`` each, show."""

    def identity(self) -> str:
        """Return what changes with the reader's weights."""


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """What is asked."""

    count: int = 64
    """Prompts."""
    seeds: int = 2
    """Clips for each prompt."""
    limit: int | None = None
    """Generate only the first so many clips."""
    part: tuple[int, int] = (1, 1)
    """Number and count of the processes that share them out in one folder; the first of one asks for all that are missing."""
    max_bodies: int = 2
    """Bodies in a prompt: from 1 to this."""
    motions: tuple[Motion, ...] = MOTIONS
    """Motions that may be asked for."""
    moves: tuple[CameraMove, ...] = CAMERA_MOVES
    """Camera moves that are asked for, in turn."""
    tries: int = 5000
    """Scenes drawn in search of one that fits, before giving up."""
    width: int = 128
    """Pixels of the rendered truth; the generator should use the same."""
    height: int = 128
    """Pixels."""
    num_frames: int = 33
    """Frames of the rendered truth."""
    fps: float = 12.0
    """Frames per second."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.seeds < 1 or (self.limit is not None and self.limit < 1):
            raise InputError(f"{self.count} prompts x {self.seeds} seeds with limit {self.limit} ask for nothing; give at least 1 of each")
        if not 1 <= self.part[0] <= self.part[1]:
            raise InputError(f"part {self.part[0]}/{self.part[1]} is none; give 1/2 and 2/2 to two processes, for example")
        if not 1 <= self.max_bodies <= 4:
            raise InputError(f"prompts with up to {self.max_bodies} bodies cannot be asked; give 1 to 4")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt and what a right answer shows."""

    index: int
    """Place in the list; fixed for a config."""
    prompt: str
    """What is asked."""
    scene: Scene
    """The truth."""
    held_out: bool
    """Whether some pair of colour and shape is in no training set; else only the scene is."""
    paraphrase: bool
    """Whether the words are ones that no training caption uses."""

    @property
    def split(self) -> Literal["train", "held_out"]:
        """Its part of the worlds."""
        return "held_out" if self.held_out else "train"


def questions(config: PromptConfig) -> list[Question]:
    """Return the fixed prompts of a config.

    Camera moves take turns, one prompt in two has a held-out pair of colour and shape, one in four is a paraphrase.

    Raises:
        DataError: the worlds hold no scene of the wanted kind.
    """
    found: list[Question] = []
    seeds = itertools.count(FIRST_SEED)
    for index in range(config.count):
        new_pair, reworded = index % 2 == 0, index % 8 in (3, 4)
        bodies = 1 + (index // 2) % config.max_bodies
        scene = _scene(seeds, config.moves[index % len(config.moves)], bodies, new_pair, config)
        write = paraphrase if reworded else caption
        found.append(Question(index=index, prompt=write(scene, scene.seed).dense, scene=scene, held_out=new_pair, paraphrase=reworded))
    return found


def _scene(seeds: Iterator[int], move: str, num_bodies: int, new_pair: bool, config: PromptConfig) -> Scene:
    for seed in itertools.islice(seeds, config.tries):
        scene = sample_scene(
            seed,
            split="held_out" if new_pair else "train",
            width=config.width,
            height=config.height,
            num_frames=config.num_frames,
            fps=config.fps,
            num_bodies=num_bodies,
        )
        colors = {body.color for body in scene.bodies}
        if scene.camera.move == move and len(colors) == num_bodies and all(body.motion in config.motions for body in scene.bodies):
            return scene
    raise DataError(f"no scene of {num_bodies} bodies with camera {move} and motions {', '.join(config.motions)} was found; allow more motions")


def rendered_grades(
    asked: Sequence[Question], judge: Reader, folder: Path, config: PromptConfig, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, bool]]:
    """Render the asked scenes and grade them: what the judge itself gets right and wrong.

    Args:
        asked: The prompts.
        judge: Who reads the clips.
        folder: Keeps what is done in ``rendered.jsonl``, or in a file of the part's own.
        config: Config of the prompts.
        progress: Called with clips done and clips in all.
    """
    known: dict[int, dict[str, bool]] = {row["index"]: row["grade"] for row in recall_parts(folder, "rendered", config.part)}
    for done, question in enumerate(asked, start=1):
        if question.index not in known:
            clip = make_clip(
                question.scene.seed,
                split=question.split,
                width=config.width,
                height=config.height,
                num_frames=config.num_frames,
                fps=config.fps,
                num_bodies=len(question.scene.bodies),
            )
            known[question.index] = grade(question.scene, judge.read([clip.frames.numpy()])[0])
            append(file_of(folder, "rendered", config.part), {"index": question.index, "grade": known[question.index]})
        if progress is not None:
            progress(done, len(asked))
    return [known[question.index] for question in asked]


def evaluate_prompt(
    generate: Generator, judge: Reader, folder: Path, *, label: str, config: PromptConfig, progress: Callable[[str, int, int], None] | None = None
) -> PromptReport:
    """Ask every prompt with every seed and grade what comes.

    Args:
        generate: Makes the clips.
        judge: Reads them.
        folder: Takes ``answers.jsonl`` (one line a clip), ``rendered.jsonl``, ``sheets/`` (contact sheets), ``report.json`` and ``report.txt``.
        label: Names the generator and its settings; a folder goes on only with the label it was started with.
        config: What is asked; a part reports of its own clips and writes no report, and who asks for all finds those of every part done.
        progress: Called with ``"generated"`` or ``"rendered"``, clips done and clips in all.

    Raises:
        InputError: the folder holds another generator's or config's answers.
    """
    asked = questions(config)
    wanted = [(question, seed) for seed in range(config.seeds) for question in asked][: config.limit][config.part[0] - 1 :: config.part[1]]
    settings = {key: value for key, value in to_dict(config).items() if key not in ("limit", "part")}
    claim(folder, {"label": label, "judge": judge.identity(), **settings})
    answers = {(row["index"], row["seed"]): row for row in recall_parts(folder, "answers", config.part)}
    for done, (question, seed) in enumerate(wanted, start=1):
        if (question.index, seed) not in answers:
            frames = generate(question.prompt, seed)
            answers[question.index, seed] = _answer(question, seed, judge.read([frames])[0])
            _keep(folder, answers[question.index, seed], frames, config)
        if progress is not None:
            progress("generated", done, len(wanted))
    used = {question.index: question for question, _ in wanted}
    reference = rendered_grades(
        list(used.values()), judge, folder, config, None if progress is None else lambda done, of: progress("rendered", done, of)
    )
    rows = [answers[question.index, seed] for question, seed in wanted]
    report = PromptReport(
        label=label,
        generated=scores([row["grade"] for row in rows]),
        paraphrased=scores([row["grade"] for row in rows if row["paraphrase"]]),
        new_pairs=scores([row["grade"] for row in rows if row["held_out"]]),
        rendered=scores(reference),
    )
    if config.part[1] == 1:  # that of a part would pass for the whole
        report.save(folder)
    return report


def _answer(question: Question, seed: int, reading: Reading) -> dict[str, Any]:
    bodies = [f"{body.color} {body.shape} {body.motion} {body.direction}" for body in question.scene.bodies]
    seen = [f"{body.color} {body.shape} {body.motion} {body.direction}" for body in reading.bodies]
    return {
        "index": question.index,
        "seed": seed,
        "prompt": question.prompt,
        "paraphrase": question.paraphrase,
        "held_out": question.held_out,
        "asked": {"bodies": bodies, "camera": question.scene.camera.move, "floor": question.scene.floor, "light": question.scene.light},
        "seen": {"bodies": seen, "count": reading.count, "camera": reading.camera, "floor": reading.floor, "light": reading.light},
        "grade": grade(question.scene, reading),
        "reading": asdict(reading),
    }


def _keep(folder: Path, answer: dict[str, Any], frames: np.ndarray, config: PromptConfig) -> None:
    """Write a contact sheet, then the answer's line."""
    sheets = folder / "sheets"
    sheets.mkdir(parents=True, exist_ok=True)
    right = "right" if answer["grade"]["all five"] else "wrong"
    contact_sheet(Clip(frames=frames, fps=config.fps), columns=5, rows=1).save(sheets / f"{answer['index']:03d}-{answer['seed']}-{right}.png")
    append(file_of(folder, "answers", config.part), answer)
