"""Each cause is named from the measurements that show it, with the frame or place that is to blame."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from diorama.geometry.agreement import Agreement
from diorama.geometry.classical import Classical
from diorama.geometry.epipolar import CurvePoint, Epipolar
from diorama.geometry.gate import Gate
from diorama.geometry.lens import Attempt
from diorama.geometry.sfm import Reconstruction
from diorama.geometry.verdict import Verdict, breaks, judge, mean_error

COUNT = 20
NAMES = [f"frame {i}" for i in range(COUNT)]
OPEN = Gate(measurable=True, cause="", motion=0.1, still=0.0, homography=0.4, parallax=0.6)
TRUE = Agreement(ties=(0.9,) * (COUNT - 1), regions=(0.95,) * 16, moving=0.02)


def model(registered: int = COUNT, length: int = 8, error: float = 0.4, sizes: tuple[int, ...] | None = None, **changes: object) -> Reconstruction:
    poses = np.tile(np.eye(4), (registered, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 1, registered)
    how: dict[str, object] = {
        "num_frames": COUNT,
        "width": 256,
        "height": 256,
        "registered": tuple(range(registered)),
        "model_sizes": sizes or (registered,),
        "world_to_camera": poses,
        "focal": 250.0,
        "points": np.random.default_rng(0).normal((0, 0, 5), 1, (50, 3)),
        "tracks": np.full(50, length),
        "errors": np.full(50, error),
    }
    return Reconstruction(**{**how, **changes})  # type: ignore[arg-type]


def told(reconstruction: Reconstruction | None, gate: Gate = OPEN, shared: tuple[float, ...] = (300.0, 250.0, 200.0)) -> Classical:
    how = {"num_pairs": 5, "num_matches": 400.0, "keep_ratio": 0.7, "mean_error": 0.6, "rmse": 0.8, "sampson": 0.5}
    curve = tuple(CurvePoint(distance=5 * i + 1, num_inliers=count, **how) for i, count in enumerate(shared))  # type: ignore[arg-type]
    epipolar = Epipolar(pairs=(), curve=curve, features=400.0)
    return Classical(epipolar=epipolar, gate=gate, movers=None, reconstruction=reconstruction, tsed=None, capture=None, seconds={})


def said(reconstruction: Reconstruction | None = None, **changes: object) -> Verdict:
    return judge(told(reconstruction or model()), dataclasses.replace(TRUE, **changes), NAMES)


def tied(*loose: int) -> tuple[float, ...]:
    return tuple(0.02 if i in loose else 0.9 for i in range(COUNT - 1))


def test_a_rigid_world() -> None:
    verdict = said()
    assert verdict.cause == "consistent"
    assert "20 of 20 frames" in verdict.sentence
    assert verdict.measurable


def test_a_choice_among_starts_is_told() -> None:
    free = Attempt(start=None, registered=COUNT, focal=3.64, track_length=8.0, reprojection_error=1.3, points_per_frame=300.0)
    held = dataclasses.replace(free, start=0.8, focal=0.47)
    assert not any("lens" in remark for remark in said(model(attempts=(free,))).remarks)
    assert "a lens of 3.6 frame widths; taken is one with the lens held at 0.8" in said(model(attempts=(free, held), chosen=1)).remarks[0]
    assert "none was better" in said(model(attempts=(free, held), chosen=0)).remarks[0]


def test_a_shut_gate_gives_its_reason() -> None:
    shut = dataclasses.replace(OPEN, measurable=False, cause="not enough parallax: it only turns")
    verdict = judge(told(None, shut), None, NAMES)
    assert (verdict.cause, verdict.measurable) == ("not measurable", False)
    assert verdict.sentence == "Not measurable: not enough parallax: it only turns."


def test_a_scene_in_which_nothing_lasts_is_told_from_a_camera_that_stands_still() -> None:
    shut = dataclasses.replace(OPEN, measurable=False, cause="the camera stands still", still=0.2)
    verdict = judge(told(None, shut, (65.0, 11.0, 5.0)), None, NAMES)
    assert (verdict.cause, verdict.measurable) == ("dissolves", True)
    assert "share 65 points, and frames 11 apart only 5" in verdict.sentence
    assert judge(told(None, dataclasses.replace(shut, still=0.9), (65.0, 11.0, 5.0)), None, NAMES).cause == "not measurable"
    assert judge(told(None, shut, (5.0, 3.0, 0.0)), None, NAMES).cause == "not measurable"


def test_an_outlier_is_named() -> None:
    verdict = said(ties=tied(6, 7))
    assert verdict.cause == "outlier"
    assert verdict.sentence.startswith("Frame 7 is an outlier")
    assert said(ties=tied(6, 7, 12, 13)).sentence.startswith("Frame 7 and frame 13 are outliers")
    lost = model(registered=19)
    assert said(lost).cause == "outlier"
    assert "Frame 19" in said(lost).sentence


def test_a_cut_is_named() -> None:
    verdict = said(model(registered=11), ties=tied(10))
    assert verdict.cause == "cut"
    assert "frame 11" in verdict.sentence


def test_mixed_scenes() -> None:
    assert said(model(registered=10), ties=tied(*range(COUNT - 1))).cause == "mixed scenes"


def test_no_model_says_why() -> None:
    failed = Reconstruction(num_frames=COUNT, width=256, height=256, failure="it took longer than 3 seconds")
    verdict = said(failed)
    assert verdict.cause == "no model"
    assert "longer than 3 seconds" in verdict.sentence


def test_a_breathing_scene_is_told_from_a_moving_object() -> None:
    breathing = said(model(length=3), moving=0.8, regions=(0.2,) * 16)
    assert breathing.cause == "breathes"
    assert "breathes" in breathing.sentence
    assert "3.0 frames" in breathing.sentence
    patch = [0.9] * 16
    for index in (5, 6, 9, 10):
        patch[index] = 0.1
    moving = said(moving=0.2, regions=tuple(patch))
    assert moving.cause == "moves"
    assert "the middle" in moving.sentence
    corner = [0.1, math.nan] + [0.9] * 14
    assert "the top left" in said(regions=tuple(corner)).sentence


def test_pieces_and_loose_worlds() -> None:
    assert said(model(registered=12, sizes=(12, 7))).cause == "torn"
    assert "2 pieces" in said(model(registered=12, sizes=(12, 7))).sentence
    assert said(model(length=3)).cause == "weak"
    assert said(model(error=2.0)).cause == "weak"


@pytest.mark.parametrize(("ties", "found"), [((), []), ((0.9, 0.1, 0.9), [1]), ((0.4, 0.35, 0.45), []), ((0.0, 0.05, 0.0), [0, 1, 2])])
def test_breaks_are_relative_to_what_is_usual(ties: tuple[float, ...], found: list[int]) -> None:
    assert breaks(ties) == found


def test_a_point_behind_a_camera_does_not_drown_the_others() -> None:
    errors = np.full(50, 0.5)
    errors[7] = 1e150  # what COLMAP has for it
    assert mean_error(model(errors=errors)) == pytest.approx((49 * 0.5 + 20) / 50)
    assert said(model(errors=errors)).cause == "consistent"
    assert math.isnan(mean_error(Reconstruction(num_frames=3, width=8, height=8, failure="none")))
