"""Light: shadows where something stands before the sun and nowhere else, sums that are exact, and mirrors that show the world."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diorama.worlds.scene import FINISHES, FLOORS, LIGHTS, SHAPES, Body, Light, Scene
from diorama.worlds.shading import trace
from diorama.worlds.stage import Rays, Stage

MakeBody = Callable[..., Body]
MakeScene = Callable[..., Scene]
MakeRays = Callable[..., Rays]
MakeStage = Callable[..., Stage]


def looking(make_rays: MakeRays, size: int = 40) -> Rays:
    """Return rays of a wide view of the middle from in front and above, [size * size]."""
    across, up = torch.meshgrid(torch.linspace(-0.8, 0.8, size), torch.linspace(-0.9, 0.5, size), indexing="ij")
    return make_rays(torch.tensor([0.0, -3.0, 1.2]), torch.stack([across, torch.ones_like(up), up], -1).view(-1, 3))


def seen(stage: Stage, rays: Rays, *, reflect: bool = True) -> Tensor:
    return torch.stack(trace(stage, rays, reflect=reflect).color, -1)


def below(make_rays: MakeRays, x: Tensor, y: Tensor, height: float) -> Rays:
    return make_rays(torch.stack([x, y, torch.full_like(x, height)], -1), torch.tensor([0.0, 0.0, -1.0]).expand(len(x), 3))


@pytest.mark.parametrize("light", LIGHTS)
def test_a_ball_in_the_air_shades_the_floor_behind_it_and_only_there(
    light: Light, make_body: MakeBody, make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage
) -> None:
    stage, empty = (make_stage(make_scene(make_body(position=(x, 0.0, 2.0)), light=light, sun_azimuth=0.4)) for x in (0.0, 200.0))
    reach = -2.0 / math.tan(stage.lighting.elevation)
    shadow = (reach * math.cos(0.4), reach * math.sin(0.4))
    # along a line across the sun's direction, from the middle of the shadow outwards, and once on the sunny side
    gap = torch.linspace(0, 1.5, 31)
    x, y = shadow[0] - gap * math.sin(0.4), shadow[1] + gap * math.cos(0.4)
    rays = below(make_rays, torch.cat([x, torch.tensor([-shadow[0]])]), torch.cat([y, torch.tensor([-shadow[1]])]), 1.0)
    share = seen(stage, rays) / seen(empty, rays)
    sun, ambient = torch.tensor(stage.lighting.sun) * stage.sun[2], torch.tensor(stage.lighting.ambient)
    torch.testing.assert_close(share[0], ambient / (ambient + sun), rtol=0.03, atol=0)
    torch.testing.assert_close(share[-2:], torch.ones(2, 3), rtol=0, atol=0.02)
    outward = share[:-1].mean(-1)
    assert (outward.diff() > -1e-4).all()
    soft = (outward > outward[0] + 0.02) & (outward < 0.97)
    assert int(soft.sum()) >= 2  # a penumbra, and no hard edge
    # the outline of the ball, 0.4 m out, is half in the sun
    assert float(outward[8]) == pytest.approx(float(outward[0] + outward[-1]) / 2, abs=0.04)


# before the sun, off its line, and behind the body
@pytest.mark.parametrize(("side", "rise", "lit"), [(1, 1, False), (-1, 1, True), (-1, -1, True)])
def test_a_body_between_another_and_the_sun_leaves_it_the_sky_alone(
    side: int, rise: int, lit: bool, make_body: MakeBody, make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage
) -> None:
    box = make_body(shape="box", color="green")
    sun = make_stage(make_scene()).sun
    between = make_body(color="blue", radius=0.3, position=(side * sun[0], side * sun[1], 0.8 + rise * sun[2]))
    stage = make_stage(make_scene(box, between))
    top = seen(stage, below(make_rays, torch.zeros(1), torch.zeros(1), 3.0))[0]
    light = torch.tensor(stage.lighting.ambient) + (torch.tensor(stage.lighting.sun) * sun[2] if lit else 0)
    torch.testing.assert_close(top, light * torch.tensor(stage.solids[0].albedo), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("backdrop", ["open", "walls"])
@pytest.mark.parametrize("light", LIGHTS)
def test_colours_stay_in_range(
    light: Light, backdrop: str, make_body: MakeBody, make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage
) -> None:
    rays = looking(make_rays)
    for number, floor in enumerate(FLOORS):
        bodies = [
            make_body(shape=shape, color="white", finish=FINISHES[(i + number) % 3], radius=0.3, position=(0.8 * i - 1.6, 0.0, 0.6))
            for i, shape in enumerate(SHAPES)
        ]
        color = seen(make_stage(make_scene(*bodies, floor=floor, floor_color=(0.85, 0.85, 0.85), light=light, backdrop=backdrop)), rays)
        assert color.isfinite().all()
        assert float(color.min()) >= 0
        # only highlights and mirrors pass 1, which the renderer clips
        assert float((color > 1).any(-1).float().mean()) < 0.1
        assert float(color.max()) < 2


@pytest.mark.parametrize("backdrop", ["open", "walls"])
def test_night_is_darker_than_day_on_every_surface(
    backdrop: str, make_body: MakeBody, make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage
) -> None:
    rays, scene = looking(make_rays), make_scene(make_body(), make_body(shape="box", color="cyan", position=(0.9, 0, 0.4)), backdrop=backdrop)
    day, night = (trace(make_stage(dataclasses.replace(scene, light=light)), rays) for light in ("day", "night"))
    assert torch.equal(day.surface, night.surface)
    parts = [part for part in day.surface.unique() if int((day.surface == part).sum()) > 5]
    assert len(parts) >= 4
    for part in parts:
        bright, dark = (torch.stack(view.color, -1)[day.surface == part].mean(0) for view in (day, night))
        assert (dark < 0.7 * bright).all()


def test_the_nearest_thing_is_seen(make_body: MakeBody, make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage) -> None:
    stage = make_stage(make_scene(make_body(position=(0.0, 2.0, 1.0)), make_body(color="blue", position=(0.0, 0.0, 1.0))))
    directions = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, -1.0, -0.5]])
    view = trace(stage, make_rays(torch.tensor([0.0, -3.0, 1.0]), directions))
    torch.testing.assert_close(view.distance, torch.tensor([2.6, math.inf, 2.0]))
    assert int(view.surface[0]) // 8 == 2
    assert int(view.surface[2]) == 0
    red, _, blue = torch.stack(view.color)[:, 0].tolist()
    assert blue > 2 * red


def test_rooms_have_walls_below_the_sky(make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage) -> None:
    stage = make_stage(make_scene(backdrop="walls"))
    half = stage.room[2]
    directions = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [1.0, 0.0, 1.0], [1.0, 0.0, -1.0]])
    view = trace(stage, make_rays(torch.tensor([0.0, 0.0, 1.4]), directions))
    torch.testing.assert_close(view.distance, torch.tensor([half, 2 * half, math.inf, 1.4]))
    assert len(set(view.surface.tolist())) == 4


def test_mirrors_show_the_world_and_matte_bodies_do_not(
    make_body: MakeBody, make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage
) -> None:
    rays = looking(make_rays)
    for finish, reflect, changes in (("mirror", True, True), ("mirror", False, False), ("matte", True, False), ("glossy", True, False)):
        ball = make_body(color="white", finish=finish, radius=0.5, position=(0.0, 0.0, 0.5))
        red, blue = (make_stage(make_scene(ball, make_body(color=color, position=(1.0, -0.5, 0.4)))) for color in ("red", "blue"))
        on_ball = trace(red, rays).surface // 8 == 1
        assert int(on_ball.sum()) > 50
        change = (seen(red, rays, reflect=reflect) - seen(blue, rays, reflect=reflect))[on_ball].abs().amax()
        assert float(change) > 0.2 if changes else float(change) == 0


def test_gloss_adds_a_highlight_and_takes_nothing(make_body: MakeBody, make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage) -> None:
    rays = looking(make_rays, 80)
    matte, glossy = (make_stage(make_scene(make_body(finish=finish, position=(0.0, 0.0, 1.0)), sun_azimuth=-1.5)) for finish in ("matte", "glossy"))
    added = seen(glossy, rays) - seen(matte, rays)
    assert float(added.min()) >= 0
    top = 0.55 * torch.tensor(matte.lighting.sun)
    assert (added.amax(0) <= top + 1e-5).all()
    assert (added.amax(0) > 0.8 * top).all()
    assert float((added.amax(-1) > 0.05).float().mean()) < 0.02  # it is small


def test_a_string_is_drawn_between_body_and_pivot_only(
    make_body: MakeBody, make_scene: MakeScene, make_rays: MakeRays, make_stage: MakeStage
) -> None:
    hung, loose = (make_stage(make_scene(make_body(motion=motion, position=(0.0, 0.0, 1.0)))) for motion in ("swing", "rest"))
    # halfway up, beside it, above the pivot at 4 m, below the body, and with the string behind us
    starts = torch.tensor([[0.0, -3.0, 2.5], [0.3, -3.0, 2.5], [0.0, -3.0, 4.3], [0.0, -3.0, 0.3], [0.0, 3.0, 2.5]])
    rays = make_rays(starts, torch.tensor([0.0, 1.0, 0.0]).expand(5, 3))
    change = (seen(hung, rays) / seen(loose, rays)).mean(-1)
    assert float(change[0]) < 0.7
    torch.testing.assert_close(change[1:], torch.ones(4))
    assert torch.equal(trace(hung, rays).distance, trace(loose, rays).distance)
