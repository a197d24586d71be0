"""The renderer against geometry: depth of the floor, area of a ball, and equal frames however rays are grouped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from diorama.errors import InputError
from diorama.worlds.cameras import cameras
from diorama.worlds.physics import simulate
from diorama.worlds.render import Rendering, render
from diorama.worlds.scene import COLORS, LIGHTS, Body, Light, Scene


@pytest.fixture
def ball(make_body: Callable[..., Body]) -> Body:
    return make_body(radius=0.5, position=(0.0, 0.0, 0.5))


@pytest.fixture
def box(make_body: Callable[..., Body]) -> Body:
    return make_body(shape="box", color="blue", radius=0.35, position=(1.1, 0.3, 0.35), yaw=0.5, finish="glossy")


@pytest.fixture
def world(make_scene: Callable[..., Scene], ball: Body) -> Scene:
    shot = {"move": "orbit_left", "azimuth": 0.2, "elevation": 0.35, "amount": 0.5, "field_of_view": 0.7}
    return make_scene(ball, floor="checker", floor_color=(0.8, 0.8, 0.8), sun_azimuth=-1.0, width=96, height=64, num_frames=3, **shot)


def draw(scene: Scene, **options: int) -> Rendering:
    return render(scene, simulate(scene), cameras(scene), **{"samples": 4, **options})


def test_points_of_the_floor_lie_on_it(world: Scene) -> None:
    seen, shot = draw(world), cameras(world)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    directions = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(shot.intrinsics).T
    for frame in range(3):
        local = directions * seen.depth[frame][..., None]
        to_world = torch.linalg.inv(shot.world_to_camera[frame])
        height = (local @ to_world[:3, :3].T + to_world[:3, 3])[..., 2]
        floor = (seen.instances[frame] == 0) & (seen.depth[frame] < 50)
        assert int(floor.sum()) > 1000
        assert float(height[floor].abs().max()) < 2e-3
        body = height[seen.instances[frame] == 1]
        assert float(body.min()) > 0
        assert float(body.max()) < 1.001


def test_a_ball_on_the_axis_covers_the_area_of_its_outline(world: Scene) -> None:
    scene = dataclasses.replace(world, width=256, height=256, num_frames=1)
    area = int((draw(scene, samples=1).instances == 1).sum())
    focal = 128 / math.tan(0.35)
    radius = focal * 0.5 / math.sqrt(4.0**2 - 0.5**2)
    assert area == pytest.approx(math.pi * radius**2, rel=0.01)


def test_depth_of_the_nearest_point_of_a_ball(world: Scene) -> None:
    scene = dataclasses.replace(world, width=65, height=65, num_frames=1)
    assert float(draw(scene).depth[0, 32, 32]) == pytest.approx(3.5, abs=1e-4)


def test_sky_is_infinitely_far(world: Scene) -> None:
    scene = dataclasses.replace(world, camera=dataclasses.replace(world.camera, elevation=0.1))
    seen = draw(scene)
    assert bool(seen.depth[:, 0].isinf().all())
    assert bool(seen.depth[:, -1].isfinite().all())


@pytest.mark.parametrize("backdrop", ["open", "walls"])
def test_grouping_rays_does_not_change_the_picture(backdrop: str, world: Scene, ball: Body, box: Body) -> None:
    mirror = dataclasses.replace(ball, finish="mirror", color="cyan", position=(-1.0, 0.6, 0.5))
    swing = dataclasses.replace(ball, motion="swing", color="green", radius=0.25, position=(0, 0.5, 1.2), velocity=(1.0, 0.2, 0))
    kinds = [
        dataclasses.replace(box, shape=s, position=(1.3, y, 0.9), motion="fall") for s, y in (("cone", -1.0), ("cylinder", 0.5), ("capsule", 2.0))
    ]
    scene = dataclasses.replace(world, bodies=(box, mirror, swing, *kinds), backdrop=backdrop)  # type: ignore[arg-type]
    trajectory, shot = simulate(scene), cameras(scene)
    whole = render(scene, trajectory, shot)
    assert set(whole.instances.unique().tolist()) >= {0, 1, 2, 3, 4}
    for chunk in (1501, 96 * 64 * 2):
        other = render(scene, trajectory, shot, chunk=chunk)
        assert torch.equal(whole.instances, other.instances)
        difference = (whole.frames.int() - other.frames.int()).abs()
        # rays of several frames read the same poses from tensors in place of numbers, which rounds the last bit otherwise
        assert int(difference.max()) <= 2
        assert float((difference > 0).float().mean()) < 0.01


def test_the_same_scene_gives_the_same_bytes(world: Scene, ball: Body, box: Body) -> None:
    scene = dataclasses.replace(world, bodies=(ball, box))
    first, second = draw(scene), draw(scene)
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.depth, second.depth)


def test_anti_aliasing_comes_close_to_many_samples(world: Scene, ball: Body, box: Body) -> None:
    scene = dataclasses.replace(world, bodies=(ball, box), num_frames=1)
    truth = draw(scene, samples=64).frames.float()
    plain, smooth = ((draw(scene, samples=n).frames.float() - truth).square().mean() for n in (1, 6))
    assert float(smooth) < 0.2 * float(plain)


@pytest.mark.parametrize("light", LIGHTS)
def test_colours_are_told_apart_in_every_light(light: Light, world: Scene, ball: Body) -> None:
    means = []
    for color in COLORS:
        scene = dataclasses.replace(world, bodies=(dataclasses.replace(ball, color=color),), light=light, width=32, height=32, num_frames=1)
        seen = draw(scene, samples=1)
        means.append(seen.frames[seen.instances == 1].float().mean(0))
    gaps = torch.cdist(torch.stack(means), torch.stack(means)) + 1e3 * torch.eye(len(means))
    assert float(gaps.min()) > 20


def test_a_body_throws_a_shadow_away_from_the_sun(world: Scene) -> None:
    scene = dataclasses.replace(world, floor="concrete", camera=dataclasses.replace(world.camera, azimuth=0.0), num_frames=1, sun_azimuth=0.0)
    seen = draw(scene)
    # the sun stands to the right (+x), so that the shadow lies to the left, about 0.8 m or 17 pixels from the middle
    assert float(seen.frames[0, 42, 31].float().mean()) < 0.75 * float(seen.frames[0, 42, 65].float().mean())


def test_no_rays_is_an_error(world: Scene) -> None:
    with pytest.raises(InputError, match="at least 1"):
        draw(world, samples=0)


def test_the_first_frames_alone_can_be_drawn(world: Scene) -> None:
    whole, first = draw(world), draw(world, num_frames=1)
    assert torch.equal(first.instances, whole.instances[:1])
    assert int((first.frames.int() - whole.frames[:1].int()).abs().max()) <= 2  # see the test of grouping rays
    with pytest.raises(InputError, match="allowed is 1 to"):
        draw(world, num_frames=world.num_frames + 1)
