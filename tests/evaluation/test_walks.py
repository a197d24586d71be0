"""A body is followed to where the simulator has it, and not where it does not go."""

from __future__ import annotations

import numpy as np
import torch

from diorama.evaluation.walks import color_likelihood, path_length, project, track_color, walks
from diorama.worlds.clip import make_clip

SIDE = 64


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
