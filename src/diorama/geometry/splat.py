"""3D Gaussian splatting of a capture: learn a cloud from the frames that are not held out, grade it on those that are.

Source: B. Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023); steps are few, so the cloud grows by a
plan to a set number instead of by a threshold, and opacities are never reset.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diorama.errors import ConfigError, InputError, MissingExtraError
from diorama.geometry import photometric
from diorama.geometry.cameras import Cameras, Capture
from diorama.geometry.densify import Learner
from diorama.geometry.gaussians import Gaussians, View
from diorama.geometry.initialise import distances, initialise
from diorama.geometry.rasterise import Backend, choose_backend, rasterise
from diorama.geometry.views import Views, grade, mean
from diorama.media import Pixels
from diorama.runtime import choose_device, generator

__all__ = ["SplatConfig", "SplatResult", "learn", "render"]

_BACKGROUND_RATE = 2e-3
_NEAR = 0.01
"""Nothing nearer than this share of the typical depth is drawn."""
_SHOWN = 8
"""Training frames that the training PSNR is taken over."""


@dataclass(frozen=True, kw_only=True)
class SplatConfig:
    """How a cloud of Gaussians is learned.

    The rates are up to ten times the paper's, which trains for thirty thousand steps (docs/log.md).
    """

    steps: int = 1000
    """Training steps at most."""
    seconds: float = 90.0
    """Wall-clock seconds of training at most. Rates and sizes follow whichever of the two runs out first."""
    max_gaussians: int = 15_000
    """The number the cloud grows to."""
    guesses: int = 3000
    """Gaussians to begin with where no point is seen, such as the sky."""
    ssim_weight: float = 0.2
    """Share of 1 - SSIM in the loss; the rest is the absolute difference."""
    densify_every: int = 50
    """Steps between prunings and splittings."""
    densify_until: float = 0.6
    """Share of training after which nothing is split."""
    coarse_until: float = 0.3
    """Share of training on frames of half the size."""
    min_opacity: float = 0.01
    """Gaussians below it are dropped while the cloud grows."""
    mean_rate: float = 1e-3
    """Of the means, in units of the typical depth of the points."""
    mean_decay: float = 0.1
    """Share of ``mean_rate`` that is left in the end."""
    calm_from: float = 0.7
    """Share of training after which all rates fall evenly to 0."""
    scale_rate: float = 2e-2
    """Of the logarithms of the scales."""
    quaternion_rate: float = 1e-2
    """Of the rotations."""
    opacity_rate: float = 5e-2
    """Of the opacities' logits."""
    color_rate: float = 1e-2
    """Of the spherical harmonics of degree 0."""
    seed: int = 0
    """The same seed gives the same cloud, unless ``seconds`` runs out first."""
    device: str = "auto"
    """Where to learn, see ``runtime.choose_device``."""

    def __post_init__(self) -> None:
        for name in ("steps", "max_gaussians", "densify_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"splat {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("ssim_weight", "densify_until", "coarse_until", "calm_from", "min_opacity"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"splat {name} is {getattr(self, name)}; it must be from 0 to 1")
        for name in ("seconds", "mean_rate", "mean_decay", "scale_rate", "quaternion_rate", "opacity_rate", "color_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"splat {name} is {getattr(self, name)}; it must be above 0")
        if self.guesses < 0:
            raise ConfigError(f"splat guesses is {self.guesses}; it must be at least 0")


@dataclass(frozen=True, kw_only=True)
class SplatResult:
    """How well a cloud shows frames it never saw, and the cloud."""

    views: Views
    """The held-out frames; ``train_psnr`` is the mean over eight training frames, ``seconds`` those of training."""
    gaussians: Gaussians
    """In the capture's world, on the CPU."""
    background: tuple[float, float, float]
    """RGB in [0, 1], learned: what is seen where the cloud lets light through."""


def learn(capture: Capture, config: SplatConfig | None = None, progress: Callable[[int, int], None] | None = None) -> SplatResult:
    """Learn a cloud of Gaussians from a capture's frames and grade it on those held out.

    Args:
        capture: At least 3 frames with cameras, at least 11 pixels on a side.
        config: How; by default what suits two cores and 256 pixels.
        progress: Called with thousandths done and 1000.

    Raises:
        InputError: nothing can be held out or learned from.
        MissingExtraError: the package that draws on this device is not installed.
    """
    config = config or SplatConfig()
    held = np.flatnonzero(capture.held_out)
    if not len(held):
        raise InputError(f"splatting was given {len(capture.cameras)} frames with cameras; it needs at least 3, to hold one out")
    if min(capture.cameras.width, capture.cameras.height) < 11:
        raise InputError(f"splatting was given frames of {capture.cameras.width}x{capture.cameras.height}; it needs at least 11 pixels on a side")
    if capture.masks is not None and not capture.masks[~capture.held_out].any():
        raise InputError("splatting was given masks that leave no pixel to learn from; it needs part of the picture to be rigid")
    device, backend = _where(config.device)
    start = time.monotonic()
    gaussians, background, steps = _train(capture, config, device, backend, progress)
    seconds = time.monotonic() - start
    shown = np.flatnonzero(~capture.held_out)
    shown = shown[np.linspace(0, len(shown) - 1, min(_SHOWN, len(shown))).round().astype(np.int64)]
    renders, trained = (render(gaussians, background, capture.cameras.select(frames), backend=backend) for frames in (held, shown))
    psnrs, ssims = grade(capture.select(held), renders)
    train_psnrs, _ = grade(capture.select(shown), trained)
    views = Views(held_out=tuple(held.tolist()), psnr=psnrs, ssim=ssims, train_psnr=mean(train_psnrs), steps=steps, seconds=seconds, renders=renders)
    return SplatResult(
        views=views,
        gaussians=gaussians.map(lambda tensor: tensor.cpu()),
        background=(float(background[0]), float(background[1]), float(background[2])),
    )


def _where(name: str) -> tuple[torch.device, Backend]:
    """Return a device and who draws there; left to choose, a CUDA device without gsplat gives way to the CPU."""
    device = choose_device(name)
    try:
        return device, choose_backend(device)
    except MissingExtraError:
        if name != "auto" or device.type == "cpu":
            raise
    device = torch.device("cpu")
    return device, choose_backend(device)


@torch.no_grad()
def render(gaussians: Gaussians, background: Tensor, cameras: Cameras, *, backend: Backend | None = None) -> Pixels:
    """Return what T cameras see, uint8 ``[T, H, W, 3]``.

    Args:
        gaussians: N of them.
        background: RGB in [0, 1], ``[3]``, on their device.
        cameras: T of them.
        backend: Who draws; if not given, what suits the device.
    """
    backend = backend or choose_backend(gaussians.means.device)
    frames = np.empty((len(cameras), cameras.height, cameras.width, 3), np.uint8)
    for index in range(len(cameras)):
        picture = rasterise(gaussians, View.of(cameras, index), background, backend=backend)
        frames[index] = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
    return frames


@dataclass(frozen=True, kw_only=True)
class _Photographs:
    """The frames to learn from at one size."""

    views: list[View]
    frames: Tensor
    """uint8 [T, H, W, 3]."""
    weights: Tensor | None
    """float32 [T, H, W]: 1 where a pixel counts; None: all do."""

    @classmethod
    def of(cls, capture: Capture, factor: float, near: float) -> _Photographs:
        cameras = capture.cameras if factor == 1 else capture.cameras.scaled(factor)
        size = (cameras.height, cameras.width)
        frames = torch.from_numpy(np.ascontiguousarray(capture.frames))
        weights = None if capture.masks is None else torch.from_numpy(capture.masks).float()
        if factor != 1:
            frames = torch.cat([_smaller(frame.permute(2, 0, 1)[None].float(), size).round().byte() for frame in frames]).permute(0, 2, 3, 1)
            # a pixel that saw anything of what moves does not count
            weights = None if weights is None else torch.cat([(_smaller(mask[None, None], size)[0] > 0.999).float() for mask in weights])
        views = [View.of(cameras, index, near) for index in range(len(cameras))]
        return cls(views=views, frames=frames.contiguous(), weights=weights)


def _smaller(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(pictures, size=size, mode="area")


def _train(
    capture: Capture, config: SplatConfig, device: torch.device, backend: Backend, progress: Callable[[int, int], None] | None
) -> tuple[Gaussians, Tensor, int]:
    """Return the cloud, the background [3] and the steps done."""
    chance = generator(config.seed)
    capture = capture.select(~capture.held_out)
    depth, _ = distances(capture)
    start = initialise(capture, max_points=config.max_gaussians // 2, guesses=min(config.guesses, config.max_gaussians // 2), generator=chance)
    background = torch.from_numpy(capture.frames.mean((0, 1, 2)) / 255).float()
    rates = {
        "means": config.mean_rate * depth,
        "log_scales": config.scale_rate,
        "quaternions": config.quaternion_rate,
        "logits": config.opacity_rate,
        "sh": config.color_rate,
        "background": _BACKGROUND_RATE,
    }
    learner = Learner(start.map(lambda tensor: tensor.to(device)), background.to(device), rates)
    fine = _Photographs.of(capture, 1, _NEAR * depth)
    coarse = (
        _Photographs.of(capture, 0.5, _NEAR * depth) if config.coarse_until > 0 and min(capture.cameras.width, capture.cameras.height) > 32 else fine
    )
    began, queue, step, done = time.monotonic(), list[int](), 0, 0.0
    while done < 1:
        photographs = coarse if done < config.coarse_until else fine
        queue = queue or torch.randperm(len(fine.views), generator=chance).tolist()
        _loss(learner, photographs, queue.pop(), backend, config.ssim_weight).backward()  # type: ignore[no-untyped-call]
        calm = min(1.0, (1 - done) / max(1 - config.calm_from, 1e-9))
        learner.step(config.mean_decay**done * calm, calm)
        step += 1
        done = max(step / config.steps, (time.monotonic() - began) / config.seconds)
        if step % config.densify_every == 0 and done < config.densify_until:
            learner.prune(config.min_opacity)
            planned = len(start) + (config.max_gaussians - len(start)) * min(1.0, 1.1 * done / config.densify_until)
            learner.split(int(planned) - len(learner.gaussians))
        if progress is not None:
            progress(min(int(1000 * done), 1000), 1000)
    return learner.gaussians.map(lambda tensor: tensor.detach()), learner.background.detach(), step


def _loss(learner: Learner, photographs: _Photographs, index: int, backend: Backend, ssim_weight: float) -> Tensor:
    image = rasterise(learner.gaussians, photographs.views[index], learner.background, backend=backend, screen=learner.screen)
    target = photographs.frames[index].to(image.device).float() / 255
    if photographs.weights is None:
        weight = torch.full_like(target, 1 / target.numel())
    else:
        mask = photographs.weights[index].to(image.device)[..., None]
        image, target = image * mask, target * mask
        weight = (mask / (3 * mask.sum()).clamp_min(1)).expand(target.shape).contiguous()
    measure = photometric.compiled if backend == "compiled" else photometric.plain
    return measure(image, target, weight, ssim_weight)
