"""Joins, borders and mixes are measured as what they are."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.views import SIDE, view

from diorama.evaluation.judge import Judge, JudgeConfig
from diorama.evaluation.seams import (
    STEP_FLOOR,
    SeamScore,
    Spliced,
    border_ratio,
    color_drift,
    cross_fade,
    mix_residual,
    spread,
    step_ratios,
)
from diorama.worlds.sample import sample_scene


def test_a_ratio_is_against_the_other_steps_and_still_clips_have_a_floor() -> None:
    steps = torch.tensor([math.nan, 2.0, 2.0, 6.0, 2.0, 4.0, 2.0])
    assert step_ratios(steps, [3, 5], STEP_FLOOR).tolist() == [3.0, 2.0]
    still = torch.tensor([0.0, 0.1, 0.0, 0.0, 5.0])
    assert step_ratios(still, [1, 4], STEP_FLOOR).tolist() == [1.0, 10.0]
    assert math.isnan(float(step_ratios(steps, [0], STEP_FLOOR)))


def test_a_border_is_seen_where_it_is() -> None:
    frames = view([(0, 0), (1, 0)]) // 2
    assert border_ratio(frames, (16, 0, 48, SIDE)) == pytest.approx(1.0, abs=0.5)
    frames[:, :, 16:48] += 60
    assert border_ratio(frames, (16, 0, 48, SIDE)) > 5
    assert border_ratio(frames, (24, 0, 40, SIDE)) < 2
    assert math.isnan(border_ratio(frames, (0, 0, SIDE, SIDE)))


def test_a_cross_fade_is_a_mix_and_another_picture_is_not() -> None:
    one, two, other = (view([(0, 0)], seed)[0] for seed in (1, 2, 3))
    fade = np.concatenate([one[None], cross_fade(one[None], two[None], 3), two[None]])
    assert np.abs(fade[2].astype(int) * 2 - one - two).max() <= 1
    assert float(mix_residual(fade, one, two).max()) < 1e-3
    strange = np.stack([other, np.full_like(other, 90)])
    left = mix_residual(strange, one, two)
    assert float(left[0]) > 0.7
    assert float(left[1]) == 0
    own = mix_residual(fade, np.stack([one] * 5), np.stack([two] * 5))
    torch.testing.assert_close(own, mix_residual(fade, one, two))


def test_mixing_a_picture_with_itself_is_no_accident() -> None:
    one = view([(0, 0)], 1)[0]
    assert float(mix_residual(one[None], one, one)) == pytest.approx(0, abs=1e-9)


def test_drift_is_that_of_the_worst_channel() -> None:
    frames = np.full((6, 8, 8, 3), 100, np.uint8)
    frames[4:] += np.array([1, 0, 3], np.uint8)
    assert color_drift(frames, 2) == 3
    assert color_drift(frames, 4) == 1.5


@pytest.fixture(scope="module")
def judge() -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Judge(JudgeConfig(num_frames=2, area=1024, widths=(8, 8, 16), reach=1, num_heads=2, depth=1)).eval()


def joined(step: int, places: int = 9) -> Spliced:
    """Return a texture that moves evenly and jumps by ``step`` at its middle; the first half was given."""
    frames = view([(i + step * (i >= places // 2), 0) for i in range(places)])
    known = np.zeros(frames.shape[:3], bool)
    known[: places // 2] = True
    return Spliced(frames=frames, joins=[places // 2], given=frames, known=known, seconds=2.0)


def test_a_row_says_what_was_measured(tmp_path: Path, judge: Judge) -> None:
    scene = sample_scene(1, width=SIDE, height=SIDE, num_frames=2)
    smooth, broken = SeamScore(), SeamScore()
    for line, step in ((smooth, 0), (broken, 4)):
        clip = joined(step)
        line.add(dataclasses.replace(clip, asked=[(clip.frames, scene)]), judge, tmp_path / "clip.mp4", 12.0)
    (good,), (bad,) = smooth.rows("smooth", judged=True), broken.rows("broken", judged=True)
    assert len(good) == 1 + len(SeamScore.HEAD)
    assert (good[0], good[1], good[5], good[-1]) == ("smooth", "equal", "1.3 met", "2.0")
    assert 20 < float(good[2]) < 60
    assert bad[5] == "1.3 missed"
    assert float(bad[3].split()[0]) > 2
    assert float(good[3].split()[0]) == pytest.approx(1, abs=0.2)
    (quiet,) = broken.rows("broken", judged=False)
    assert quiet[5] == ""
    assert set(good[6:11]) <= {"0", "100"}


def test_a_wrap_has_a_row_and_a_goal_of_its_own(tmp_path: Path, judge: Judge) -> None:
    ring = view([(round(4 * math.sin(math.tau * i / 12)), round(4 * math.cos(math.tau * i / 12))) for i in range(12)])
    both, alone = SeamScore(), SeamScore()
    both.add(Spliced(frames=ring, joins=[0, 6]), judge, tmp_path / "clip.mp4", 12.0)
    alone.add(Spliced(frames=ring, joins=[0], seconds=1.0), judge, tmp_path / "clip.mp4", 12.0)
    names = [row[0] for row in both.rows("loop", judged=True)]
    assert names == ["loop", "loop, wrap"]
    (row,) = alone.rows("loop", judged=True)
    assert (row[0], row[1], row[-1]) == ("loop, wrap", "-", "1.0")
    assert row[5].startswith("1.2")


def test_kept_frames_are_those_known() -> None:
    clip = joined(0)
    spoiled = clip.frames.copy()
    spoiled[-1] = 0
    assert clip.kept(spoiled) == math.inf
    spoiled[0] ^= 1
    assert 48 < clip.kept(spoiled) < 60
    assert math.isnan(Spliced(frames=clip.frames).kept(clip.frames))


def test_spread() -> None:
    assert spread([1.0, 3.0, math.nan, 2.0]) == "2.00 (2.80)"
    assert spread([math.nan]) == "-"
