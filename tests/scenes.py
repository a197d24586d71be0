"""A plain body and a plain scene, which tests change to taste."""

from __future__ import annotations

import dataclasses
from typing import Any

from diorama.worlds.scene import Body, Camera, Scene

_BODY = Body(
    shape="sphere",
    color="red",
    size="medium",
    radius=0.4,
    finish="matte",
    motion="rest",
    direction="none",
    partner=None,
    position=(0.0, 0.0, 0.4),
    yaw=0.0,
    velocity=(0.0, 0.0, 0.0),
)
_CAMERA = Camera(move="static", target=(0.0, 0.0, 0.5), distance=4.0, azimuth=0.0, elevation=0.3, amount=0.0, field_of_view=0.8)
_SCENE = Scene(
    bodies=(_BODY,),
    floor="concrete",
    floor_color=(0.6, 0.6, 0.6),
    backdrop="open",
    light="day",
    sun_azimuth=0.0,
    camera=_CAMERA,
    width=64,
    height=64,
    num_frames=33,
    fps=12.0,
    seed=0,
)


def make_body(**changes: Any) -> Body:
    """Return a red ball at rest on the floor, with the fields given changed."""
    return dataclasses.replace(_BODY, **changes)


def make_scene(*bodies: Body, **changes: Any) -> Scene:
    """Return a scene of the bodies given (else one plain ball), with fields of the scene and of its camera changed."""
    of_camera = {field.name for field in dataclasses.fields(Camera)} & set(changes)
    shot = dataclasses.replace(_CAMERA, **{name: changes.pop(name) for name in of_camera})
    return dataclasses.replace(_SCENE, bodies=bodies or _SCENE.bodies, camera=shot, **changes)
