from __future__ import annotations

from pathlib import Path

import pytest

from diorama.errors import InputError
from diorama.evaluation.answers import append, claim, recall


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    assert recall(path) == []
    rows = [{"name": "é", "value": 0.1}, {"name": "b", "value": None}]
    for row in rows:
        append(path, row)
    assert recall(path) == rows
    whole = path.read_text()
    path.write_text(whole[:-4])
    assert recall(path) == rows[:1]
    append(path, rows[1])
    assert path.read_text() == whole


def test_a_folder_holds_the_answers_of_one_setting(tmp_path: Path) -> None:
    for _ in range(2):
        claim(tmp_path / "out", {"label": "a", "seeds": 2})
    with pytest.raises(InputError, match="out holds answers of another model, judge or other settings"):
        claim(tmp_path / "out", {"label": "a", "seeds": 3})
