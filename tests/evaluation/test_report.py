"""Tables and JSON of a report."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from diorama.evaluation.report import GOALS, PromptReport, machine, table
from diorama.evaluation.score import ATTRIBUTES, Score


def test_table_is_aligned_markdown() -> None:
    lines = table(("a", "long head"), [("wide cell", "1")]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].startswith("| a         |")


def test_machine_names_the_date() -> None:
    assert dt.date.today().isoformat() in machine()
    assert "torch" in machine()


def test_report_round_trip(tmp_path: Path) -> None:
    some = {name: Score(right=3, trials=4) for name in ATTRIBUTES}
    none = {name: Score(right=0, trials=0) for name in ATTRIBUTES}
    report = PromptReport(label="tiny", generated=some, paraphrased=none, new_pairs=some, rendered=some)
    report.save(tmp_path)
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert text.startswith("tiny: 4 clips")
    assert "75.0 %" in text
    assert all(f"{100 * goal:.0f} %" in text for goal in GOALS.values())
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert values["generated"]["colour"]["right"] == 3
    assert values["paraphrased"]["colour"]["rate"] is None
