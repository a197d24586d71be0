"""Plain bodies, scenes, rays and stages that the tests of this room change to taste."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests import scenes

from diorama.worlds.cameras import cameras
from diorama.worlds.physics import Trajectory
from diorama.worlds.scene import Body, Scene
from diorama.worlds.solids import start_rotation
from diorama.worlds.stage import Rays, Stage, build_stage


@pytest.fixture(scope="session")
def make_body() -> Callable[..., Body]:
    """Return what makes a red ball at rest on the floor, with the fields given changed."""
    return scenes.make_body


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    """Return what makes a scene of the bodies given (else one plain ball), with fields of the scene and of its camera changed."""
    return scenes.make_scene


@pytest.fixture(scope="session")
def make_rays() -> Callable[..., Rays]:
    """Return what makes the rays of frame 0 from origins and directions [R, 3]."""

    def make(origin: torch.Tensor, direction: torch.Tensor) -> Rays:
        o, d = origin.expand_as(direction).unbind(-1), direction.unbind(-1)
        inverse = 1 / direction.norm(dim=-1)
        return Rays(origin=(o[0], o[1], o[2]), direction=(d[0], d[1], d[2]), inverse_length=inverse, frame=0, footprint=0.01)

    return make


@pytest.fixture(scope="session")
def make_stage() -> Callable[..., Stage]:
    """Return what makes the stage of a scene whose bodies stay where they start, turned by a quaternion if one is given."""

    def make(scene: Scene, turn: tuple[float, float, float, float] | None = None) -> Stage:
        places = torch.tensor([body.position for body in scene.bodies]).float()
        turns = torch.tensor([turn or start_rotation(body) for body in scene.bodies]).float()
        still = Trajectory(positions=places.expand(scene.num_frames, -1, -1), quaternions=turns.expand(scene.num_frames, -1, -1), contacts=())
        return build_stage(scene, still, cameras(scene), torch.device("cpu"))

    return make
