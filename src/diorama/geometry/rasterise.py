"""Draw Gaussians, with gradients: compiled on the CPU, by gsplat on CUDA, in plain PyTorch anywhere.

The three take the same parameters and agree in values and gradients; sums are made in one fixed order, so a machine gives the same bytes
however many threads it has.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diorama.errors import MissingExtraError
from diorama.geometry import rasterise_plain
from diorama.geometry.compiled import spread
from diorama.geometry.gaussians import Gaussians, View
from diorama.geometry.rasterise_plain import BLUR, TILE

if TYPE_CHECKING:
    from diorama.geometry import kernels

__all__ = ["Backend", "choose_backend", "rasterise"]

Backend = Literal["plain", "compiled", "gsplat"]


def choose_backend(device: torch.device) -> Backend:
    """Return the rasteriser for a device: gsplat on CUDA, the compiled one on the CPU.

    Raises:
        MissingExtraError: the package it needs is not installed.
    """
    if device.type == "cuda":
        try:
            import gsplat  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("gsplat", "geometry-cuda", "Gaussian splatting on CUDA") from error
        return "gsplat"
    if device.type != "cpu":
        return "plain"
    from diorama.geometry import kernels  # noqa: F401  # without numba this raises

    return "compiled"


def rasterise(gaussians: Gaussians, view: View, background: Tensor | None = None, *, backend: Backend, screen: Tensor | None = None) -> Tensor:
    """Draw Gaussians over a background.

    Args:
        gaussians: N of them; gradients flow to all their parameters.
        view: The camera.
        background: RGB, ``[3]`` or ``[H, W, 3]``; black if not given.
        backend: Who draws.
        screen: ``[N, 2]``, added to the positions in pixels: a place for their gradient. gsplat does not add it but leaves the gradient there.

    Returns:
        RGB ``[H, W, 3]``, at least 0 where the background is.

    Raises:
        MissingExtraError: the package that ``backend`` needs is not installed.
    """
    if backend == "gsplat":
        image, light = _gsplat(gaussians, view, screen)
    elif backend == "plain":
        image, light = rasterise_plain.rasterise(gaussians, view, screen)
    else:
        place = gaussians.means.new_zeros(len(gaussians), 2) if screen is None else screen
        parameters = (gaussians.means, gaussians.log_scales, gaussians.quaternions, gaussians.logits, gaussians.sh)
        image, light = _Compiled.apply(*parameters, place, view)  # type: ignore[no-untyped-call]
    return image if background is None else image + light[..., None] * background


class _Compiled(torch.autograd.Function):
    """The compiled loops as one differentiable step."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        from diorama.geometry import kernels
        from diorama.geometry.projection_kernels import COLUMNS, Camera, Cloud, project

        *tensors, screen, view = inputs
        cloud = Cloud(*(tensor.detach().contiguous().numpy() for tensor in tensors))
        camera = Camera(view.world_to_camera, view.position, np.array([*view.focal, *view.center, view.width, view.height, view.near]))
        count = len(cloud.means)
        projected, depths = np.empty((count, COLUMNS), np.float32), np.empty(count, np.float32)
        boxes = np.empty((count, 4), np.int32)
        spread(project, count, cloud, camera, projected, depths, boxes)
        shift = screen.detach().numpy()
        if shift.any():
            projected[:, :2] += shift
        tiles = _bin(view, depths, boxes)
        number = len(tiles.counts) - 1
        image, light = np.empty((number, 3, TILE * TILE), np.float32), np.empty((number, TILE * TILE), np.float32)
        spread(kernels.composite, number, tiles, projected, image, light)
        ctx.state = (cloud, camera, tiles, projected, image, light, view)
        return _untile(image, view), _untile(light[:, None], view)[..., 0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from diorama.geometry import kernels
        from diorama.geometry.projection_kernels import COLUMNS, PLACES, project_backward

        cloud, camera, tiles, projected, image, light, view = ctx.state
        image_gradient = _tile(gradients[0], view)
        rest = np.einsum("tcp,tcp->tp", image, image_gradient) + light * _tile(gradients[1][..., None], view)[:, 0]
        pairs = np.empty((len(tiles.members), COLUMNS), np.float32)
        spread(kernels.composite_backward, len(light), tiles, projected, image_gradient, rest, pairs)
        out = np.empty((len(cloud.means), PLACES + 3 * cloud.sh.shape[1]), np.float32)
        spread(project_backward, len(out), cloud, camera, tiles, projected, pairs, out)
        means, scales, quaternions, logits, screen, sh = torch.split(torch.from_numpy(out), [3, 3, 4, 1, 2, out.shape[1] - PLACES], -1)
        return means, scales, quaternions, logits[:, 0], sh.reshape(cloud.sh.shape), screen, None


def _grid(view: View) -> tuple[int, int]:
    """Return rows and columns of tiles."""
    return -(-view.height // TILE), -(-view.width // TILE)


def _bin(view: View, depths: NDArray[np.float32], boxes: NDArray[np.int32]) -> kernels.Tiles:
    from diorama.geometry import kernels

    rows, columns = _grid(view)
    counts, starts = np.empty(rows * columns + 1, np.int64), np.empty(len(depths) + 1, np.int64)
    kernels.count_tiles(boxes, columns, counts, starts)
    tiles = kernels.Tiles(columns, boxes, counts, np.empty(starts[-1], np.int32), starts, np.empty(starts[-1], np.int64))
    kernels.fill_tiles(np.argsort(depths, kind="stable"), tiles)
    return tiles


def _untile(tiles: NDArray[np.float32], view: View) -> Tensor:
    """Return tiles ``[tiles, channels, 256]`` as a picture ``[H, W, channels]``."""
    rows, columns = _grid(view)
    channels = tiles.shape[1]
    whole = tiles.reshape(rows, columns, channels, TILE, TILE).transpose(0, 3, 1, 4, 2).reshape(rows * TILE, columns * TILE, channels)
    return torch.from_numpy(np.ascontiguousarray(whole[: view.height, : view.width]))


def _tile(image: Tensor, view: View) -> NDArray[np.float32]:
    """Return the inverse of ``_untile``, 0 beyond the picture."""
    rows, columns = _grid(view)
    channels = image.shape[-1]
    whole = np.zeros((rows * TILE, columns * TILE, channels), np.float32)
    whole[: view.height, : view.width] = image.numpy()
    tiles = whole.reshape(rows, TILE, columns, TILE, channels).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(tiles).reshape(rows * columns, channels, TILE * TILE)


def _gsplat(gaussians: Gaussians, view: View, screen: Tensor | None) -> tuple[Tensor, Tensor]:
    """Draw with gsplat; its quaternions, units and pixel centres are ours."""
    try:
        import gsplat
    except ImportError as error:
        raise MissingExtraError("gsplat", "geometry-cuda", "Gaussian splatting on CUDA") from error
    means = gaussians.means
    intrinsics = means.new_tensor([[view.focal[0], 0, view.center[0]], [0, view.focal[1], view.center[1]], [0, 0, 1]])
    image, alpha, details = gsplat.rasterization(
        means=means,
        quats=gaussians.quaternions,
        scales=gaussians.log_scales.exp(),
        opacities=gaussians.logits.sigmoid(),
        colors=gaussians.sh,
        viewmats=torch.as_tensor(view.world_to_camera, dtype=means.dtype, device=means.device)[None],
        Ks=intrinsics[None],
        width=view.width,
        height=view.height,
        near_plane=view.near,
        eps2d=BLUR,
        sh_degree=gaussians.degree,
        packed=False,
    )
    if screen is not None and details["means2d"].requires_grad:
        details["means2d"].register_hook(functools.partial(_keep, screen))
    return image[0], 1 - alpha[0, ..., 0]


def _keep(screen: Tensor, gradient: Tensor) -> None:
    """Add the gradient of gsplat's positions ``[1, N, 2]`` to that of ``screen``."""
    gradient = gradient.detach().reshape(screen.shape)
    screen.grad = gradient.clone() if screen.grad is None else screen.grad + gradient
