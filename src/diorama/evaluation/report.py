"""Reports as tables to read and JSON to compute with."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diorama.checkpoint import write_text
from diorama.evaluation.score import Score

__all__ = ["GOALS", "PromptReport", "cell", "machine", "table"]

GOALS: Mapping[str, float] = {"colour": 0.95, "shape": 0.92, "count": 0.90, "camera direction": 0.90, "motion": 0.80}
"""What the default model must reach over its stated range, as rates."""


def machine() -> str:
    """Return this machine, torch and the date in one line, to stand above every printed number."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{name}, {device}, torch {torch.__version__}, {dt.date.today().isoformat()}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines)


def cell(score: Score) -> str:
    """Return a rate with its 95 % interval as a table shows it."""
    low, high = score.interval()
    return f"{100 * score.rate:5.1f} % ({100 * low:.0f}-{100 * high:.0f})" if score.trials else "-"


@dataclass(frozen=True, kw_only=True)
class PromptReport:
    """How well prompts are followed, beside what the judge makes of the rendered truth."""

    label: str
    """The generator and its settings."""
    generated: Mapping[str, Score]
    """Over all generated clips."""
    paraphrased: Mapping[str, Score]
    """Over those asked for in words unseen in training."""
    new_pairs: Mapping[str, Score]
    """Over those with a pair of colour and shape unseen in training."""
    rendered: Mapping[str, Score]
    """The judge's own accuracy on rendered clips of the same scenes."""

    def text(self) -> str:
        """Return the table with 95 % Wilson intervals and the goals."""
        head = ("clip shows the asked", "generated", "goal", "paraphrased", "new pairs", "judge on rendered truth")
        rows = [
            (
                name,
                cell(score),
                f"{100 * GOALS[name]:.0f} %" if name in GOALS else "",
                cell(self.paraphrased[name]),
                cell(self.new_pairs[name]),
                cell(self.rendered[name]),
            )
            for name, score in self.generated.items()
        ]
        clips = next(iter(self.generated.values())).trials
        return f"{self.label}: {clips} clips\n{machine()}\n\n{table(head, rows)}\n"

    def to_dict(self) -> dict[str, Any]:
        """Return counts, rates and intervals as JSON values."""

        def plain(scores: Mapping[str, Score]) -> dict[str, Any]:
            return {
                name: {"right": score.right, "trials": score.trials, "rate": score.rate if score.trials else None, "interval": score.interval()}
                for name, score in scores.items()
            }

        parts = {"generated": self.generated, "paraphrased": self.paraphrased, "new_pairs": self.new_pairs, "rendered": self.rendered}
        return {"label": self.label, "machine": machine(), "goals": dict(GOALS), **{name: plain(scores) for name, scores in parts.items()}}

    def save(self, folder: Path) -> None:
        """Write ``report.json`` and ``report.txt``.

        Raises:
            CheckpointError: the place cannot be written.
        """
        write_text(folder / "report.json", json.dumps(self.to_dict(), indent=2) + "\n")
        write_text(folder / "report.txt", self.text())
