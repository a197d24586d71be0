from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.scenes import make_body, make_scene

from diorama.geometry.cameras import Cameras
from diorama.geometry.classical import classical
from diorama.geometry.frames import footage_of
from diorama.geometry.sfm import SfmConfig
from diorama.geometry.trajectory import compare_trajectories
from diorama.worlds.cameras import cameras
from diorama.worlds.physics import simulate
from diorama.worlds.render import render
from diorama.worlds.scene import Body
from diorama.worlds.solids import rest_height

pytest.importorskip("pycolmap")
ALONE = SfmConfig(num_threads=1, time_limit=100)


def resting(shape: str, color: str, x: float, y: float, yaw: float) -> Body:
    body = make_body(shape=shape, color=color, yaw=yaw)
    return dataclasses.replace(body, position=(x, y, rest_height(body)))


def film(move: str, amount: float, count: int = 14) -> tuple[np.ndarray, Cameras]:
    """Return a rendered shot of a brick floor with things on it, and its true cameras."""
    bodies = (resting("box", "blue", -0.9, 0.3, 0.3), resting("cone", "pink", 0.8, 0.6, 0.0), resting("box", "white", 0.3, -0.7, 1.1))
    scene = make_scene(
        *bodies,
        move=move,
        target=(0.0, 0.0, 0.3),
        distance=4.2,
        azimuth=-amount / 2,
        elevation=0.5,
        amount=amount,
        field_of_view=0.75,
        floor="brick",
        floor_color=(0.62, 0.36, 0.29),
        backdrop="walls",
        sun_azimuth=1.0,
        width=160,
        height=160,
        num_frames=count,
    )
    shot = cameras(scene)
    frames = render(scene, simulate(scene), shot).frames.numpy()
    intrinsics = np.tile(shot.intrinsics.double().numpy(), (count, 1, 1))
    return frames, Cameras(intrinsics=intrinsics, world_to_camera=shot.world_to_camera.double().numpy(), width=160, height=160)


def test_a_rendered_orbit_is_found_where_it_was(tmp_path: Path) -> None:
    frames, true = film("orbit_left", 0.3, 10)
    seen: list[str] = []
    result = classical(footage_of(frames), tmp_path, config=ALONE, progress=lambda stage, done, total: seen.append(stage))
    assert result.gate.measurable
    assert result.cause == ""
    assert result.reconstruction is not None
    assert result.reconstruction.registration_rate == 1.0
    assert result.capture is not None
    assert result.tsed is not None
    assert result.tsed.consistent > 0.9
    np.testing.assert_array_equal(result.capture.frames.shape, frames.shape)
    assert compare_trajectories(result.capture.cameras, true).ate < 0.03
    assert list(dict.fromkeys(seen)) == ["extract", "epipolar", "masks", "match", "map"]
    assert set(result.seconds) == {"extract", "epipolar", "masks", "match", "map", "adjust"}


@pytest.mark.parametrize(("move", "amount", "why"), [("static", 0.0, "stands still"), ("pan_left", 0.35, "parallax")])
def test_rendered_shots_without_parallax_are_not_measurable(tmp_path: Path, move: str, amount: float, why: str) -> None:
    frames, _ = film(move, amount, 8)
    result = classical(footage_of(frames), tmp_path, config=ALONE)
    assert not result.gate.measurable
    assert why in result.cause
    assert result.reconstruction is None
    assert result.capture is None


def test_black_video_is_not_measurable(tmp_path: Path) -> None:
    result = classical(footage_of(np.zeros((6, 64, 64, 3), np.uint8)), tmp_path, config=ALONE)
    assert "nothing to follow" in result.cause


def test_a_failed_reconstruction_gives_its_cause(tmp_path: Path) -> None:
    frames, _ = film("orbit_left", 0.2, 6)
    result = classical(footage_of(frames), tmp_path, config=SfmConfig(num_threads=1, time_limit=0.05))
    assert "longer than 0.05 seconds" in result.cause
    assert result.capture is None
    assert result.tsed is None
