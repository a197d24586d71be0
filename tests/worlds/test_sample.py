"""Sampling: rules that every drawn scene keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from diorama.errors import InputError
from diorama.worlds.cameras import cameras
from diorama.worlds.physics import simulate
from diorama.worlds.render import render
from diorama.worlds.sample import sample_scene
from diorama.worlds.scene import Scene, held_out

SIZES = [(128, 128), (176, 96), (96, 176)]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(seed, width=SIZES[seed % 3][0], height=SIZES[seed % 3][1]) for seed in range(24)]


def test_a_seed_gives_one_scene() -> None:
    first, again, other = (sample_scene(seed, num_frames=9) for seed in (5, 5, 6))
    assert first == again != other


def test_training_never_sees_held_out_pairs(scenes: list[Scene]) -> None:
    assert not any(held_out(b.color, b.shape) for s in scenes for b in s.bodies)
    for seed in range(4):
        assert any(held_out(b.color, b.shape) for b in sample_scene(seed, split="held_out", num_frames=1).bodies)


def test_colours_differ_within_a_scene(scenes: list[Scene]) -> None:
    assert all(len({b.color for b in s.bodies}) == len(s.bodies) for s in scenes)


def test_the_words_vary(scenes: list[Scene]) -> None:
    assert {len(s.bodies) for s in scenes} >= {1, 2, 3}
    assert len({s.bodies[0].motion for s in scenes}) >= 6
    assert len({s.camera.move for s in scenes}) >= 7
    assert {s.light for s in scenes} == {"day", "sunset", "night"}
    assert {b.shape for s in scenes for b in s.bodies} == {"sphere", "box", "cylinder", "cone", "capsule"}


def test_motions_fit_their_shapes(scenes: list[Scene]) -> None:
    for scene in scenes:
        for body in scene.bodies:
            if body.motion == "roll":
                assert body.shape in ("sphere", "cylinder", "capsule")
            if body.motion == "slide":
                assert body.shape != "sphere"
            assert (body.partner is not None) == (body.motion in ("collide", "pass_behind"))
            assert (body.direction == "none") == (body.motion in ("rest", "bounce", "fall", "swing"))
        if len(scene.bodies) == 1:
            assert scene.bodies[0].motion not in ("collide", "pass_behind")


def test_bodies_touch_only_where_they_collide(scenes: list[Scene]) -> None:
    for scene in scenes:
        touched = {(a, b) for _, a, b in simulate(scene).contacts if b >= 0}
        assert touched == {tuple(sorted((i, b.partner))) for i, b in enumerate(scene.bodies) if b.motion == "collide" and b.partner is not None}


def test_named_directions_are_seen_in_the_first_camera(scenes: list[Scene]) -> None:
    checked = 0
    for scene in scenes:
        matrix = cameras(scene).world_to_camera[0, :3, :3]
        for body in scene.bodies:
            if body.direction == "none":
                continue
            x, _, z = (matrix @ torch.tensor(body.velocity)).tolist()
            seen = ("left" if x < 0 else "right") if abs(x) > abs(z) else ("toward" if z < 0 else "away")
            assert seen == body.direction
            checked += 1
    assert checked >= 5


def test_every_body_is_whole_in_every_frame(scenes: list[Scene]) -> None:
    for scene in scenes[:6]:
        few = dataclasses.replace(scene, width=scene.width // 2, height=scene.height // 2)
        trajectory, shot = simulate(few), cameras(few)
        ids = render(few, trajectory, shot, samples=1).instances.numpy()
        rim = np.concatenate([ids[:, 0].ravel(), ids[:, -1].ravel(), ids[:, :, 0].ravel(), ids[:, :, -1].ravel()])
        assert rim.max() == 0
        assert set(np.unique(ids[0])) == set(range(len(scene.bodies) + 1))


def test_what_passes_behind_is_hidden_on_the_way() -> None:
    for seed in range(60):
        scene = sample_scene(seed, width=48, height=48, num_frames=17, num_bodies=2)
        if scene.bodies[0].motion == "pass_behind":
            break
    area = (render(scene, simulate(scene), cameras(scene), samples=1).instances == 1).sum((1, 2)).float()
    assert float(area.min()) < 0.6 * float(area[0])


@pytest.mark.parametrize("num_frames", [1, 17])
def test_stills_and_short_clips_are_drawn(num_frames: int) -> None:
    for seed in range(2):
        assert sample_scene(seed, num_frames=num_frames, width=80, height=112).num_frames == num_frames


def test_the_number_of_bodies_can_be_asked_for() -> None:
    assert [len(sample_scene(3, num_frames=1, num_bodies=n).bodies) for n in (1, 3)] == [1, 3]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match="1 to 4"):
        sample_scene(0, num_bodies=5)
    with pytest.raises(InputError, match="train, held_out, any"):
        sample_scene(0, split="test")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="above 0"):
        sample_scene(0, num_frames=0)
