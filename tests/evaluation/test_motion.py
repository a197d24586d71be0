"""Known steps and motions are measured as what they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.views import view

from diorama.evaluation.motion import flow_steps, photometric_steps


def test_photometric_steps_are_differences_and_close_a_ring() -> None:
    frames = np.zeros((4, 8, 8, 3), np.uint8) + np.array([0, 10, 30, 30], np.uint8)[:, None, None, None]
    steps = photometric_steps(frames)
    assert math.isnan(float(steps[0]))
    assert steps[1:].tolist() == [10, 20, 0]
    assert photometric_steps(frames, ring=True).tolist() == [30, 10, 20, 0]


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
