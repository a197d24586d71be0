"""The log: means and rates are right, and a resumed run's lines follow on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diorama.train.log import Log, Meter, Work, line, tensorboard

RECORD = {"loss": 0.5, "lr_scale": 1.0, "samples_per_s": 2.0, "tokens_per_s": 300.0, "gflops": 50.0, "share": 0.25, "seconds_left": 3725.0}


def test_means_count_each_figure_where_it_was_given() -> None:
    meter = Meter(1e9)
    meter.add({"loss": 1.0, "loss_ends": 4.0}, Work(samples=2, tokens=10, flops=1e6))
    meter.add({"loss": 3.0}, Work(samples=4, tokens=30, flops=3e6))
    meter.skip(-100.0)  # as if 100 s had gone by
    record = meter.take()
    assert (record["loss"], record["loss_ends"]) == (2.0, 4.0)
    assert record["samples_per_s"] == pytest.approx(6 / 100, rel=0.05)
    assert record["tokens_per_s"] == pytest.approx(40 / 100, rel=0.05)
    assert record["share"] == pytest.approx(4e6 / 100 / 1e9, rel=0.05)
    assert "loss" not in meter.take()


def test_a_line_says_everything() -> None:
    text = line({"step": 20.0, **RECORD}, 100)
    assert text == "step 20/100  loss 0.5000  lr x1.000  2.0 samples/s  300 tokens/s  50.0 GFLOP/s (25 % of matmul)  1:02:05 left"


def test_lines_of_lost_steps_go_on_resume(tmp_path: Path) -> None:
    with Log(tmp_path, 0, 10) as log:
        for step in range(1, 6):
            log.write({"step": float(step), **RECORD})
            log.advance(step)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    with Log(tmp_path, 3, 10) as log:
        log.write({"step": 4.0, **RECORD})
    assert [json.loads(text)["step"] for text in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


def test_scalars_go_beside_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    writer = tensorboard(tmp_path)
    writer.add_scalar("geometry/score", 0.5, 20)
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"geometry/score" in events.read_bytes()
