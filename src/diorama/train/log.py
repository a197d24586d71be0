"""What a run says: a line and a progress bar for people, jsonl for programs, tensorboard if it is installed."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from diorama.checkpoint import write_text

__all__ = ["Log", "Meter", "Work", "line", "tensorboard"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Size of a batch."""

    samples: int
    """Clips or images."""
    tokens: int
    """Tokens, or latent cells for a convolutional model."""
    flops: float
    """Operations of forward and backward by formula, without recomputation or padding."""


class Meter:
    """Averages figures and throughput between two log lines.

    Args:
        peak: Matrix-product rate of the device in FLOP/s, the denominator of ``share``.
    """

    def __init__(self, peak: float) -> None:
        self.peak = peak
        self.restart()

    def restart(self) -> None:
        """Forget everything since the last line."""
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._work = [0.0, 0.0, 0.0]
        self._start = time.perf_counter()

    def skip(self, seconds: float) -> None:
        """Leave out time that was not training."""
        self._start += seconds

    def add(self, figures: dict[str, float], work: Work) -> None:
        """Count one batch."""
        for name, value in figures.items():
            self._sums[name] += value
            self._counts[name] += 1
        for i, value in enumerate((work.samples, work.tokens, work.flops)):
            self._work[i] += value

    def take(self) -> dict[str, float]:
        """Return means and rates since the last call, and start over."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        samples, tokens, flops = self._work
        record = {name: total / self._counts[name] for name, total in self._sums.items()}
        record |= {"samples_per_s": samples / seconds, "tokens_per_s": tokens / seconds}
        record |= {"gflops": flops / seconds / 1e9, "share": flops / seconds / self.peak}
        self.restart()
        return record


def line(record: dict[str, float], total: int) -> str:
    """Return a log record as one readable line."""
    left = record["seconds_left"]
    return (
        f"step {record['step']:.0f}/{total}  loss {record['loss']:.4f}  lr x{record['lr_scale']:.3f}  {record['samples_per_s']:.1f} samples/s  "
        f"{record['tokens_per_s']:.0f} tokens/s  {record['gflops']:.1f} GFLOP/s ({100 * record['share']:.0f} % of matmul)  "
        f"{left // 3600:.0f}:{left // 60 % 60:02.0f}:{left % 60:02.0f} left"
    )


def tensorboard(folder: Path, purge_step: int | None = None) -> Any:
    """Return a writer of scalars to ``tensorboard/`` in a folder, or None where that package is not installed.

    Args:
        folder: Where.
        purge_step: From this step on, what is there already counts no more.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # heavy and optional
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)


class Log:
    """The log of a run; use it as a context.

    Args:
        folder: The run's folder; lines go to ``log.jsonl`` and ``tensorboard/``.
        first: The step resumed from; older lines beyond it are of steps that were lost, and go.
        total: Steps of the whole run.
    """

    def __init__(self, folder: Path, first: int, total: int) -> None:
        self._path, self._total = folder / "log.jsonl", total
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [text for text in lines if text.endswith("\n") and json.loads(text)["step"] <= first]
            if kept != lines:
                write_text(self._path, "".join(kept))
        self._writer = tensorboard(folder, purge_step=first + 1)

    def __enter__(self) -> Log:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(stderr=True)
        columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("train", total=self._total, note="")
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def write(self, record: dict[str, float]) -> None:
        """Write one record everywhere; ``record["step"]`` counts steps done."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        text = line(record, self._total)
        self.say(text)
        self._bar.update(self._task, note=text.rsplit("  ", 1)[-1])
        if self._writer is not None:
            for name, value in record.items():
                self._writer.add_scalar(name, value, int(record["step"]))
