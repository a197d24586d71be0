"""Motion from MuJoCo: a scene in, every body's pose at every frame out, with the contacts.

The floor is rigid; sliding bodies have little friction, bouncing ones a high restitution. Nothing here is random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diorama.errors import MissingExtraError
from diorama.worlds.scene import Body, Motion, Scene
from diorama.worlds.solids import half_height, pendulum_length, rest_height, rolls, rotation_matrix, start_rotation

__all__ = ["Trajectory", "simulate"]

_STEP = 0.004
_STIFFNESS = 12000.0
_FRICTION: dict[Motion, float] = {
    "slide": 0.05,
    "collide": 0.05,
    "pass_behind": 0.05,
    "rest": 0.45,
    "bounce": 0.3,
    "fall": 0.6,
    "roll": 0.8,
    "swing": 0.3,
}
_RESTITUTION: dict[Motion, float] = {"bounce": 0.86, "fall": 0.25, "collide": 0.6}
_PRIORITY: dict[Motion, int] = {"bounce": 5, "collide": 4, "slide": 3, "pass_behind": 3, "roll": 3, "fall": 2, "swing": 2, "rest": 1}


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Where every body is at every frame."""

    positions: Tensor
    """Centres, float32 [T, N, 3], metres."""
    quaternions: Tensor
    """Unit rotations from body to world axes (w, x, y, z), float32 [T, N, 4]."""
    contacts: tuple[tuple[int, int, int], ...]
    """``(frame, a, b)``: bodies a < b touched between the frame before and this one; ``(frame, a, -1)`` is a with the floor."""


def simulate(scene: Scene) -> Trajectory:
    """Run the scene's physics.

    Args:
        scene: What to simulate; its camera plays no part.

    Returns:
        The poses at times ``frame / fps``.

    Raises:
        MissingExtraError: MuJoCo is not installed.
    """
    try:
        import mujoco
    except ImportError as error:
        raise MissingExtraError("mujoco", "train", "simulating worlds") from error
    model = _compile(scene, mujoco)
    data = mujoco.MjData(model)
    _start(scene, model, data)
    mujoco.mj_forward(model, data)
    steps = max(1, round(1 / scene.fps / _STEP))
    model.opt.timestep = 1 / scene.fps / steps
    bodies = np.arange(len(scene.bodies)) + 1
    positions, quaternions, contacts = [], [], []
    for frame in range(scene.num_frames):
        touched = _touching(data)
        for _ in range(steps if frame else 0):
            mujoco.mj_step(model, data)
            touched |= _touching(data)
        contacts += [(frame, *pair) for pair in sorted(touched)]
        positions.append(data.xpos[bodies].copy())
        quaternions.append(data.xquat[bodies].copy())
    return Trajectory(
        positions=torch.from_numpy(np.stack(positions)).float(),
        quaternions=torch.from_numpy(np.stack(quaternions)).float(),
        contacts=tuple(contacts),
    )


def _compile(scene: Scene, mujoco: ModuleType) -> Any:
    spec = mujoco.MjSpec()
    spec.option.timestep = _STEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], friction=[0.4, 0.005, 0.0001], condim=6)
    struck = {body.partner for body in scene.bodies if body.motion == "collide"}
    for index, body in enumerate(scene.bodies):
        node = spec.worldbody.add_body(name=f"body{index}", pos=body.position, quat=start_rotation(body))
        if body.motion == "swing":
            _hang(scene, body, node, mujoco)
        else:
            node.add_freejoint()
        friction = 0.8 if rolls(body) else 0.1 if index in struck else _FRICTION[body.motion]
        geom = node.add_geom(
            # mass grows slower than volume, and what hits is heavier, so that a small body moves a large one visibly
            mass=body.radius * (2.0 if body.motion == "collide" else 1.0),
            friction=[friction, 0.005, 0.0002 if rolls(body) else 0.01],
            condim=6,
            priority=_PRIORITY[body.motion],
            solref=_solref(_RESTITUTION.get(body.motion, 0.0)),
        )
        _shape(spec, geom, body, index, mujoco)
    return spec.compile()


def _solref(restitution: float) -> list[float]:
    """Return MuJoCo's (-stiffness, -damping) of a linear spring contact with this restitution. Source: e = exp(-pi z / sqrt(1 - z^2))."""
    if restitution <= 0:
        return [0.02, 1.0]
    log = math.log(restitution)
    ratio = -log / math.hypot(math.pi, log)
    return [-_STIFFNESS, -2 * ratio * math.sqrt(_STIFFNESS)]


def _shape(spec: Any, geom: Any, body: Body, index: int, mujoco: ModuleType) -> None:
    kind, r, h = mujoco.mjtGeom, body.radius, half_height(body.shape, body.radius)
    if body.shape == "sphere":
        geom.type, geom.size = kind.mjGEOM_SPHERE, [r, 0, 0]
    elif body.shape == "box":
        geom.type, geom.size = kind.mjGEOM_BOX, [r, r, r]
    elif body.shape == "cylinder":
        geom.type, geom.size = kind.mjGEOM_CYLINDER, [r, h, 0]
    elif body.shape == "capsule":
        geom.type, geom.size = kind.mjGEOM_CAPSULE, [r, h - r, 0]
    else:
        angles = np.arange(24) * math.tau / 24
        ring = np.stack([r * np.cos(angles), r * np.sin(angles), np.full(24, -h)], -1)
        vertices = np.concatenate([ring, [[0, 0, h]]])
        spec.add_mesh(name=f"cone{index}", uservert=vertices.flatten().tolist())
        geom.type, geom.meshname = kind.mjGEOM_MESH, f"cone{index}"


def _hang(scene: Scene, body: Body, node: Any, mujoco: ModuleType) -> None:
    """Tie a swinging body to a point above its start, turning about the level axis across its velocity."""
    vx, vy, _ = body.velocity
    to_body = rotation_matrix(np.array(start_rotation(body))).T
    pivot, axis = to_body @ [0.0, 0.0, pendulum_length(scene)], to_body @ [vy, -vx, 0.0]
    node.add_joint(type=mujoco.mjtJoint.mjJNT_HINGE, pos=pivot, axis=axis)


def _start(scene: Scene, model: Any, data: Any) -> None:
    for index, body in enumerate(scene.bodies):
        joint = model.body_jntadr[index + 1]
        at = model.jnt_dofadr[joint]
        vx, vy, _ = body.velocity
        if body.motion == "swing":
            data.qvel[at] = math.hypot(vx, vy) / pendulum_length(scene)
            continue
        data.qvel[at : at + 3] = body.velocity
        if rolls(body):
            world = np.array([-vy, vx, 0.0]) / rest_height(body)
            # MuJoCo keeps the angular velocity of a free body in the body's own axes
            data.qvel[at + 3 : at + 6] = rotation_matrix(np.array(start_rotation(body))).T @ world


def _touching(data: Any) -> set[tuple[int, int]]:
    pairs = set()
    for first, second in data.contact.geom[: data.ncon].tolist():
        low, high = min(first, second) - 1, max(first, second) - 1
        pairs.add((high, -1) if low < 0 else (low, high))
    return pairs
