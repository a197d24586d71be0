"""Known steps, motions, mixes and paths are measured as what they are."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from diorama.evaluation.judge import Judge, JudgeConfig
from diorama.evaluation.seams import (
    STEP_FLOOR,
    SeamScore,
    Spliced,
    border_ratio,
    color_drift,
    color_likelihood,
    cross_fade,
    flow_steps,
    mix_residual,
    optical_flow,
    path_length,
    photometric_steps,
    project,
    spread,
    step_ratios,
    track_color,
    walks,
)
from diorama.media import Pixels
from diorama.worlds.clip import make_clip
from diorama.worlds.sample import sample_scene

SIDE = 64


def texture(seed: int = 0, side: int = 160) -> torch.Tensor:
    """Return a smooth random picture ``[3, side, side]`` in levels."""
    coarse = torch.rand(1, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)[0] * 255


def view(places: list[tuple[int, int]], seed: int = 0) -> Pixels:
    """Return frames of a texture that has moved by ``places`` to the right and down."""
    big = texture(seed)
    frames = [big[:, 48 - y : 48 - y + SIDE, 48 - x : 48 - x + SIDE].permute(1, 2, 0) for x, y in places]
    return torch.stack(frames).round().byte().numpy()


def test_photometric_steps_are_differences_and_close_a_ring() -> None:
    frames = np.zeros((4, 8, 8, 3), np.uint8) + np.array([0, 10, 30, 30], np.uint8)[:, None, None, None]
    steps = photometric_steps(frames)
    assert math.isnan(float(steps[0]))
    assert steps[1:].tolist() == [10, 20, 0]
    assert photometric_steps(frames, ring=True).tolist() == [30, 10, 20, 0]


def test_a_ratio_is_against_the_other_steps_and_still_clips_have_a_floor() -> None:
    steps = torch.tensor([math.nan, 2.0, 2.0, 6.0, 2.0, 4.0, 2.0])
    assert step_ratios(steps, [3, 5], STEP_FLOOR).tolist() == [3.0, 2.0]
    still = torch.tensor([0.0, 0.1, 0.0, 0.0, 5.0])
    assert step_ratios(still, [1, 4], STEP_FLOOR).tolist() == [1.0, 10.0]
    assert math.isnan(float(step_ratios(steps, [0], STEP_FLOOR)))


@pytest.mark.parametrize("move", [(0, 0), (1, 0), (2, -3), (-5, 4)])
def test_flow_of_a_known_shift(move: tuple[int, int]) -> None:
    frames = view([(0, 0), move])
    flow = optical_flow(frames[:1], frames[1:])
    assert flow.shape == (1, SIDE // 2, SIDE // 2, 2)
    error = (flow - torch.tensor(move)).norm(dim=-1)
    assert float(error.median()) < 0.2
    assert (move != (0, 0)) or float(error.max()) == 0


def test_steady_motion_has_no_flow_step_and_a_turn_has() -> None:
    steady = flow_steps(view([(2 * i, 0) for i in range(9)]))
    turned = flow_steps(view([(2 * min(i, 9 - i), 0) for i in range(9)]))  # forth, a step of nothing, back
    assert math.isnan(float(steady[0]))
    assert float(steady[1:].max()) < 0.15
    # Where slopes point all ways, a change along any one of them is seen with its length over the square root of 2.
    assert float(turned[5]) == pytest.approx(2 / math.sqrt(2), abs=0.2)
    assert float(turned[[1, 2, 3, 7, 8]].max()) < 0.3
    # The brightness changes as much at every other step, so that flow alone shows the turn.
    assert float(photometric_steps(view([(2 * min(i, 9 - i), 0) for i in range(9)]))[5]) == 0


def test_a_ring_is_measured_alike_wherever_it_is_cut() -> None:
    frames = view([(round(6 * math.sin(math.tau * i / 12)), round(6 * math.cos(math.tau * i / 12))) for i in range(12)])
    for measure in (photometric_steps, flow_steps):
        torch.testing.assert_close(measure(np.roll(frames, 5, 0), ring=True), measure(frames, ring=True).roll(5), rtol=1e-3, atol=1e-3)


def test_two_frames_have_no_change_of_motion() -> None:
    assert bool(flow_steps(view([(0, 0), (1, 0)])).isnan().all())


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


def test_paths_and_places() -> None:
    assert path_length(torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])) == 6
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.0, 0.0, 2.0])
    intrinsics = torch.tensor([[50.0, 0.0, 32.0], [0.0, 50.0, 32.0], [0.0, 0.0, 1.0]])
    assert project(torch.tensor([[1.0, -1.0, 3.0]]), pose[None], intrinsics).tolist() == [[42.0, 22.0]]


def test_an_object_of_a_rendered_world_is_followed_to_where_the_simulator_has_it() -> None:
    world = make_clip(10_000_003, split="held_out", num_frames=17)
    frames, mask = world.frames.numpy(), world.instances == 1
    truth = project(world.trajectory.positions[:, 0], world.cameras.world_to_camera, world.cameras.intrinsics)
    likelihood = color_likelihood(frames[:9], mask[:9])
    places, found = track_color(frames[9:], likelihood, truth[8], float(mask[8].sum()))
    assert bool(found.all())
    assert path_length(truth[8:]) > 8
    assert float((places - truth[9:]).norm(dim=1).max()) < 3


def test_an_object_that_is_gone_is_not_found() -> None:
    frames = np.full((6, SIDE, SIDE, 3), 40, np.uint8)
    mask = torch.zeros(6, SIDE, SIDE, dtype=torch.bool)
    for i in range(6):
        if i < 4:
            frames[i, 20:30, 10 + 3 * i : 20 + 3 * i] = (220, 30, 30)
            mask[i, 20:30, 10 + 3 * i : 20 + 3 * i] = True
    likelihood = color_likelihood(frames[:2], mask[:2])
    places, found = track_color(frames[2:], likelihood, torch.tensor([18.0, 25.0]), 100.0)
    assert found.tolist() == [True, True, False, False]
    torch.testing.assert_close(places[:2], torch.tensor([[21.0, 25.0], [24.0, 25.0]]), rtol=0, atol=0.3)
    assert places[2:].tolist() == places[[1, 1]].tolist()


def test_following_fails_where_the_body_goes_elsewhere() -> None:
    for backward in (False, True):
        walk = next(walks(10_000_200, backward=backward, known=9, secret=4, shortest=4.0))
        frames = walk.world.frames.numpy()
        assert list(walk.order) == ([4, 3, 2, 1, 0] if backward else [8, 9, 10, 11, 12])
        assert len(frames[walk.known]) == 9
        errors, lost = walk.errors(frames[list(walk.order[1:])])
        assert (float(errors.max()) <= 3, lost) == (True, 0.0)
        still, _ = walk.errors(frames[[walk.order[0]] * 4])
        torch.testing.assert_close(still, (walk.path[1:] - walk.path[0]).norm(dim=1), rtol=0, atol=0.01)


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
