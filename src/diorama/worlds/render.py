"""The renderer: a batched ray tracer in eager PyTorch, for CPU and GPU.

One ray a pixel finds everything; pixels whose neighbours show another surface, and mirrors, get more rays. Rays go in
chunks that fit a core's cache. The same scene gives the same frames whatever the chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.worlds.cameras import Cameras
from diorama.worlds.physics import Trajectory
from diorama.worlds.scene import Scene
from diorama.worlds.shading import Traced, trace
from diorama.worlds.stage import Plane, Rays, Stage, build_stage, dot

__all__ = ["Rendering", "render"]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Pictures of a clip and what is at each pixel's centre."""

    frames: Tensor
    """uint8 [T, H, W, 3], sRGB."""
    depth: Tensor
    """float32 [T, H, W], metres along the camera's forward axis, infinite for the sky."""
    instances: Tensor
    """uint8 [T, H, W]: 0 for the background, else the body's index + 1."""


@torch.inference_mode()
def render(
    scene: Scene,
    trajectory: Trajectory,
    cameras: Cameras,
    *,
    num_frames: int | None = None,
    samples: int = 6,
    device: torch.device | str = "cpu",
    chunk: int | None = None,
) -> Rendering:
    """Render a clip.

    Args:
        scene: Bodies, floor, light and size.
        trajectory: Poses of the bodies.
        cameras: A camera per frame.
        num_frames: Only so many frames, from the first; all if None.
        samples: Rays for each pixel on an edge; 1 turns anti-aliasing off.
        device: Where to trace; the result comes back to the CPU.
        chunk: Rays traced at once; by default what suits the device's caches and memory.

    Raises:
        InputError: ``samples`` or ``chunk`` is below 1, or ``num_frames`` not from 1 to the scene's.
    """
    if samples < 1 or (chunk is not None and chunk < 1):
        raise InputError(f"{samples} samples in chunks of {chunk} rays cannot be traced; allowed is at least 1 of each")
    num_frames = scene.num_frames if num_frames is None else num_frames
    if not 1 <= num_frames <= scene.num_frames:
        raise InputError(f"{num_frames} of {scene.num_frames} frames cannot be rendered; allowed is 1 to {scene.num_frames}")
    device = torch.device(device)
    stage = build_stage(scene, trajectory, cameras, device)
    size = scene.width * scene.height
    # 16k rays keep a dozen planes in a core's second-level cache, and rays of one frame are cheapest; a GPU needs many rays to be busy
    chunk = chunk or (min(size, 16384) if device.type == "cpu" else 1 << 22)
    together = max(1, chunk // size)
    frames = [torch.arange(f, min(f + together, num_frames), device=device) for f in range(0, num_frames, together)]
    parts = [_group(stage, group, samples, chunk) for group in frames]
    return Rendering(
        frames=torch.cat([p.frames for p in parts]),
        depth=torch.cat([p.depth for p in parts]),
        instances=torch.cat([p.instances for p in parts]),
    )


def _group(stage: Stage, frames: Tensor, samples: int, chunk: int) -> Rendering:
    """Render some frames."""
    shape = (len(frames), stage.scene.height, stage.scene.width)
    pixels = torch.arange(frames.numel() * shape[1] * shape[2], device=frames.device)
    parts = [trace(stage, _rays(stage, frames, part)) for part in torch.split(pixels, chunk)]
    distance = torch.cat([p.distance for p in parts])
    surface = torch.cat([p.surface for p in parts])
    color = _encode(parts)
    number = torch.where((surface >= 8) & (surface < 8 * len(stage.solids) + 8), surface // 8, 0)
    if samples > 1:
        edges = _edges(stage, surface.view(shape), number.view(shape)).flatten().nonzero().squeeze(-1)
        if edges.numel():
            color[:, edges] = _smooth(stage, frames, edges, samples, chunk)
    return Rendering(
        frames=color.mul_(255).add_(0.5).to(torch.uint8).view(3, *shape).movedim(0, -1).contiguous().cpu(),
        depth=distance.view(shape).cpu(),
        instances=number.view(shape).to(torch.uint8).cpu(),
    )


def _smooth(stage: Stage, frames: Tensor, pixels: Tensor, samples: int, chunk: int) -> Tensor:
    """Return the mean display colour [3, P] of several rays through each pixel."""
    every = pixels.repeat(samples)
    offsets = torch.tensor(list(_offsets(samples)), device=pixels.device).repeat_interleave(len(pixels), 0)
    parts = [
        trace(stage, _rays(stage, frames, part, x, y))
        for part, (x, y) in zip(torch.split(every, chunk), (o.unbind(-1) for o in torch.split(offsets, chunk)), strict=True)
    ]
    return _encode(parts).view(3, samples, -1).mean(1)


def _offsets(samples: int) -> Iterator[tuple[float, float]]:
    """Yield places in a pixel, from its centre, that fill rows and columns evenly (a rank-1 lattice)."""
    for i in range(samples):
        yield (i + 0.5) / samples - 0.5, (i * 0.618034 + 0.5) % 1.0 - 0.5


def _rays(stage: Stage, frames: Tensor, pixels: Tensor, x: Plane = 0.0, y: Plane = 0.0) -> Rays:
    """Return camera rays through pixel indices, ``x, y`` pixels off their centres."""
    width, height = stage.scene.width, stage.scene.height
    size = width * height
    inverse = 1 / stage.focal
    row = torch.div(pixels, width, rounding_mode="floor")
    right = ((pixels - row * width).float() + (0.5 + x - width / 2)) * inverse
    if len(frames) == 1:
        frame: int | Tensor = int(frames[0])
        r: list[Plane] = stage.rotations[frame].tolist()
        o: list[Plane] = stage.origins[frame].tolist()
    else:
        local = torch.div(pixels, size, rounding_mode="floor")
        row = row - local * height
        frame = frames[local]
        r, o = list(stage.rotations[frame].unbind(-1)), list(stage.origins[frame].unbind(-1))
    down = (row.float() + (0.5 + y - height / 2)) * inverse
    direction = tuple(dot((right, down, 1.0), (r[k], r[k + 3], r[k + 6])) for k in range(3))
    return Rays(
        origin=(o[0], o[1], o[2]),
        direction=(direction[0], direction[1], direction[2]),
        inverse_length=torch.rsqrt(right * right + down * down + 1),
        frame=frame,
        footprint=inverse,
    )


def _edges(stage: Stage, surface: Tensor, number: Tensor) -> Tensor:
    """Return which pixels [T, H, W] have a neighbour on another surface, or lie on a mirror."""
    edge = torch.zeros_like(surface, dtype=torch.bool)
    for i, solid in enumerate(stage.solids, 1):
        if solid.body.finish == "mirror":
            edge |= number == i
    across, down = surface[:, :, 1:] != surface[:, :, :-1], surface[:, 1:] != surface[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge


def _encode(parts: list[Traced]) -> Tensor:
    """Return display-referred sRGB [3, R] in [0, 1]; the curve is a fit in square roots, within 0.003 of the standard."""
    color = torch.stack([torch.cat([p.color[k] for p in parts]) if len(parts) > 1 else parts[0].color[k] for k in range(3)]).clamp_(0, 1)
    half = color.sqrt()
    quarter = half.sqrt()
    eighth = quarter.sqrt()
    encoded = half.mul_(0.662002687).add_(quarter, alpha=0.684122060).add_(eighth, alpha=-0.323583601).add_(color, alpha=-0.0225411470)
    return encoded.clamp_(0, 1)
