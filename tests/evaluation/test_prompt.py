"""The prompts are fixed and balanced; a run can stop and go on, and knows its settings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.errors import DataError, InputError
from diorama.evaluation.judge import Judge, JudgeConfig
from diorama.evaluation.prompt import PromptConfig, Question, evaluate_prompt, questions
from diorama.worlds.captions import RESERVED, SYNONYMS
from diorama.worlds.scene import CAMERA_MOVES, held_out

SMALL = PromptConfig(count=4, seeds=1, width=32, height=32, num_frames=2, moves=("static", "orbit_left"))


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions(SMALL)


@pytest.fixture(scope="module")
def judge() -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Judge(JudgeConfig(num_frames=2, area=1024, widths=(8, 8, 16), reach=1, num_heads=2, depth=1)).eval()


def test_questions_are_fixed_and_balanced(asked: list[Question]) -> None:
    assert questions(dataclasses.replace(SMALL, count=1))[0] == asked[0]
    assert len({question.prompt for question in asked}) == 4
    assert [question.held_out for question in asked] == [True, False, True, False]
    assert [question.paraphrase for question in asked] == [False, False, False, True]
    assert [question.scene.camera.move for question in asked] == ["static", "orbit_left"] * 2
    assert [len(question.scene.bodies) for question in asked] == [1, 1, 2, 2]
    for question in asked:
        assert any(held_out(body.color, body.shape) for body in question.scene.bodies) == question.held_out


def test_words_follow_the_kind(asked: list[Question]) -> None:
    for question in asked:
        words = RESERVED if question.paraphrase else SYNONYMS
        text = question.prompt.lower()
        assert all(any(name in text for name in words["color"][body.color]) for body in question.scene.bodies)
        assert any(phrase in text for phrase in words["floor"][question.scene.floor])


def test_default_asks_every_camera_move() -> None:
    assert PromptConfig().moves == CAMERA_MOVES


def test_impossible_and_empty_questions() -> None:
    with pytest.raises(DataError, match="no scene"):
        questions(dataclasses.replace(SMALL, count=1, max_bodies=1, motions=("collide",), tries=3))
    with pytest.raises(InputError, match="nothing"):
        PromptConfig(count=0)
    with pytest.raises(InputError, match="1 to 4"):
        PromptConfig(max_bodies=5)
    with pytest.raises(InputError, match="part 3/2 is none"):
        PromptConfig(part=(3, 2))


def test_a_run_stops_and_goes_on(tmp_path: Path, judge: Judge) -> None:
    asked_for: list[tuple[str, int]] = []

    def generate(prompt: str, seed: int) -> np.ndarray:
        asked_for.append((prompt, seed))
        return np.full((2, 32, 32, 3), 90, np.uint8)

    config = dataclasses.replace(SMALL, count=2, seeds=2)
    first = evaluate_prompt(generate, judge, tmp_path / "run", label="grey", config=dataclasses.replace(config, limit=1))
    assert first.generated["colour"].trials == 1
    with (tmp_path / "run" / "answers.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"index": 1, "se')  # cut off by a crash
    report = evaluate_prompt(generate, judge, tmp_path / "run", label="grey", config=config)
    assert len(asked_for) == len(set(asked_for)) == 4
    assert report.generated["colour"].trials == 4
    assert report.rendered["colour"].trials == 2
    again = evaluate_prompt(generate, judge, tmp_path / "run", label="grey", config=config)
    assert again == report
    assert len(asked_for) == 4
    rows = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {(row["index"], row["seed"]) for row in rows} == {(0, 0), (1, 0), (0, 1), (1, 1)}
    assert len(list((tmp_path / "run" / "sheets").glob("*.png"))) == 4
    assert (tmp_path / "run" / "report.json").is_file()
    with pytest.raises(InputError, match="another"):
        evaluate_prompt(generate, judge, tmp_path / "run", label="other", config=config)


def test_parts_share_the_clips_and_their_answers(tmp_path: Path, judge: Judge) -> None:
    asked_for: list[tuple[str, int]] = []

    def generate(prompt: str, seed: int) -> np.ndarray:
        asked_for.append((prompt, seed))
        return np.full((2, 32, 32, 3), 90, np.uint8)

    config = dataclasses.replace(SMALL, count=3, seeds=1)
    parts = [evaluate_prompt(generate, judge, tmp_path, label="grey", config=dataclasses.replace(config, part=(i, 2))) for i in (1, 2)]
    assert [part.generated["colour"].trials for part in parts] == [2, 1]
    assert not (tmp_path / "report.json").exists()
    with (tmp_path / "answers-2-of-2.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"index": 1, "se')  # another process is writing
    left = (tmp_path / "answers-2-of-2.jsonl").read_text()
    whole = evaluate_prompt(generate, judge, tmp_path, label="grey", config=config)
    assert whole.generated["colour"].trials == len(asked_for) == len(set(asked_for)) == 3
    assert (tmp_path / "answers-2-of-2.jsonl").read_text() == left
    assert (tmp_path / "report.json").is_file()
