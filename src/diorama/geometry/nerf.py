"""A radiance field learned from a capture and graded on the frames it never saw.

``learn`` is the whole recipe: rays through random pixels, a field that says what they see, a colour loss, Adam. It knows
nothing of where cameras came from; ``sfm`` finds them, ``report`` sets the figures beside those of splatting.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diorama.errors import InputError
from diorama.geometry.cameras import Cameras, Capture, Floats
from diorama.geometry.field import Field, FieldConfig, look, spread_of
from diorama.geometry.occupancy import Occupancy
from diorama.geometry.rays import Pixels, Rays, Space, camera_rays
from diorama.geometry.views import Views, grade
from diorama.media import Pixels as Frames
from diorama.runtime import autocast, choose_device, generator

__all__ = ["NerfConfig", "NerfResult", "learn", "render"]

_WARM_UP = 20
_FADE_EVERY = 8
_PROBES = 16384
_LAST = 100
_POINTS = 512
_THICK = 0.03


@dataclass(frozen=True, kw_only=True)
class NerfConfig:
    """How a field is learned."""

    field: FieldConfig = field(default_factory=FieldConfig)
    """Its size."""
    steps: int = 2000
    """Steps of the optimiser at most, at least 1."""
    seconds: float = 100.0
    """Wall clock that training may take, above 0; whichever comes first ends it, and the learning rate falls towards it."""
    rays: int = 2048
    """Rays of a step, at least 1."""
    intervals: int = 16
    """Places looked at along a ray, at least 2."""
    learning_rate: float = 2e-2
    """Of the grid at first; a tenth of it at the end."""
    network_rate: float = 1e-2
    """Learning rate of the networks at first."""
    spread_weight: float = 2e-3
    """Weight of the loss that draws a ray's light to one place."""
    point_weight: float = 1e-3
    """Weight, at first, of the loss that makes the sparse points solid; a hundredth of it at the end."""
    seed: int = 0
    """The same seed gives the same field when ``steps`` ends the training."""
    device: str = "auto"
    """See ``choose_device``."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.seconds > 0 or self.rays < 1 or self.intervals < 2:
            raise InputError(
                f"a field cannot be learned in {self.steps} steps, {self.seconds:g} seconds, of {self.rays} rays with {self.intervals} intervals; "
                "allowed are at least 1 step, more than 0 seconds, at least 1 ray and 2 intervals"
            )


@dataclass(frozen=True, kw_only=True)
class NerfResult:
    """How well a field shows frames it never saw."""

    views: Views
    """The held-out frames; ``train_psnr`` is over the pixels of the last steps, ``seconds`` those of training and rendering."""
    depth: Floats
    """``[E, H, W]``: the median depth along each pixel's ray, in the cameras' unit; infinite for the horizon."""


def learn(capture: Capture, config: NerfConfig | None = None, progress: Callable[[int, int], None] | None = None) -> NerfResult:
    """Learn a radiance field from a capture's frames and grade it on those held out.

    Args:
        capture: At least 3 frames with cameras.
        config: How; by default what suits two cores and 256 pixels.
        progress: Called with thousandths done and 1000.

    Raises:
        InputError: nothing can be held out, or masks leave nothing to learn from.
    """
    config = config or NerfConfig()
    start = time.perf_counter()
    device, chance = choose_device(config.device), generator(config.seed)
    training, held = _split(capture)
    pixels, space = Pixels(training, device), Space.of(training)
    field, occupancy = Field(config.field, chance).to(device), Occupancy(space, device)
    optimizer = _optimizer(field, config)
    solid = space.contract(torch.from_numpy(training.points).float().to(device))
    errors: deque[Tensor] = deque(maxlen=_LAST)
    for step, done in _clock(config, progress):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (step + 1) / _WARM_UP) * 0.1**done
        rays, colors = pixels.draw(config.rays, chance)
        samples = occupancy.samples(rays, config.intervals, chance)
        with autocast(device):
            seen = look(field, samples, rays.directions)
        error = (seen.color - colors).square().mean()
        loss = error + config.spread_weight * spread_of(seen.weights[:, :-1], samples.edges).mean()
        if len(solid):
            index = torch.randint(len(solid), (_POINTS,), generator=chance)
            with autocast(device):
                density, _ = field.density(solid[index.to(device)])
            loss = loss - config.point_weight * 0.01**done * torch.log(-torch.expm1(-_THICK * density) + 1e-6).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        errors.append(error.detach())
        occupancy.note(samples.points.view(-1, 3), seen.density.view(-1))
        if step % _FADE_EVERY == _FADE_EVERY - 1:
            occupancy.fade()
            with torch.no_grad(), autocast(device):
                probes = occupancy.probes(_PROBES, chance)
                occupancy.note(probes, field.density(probes)[0])
    train_psnr = -10 * math.log10(max(float(torch.stack(list(errors)).mean()), 1e-12))
    renders, depth = render(field, occupancy, capture.cameras.select(held), config)
    scores, likeness = grade(capture.select(held), renders)
    views = Views(
        held_out=tuple(held.tolist()),
        psnr=scores,
        ssim=likeness,
        train_psnr=train_psnr,
        steps=step + 1,
        seconds=time.perf_counter() - start,
        renders=renders,
    )
    return NerfResult(views=views, depth=depth)


def _split(capture: Capture) -> tuple[Capture, NDArray[np.intp]]:
    """Return the frames for training, and the numbers of those held out that can be graded."""
    held = np.flatnonzero(capture.held_out)
    if not len(held):
        raise InputError(f"a radiance field cannot be graded on {len(capture.cameras)} frames; give at least 3, so that one can be held out")
    training = capture.select(~capture.held_out)
    if capture.masks is not None:
        held = held[capture.masks[held].any((1, 2))]
        if not len(held) or training.masks is None or not training.masks.any():
            raise InputError("the masks leave no pixel to learn from or to grade; give masks that are True on the rigid scene, or none")
    return training, held


def _optimizer(field: Field, config: NerfConfig) -> torch.optim.Adam:
    networks = [parameter for name, parameter in field.named_parameters() if not name.startswith("encoding")]
    groups = [{"params": [field.encoding.table], "rate": config.learning_rate}, {"params": networks, "rate": config.network_rate}]
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)


def _clock(config: NerfConfig, progress: Callable[[int, int], None] | None) -> Iterator[tuple[int, float]]:
    """Count steps and the share of the training that is over, until the steps or the seconds are used up."""
    start, step, done = time.perf_counter(), 0, 0.0
    while done < 1:
        yield step, done
        step += 1
        done = max(step / config.steps, (time.perf_counter() - start) / config.seconds)
        if progress is not None:
            progress(round(1000 * min(done, 1.0)), 1000)


@torch.no_grad()
def render(field: Field, occupancy: Occupancy, cameras: Cameras, config: NerfConfig) -> tuple[Frames, Floats]:
    """Show a field from cameras: frames uint8 ``[T, H, W, 3]`` and median depths ``[T, H, W]``."""
    size = cameras.height, cameras.width
    device = occupancy.density.device
    colors, depths = [], []
    place = torch.arange(size[0] * size[1], device=device)
    for frame in range(len(cameras)):
        rays = camera_rays(cameras, torch.full_like(place, frame), place // size[1], place % size[1])
        parts = [_show(field, occupancy, rays[first : first + config.rays], config) for first in range(0, len(place), config.rays)]
        colors.append(torch.cat([color for color, _ in parts]).view(*size, 3))
        depths.append(torch.cat([depth for _, depth in parts]).view(*size))
    if not colors:
        return np.zeros((0, *size, 3), np.uint8), np.zeros((0, *size))
    frames = torch.stack(colors).mul_(255).round_().clamp_(0, 255).byte()
    return frames.cpu().numpy(), torch.stack(depths).cpu().double().numpy()


def _show(field: Field, occupancy: Occupancy, rays: Rays, config: NerfConfig) -> tuple[Tensor, Tensor]:
    samples = occupancy.samples(rays, 2 * config.intervals, None)
    with autocast(rays.origins.device):
        seen = look(field, samples, rays.directions)
    middle = occupancy.space.depth(0.5 * (samples.edges[:, 1:] + samples.edges[:, :-1]))
    reached = seen.weights[:, :-1].cumsum(-1)
    index = (reached < 0.5).sum(-1, keepdim=True)
    depth = middle.gather(1, index.clamp_max(middle.shape[1] - 1))
    return seen.color, torch.where(index < middle.shape[1], depth, math.inf)[:, 0]
