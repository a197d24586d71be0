"""The rasteriser in plain PyTorch: what the compiled one and gsplat are held against, in values and gradients.

Gaussians are projected to ellipses (EWA), sorted by depth, listed per tile of 16 x 16 pixels and composited front to back; autograd does
the rest. It runs on any device.

Source: M. Zwicker et al., "EWA Splatting" (2002); B. Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering"
(2023); the limits below are gsplat 1.5's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.geometry.gaussians import Gaussians, View

__all__ = ["BLUR", "FRUSTUM_MARGIN", "MAX_ALPHA", "MIN_ALPHA", "MIN_TRANSMITTANCE", "SH_C0", "SH_C1", "TILE", "Projection", "project", "rasterise"]

TILE = 16
BLUR = 0.3
"""Pixels squared added to every projected variance, so that nothing falls between pixels."""
FRUSTUM_MARGIN = 0.15
"""Share of the picture's side beyond its edge where the projection's slope is held, as the linearisation fails far outside."""
MIN_ALPHA = 1 / 255
MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4
"""A pixel takes no more Gaussians than leave this share of the light behind them."""
SH_C0 = 0.28209479177387814
SH_C1 = 0.4886025119029199


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What a view sees of N Gaussians."""

    positions: Tensor
    """``[N, 2]`` pixels."""
    conics: Tensor
    """``[N, 3]``: a, b, c of the exponent -(a x^2 + 2 b x y + c y^2) / 2, pixels to the power -2."""
    depths: Tensor
    """``[N]`` along the forward axis."""
    opacities: Tensor
    """``[N]`` in (0, 1)."""
    colors: Tensor
    """``[N, 3]`` RGB, not below 0."""
    boxes: Tensor
    """int64 ``[N, 4]``: first x, first y, last x, last y of the pixels where alpha can reach 1 / 255; last < first for none."""


def project(gaussians: Gaussians, view: View) -> Projection:
    """Project Gaussians into a view."""
    means = gaussians.means
    matrix = torch.as_tensor(view.world_to_camera, dtype=means.dtype, device=means.device)
    rotation, translation = matrix[:3, :3], matrix[:3, 3]
    local = means @ rotation.T + translation
    depths = local[:, 2]
    z = torch.where(depths > view.near, depths, torch.ones_like(depths))
    focal, center, size = (means.new_tensor(pair) for pair in (view.focal, view.center, (view.width, view.height)))
    slopes = local[:, :2] / z[:, None]
    positions = slopes * focal + center
    margin = FRUSTUM_MARGIN * size / focal
    slopes = torch.minimum(torch.maximum(slopes, -(center / focal) - margin), (size - center) / focal + margin)
    # T = J W, and the picture's covariance is (T R S) (T R S)^T
    rows = (focal / z[:, None])[..., None] * (rotation[:2] - slopes[..., None] * rotation[2])
    half = rows @ (rotations(gaussians.quaternions) * gaussians.log_scales.exp()[:, None])
    xx, yy = (half[:, 0] ** 2).sum(-1) + BLUR, (half[:, 1] ** 2).sum(-1) + BLUR
    xy = (half[:, 0] * half[:, 1]).sum(-1)
    determinant = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], -1) / determinant[:, None]
    opacities = gaussians.logits.sigmoid()
    with torch.no_grad():
        reach = 2 * (opacities / MIN_ALPHA).log().clamp_min(0)
        radii = (reach[:, None] * torch.stack([xx, yy], -1)).sqrt()
        low = (positions - radii - 0.5).ceil().clamp_min(0)
        high = torch.minimum((positions + radii - 0.5).floor(), size - 1)
        seen = (depths > view.near) & (opacities > MIN_ALPHA) & (determinant > 0) & (low <= high).all(-1)
        boxes = torch.where(seen[:, None], torch.cat([low, high], -1), means.new_tensor([0.0, 0.0, -1.0, -1.0])).long()
    return Projection(positions=positions, conics=conics, depths=depths, opacities=opacities, colors=_colors(gaussians, view), boxes=boxes)


def rasterise(gaussians: Gaussians, view: View, screen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Draw Gaussians.

    Args:
        gaussians: N of them; gradients flow to all their parameters.
        view: The camera.
        screen: ``[N, 2]``, added to the positions in pixels; its gradient is that of the positions.

    Returns:
        The picture ``[H, W, 3]`` over black, and the transmittance ``[H, W]``: the share of the background one sees.
    """
    seen = project(gaussians, view)
    positions = seen.positions if screen is None else seen.positions + screen
    columns, rows = -(-view.width // TILE), -(-view.height // TILE)
    members, counts = _bins(seen, columns, rows)
    steps = torch.arange(TILE, device=positions.device, dtype=positions.dtype) + 0.5
    pixels = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    tiles = []
    for tile, chosen in enumerate(torch.split(members, counts)):
        corner = pixels.new_tensor([tile % columns * TILE, tile // columns * TILE])
        x, y = (pixels + corner - positions[chosen, None]).unbind(-1)
        a, b, c = seen.conics[chosen, :, None].unbind(1)
        exponent = 0.5 * (a * x * x + c * y * y) + b * x * y
        alpha = (seen.opacities[chosen, None] * (-exponent).exp()).clamp_max(MAX_ALPHA)
        alpha = torch.where(alpha >= MIN_ALPHA, alpha, torch.zeros_like(alpha))
        with torch.no_grad():
            live = (1 - alpha).cumprod(0) > MIN_TRANSMITTANCE
        alpha = torch.where(live, alpha, torch.zeros_like(alpha))
        light = torch.cat([torch.ones_like(alpha[:1]), (1 - alpha).cumprod(0)]) if len(chosen) else torch.ones(1, TILE * TILE).to(pixels)
        color = (light[:-1] * alpha).T @ seen.colors[chosen]
        tiles.append(torch.cat([color, light[-1, :, None]], -1))
    whole = torch.stack(tiles).view(rows, columns, TILE, TILE, 4).permute(0, 2, 1, 3, 4).reshape(rows * TILE, columns * TILE, 4)
    whole = whole[: view.height, : view.width]
    return whole[..., :3], whole[..., 3]


@torch.no_grad()
def _bins(seen: Projection, columns: int, rows: int) -> tuple[Tensor, list[int]]:
    """Return the Gaussians of each tile, tile after tile and nearest first, and how many each tile has."""
    order = torch.argsort(seen.depths, stable=True)
    boxes = seen.boxes[order]
    kept = (boxes[:, 2] >= boxes[:, 0]) & (boxes[:, 3] >= boxes[:, 1])
    order, boxes = order[kept], boxes[kept] // TILE
    across, down = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    number = across * down
    owner = torch.repeat_interleave(torch.arange(len(order), device=order.device), number)
    within = torch.arange(len(owner), device=order.device) - (number.cumsum(0) - number)[owner]
    tiles = (boxes[owner, 1] + within // across[owner]) * columns + boxes[owner, 0] + within % across[owner]
    counts: list[int] = torch.bincount(tiles, minlength=columns * rows).tolist()
    return order[owner[torch.argsort(tiles, stable=True)]], counts


def rotations(quaternions: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(entries, -1).view(-1, 3, 3)


def _colors(gaussians: Gaussians, view: View) -> Tensor:
    sh = gaussians.sh
    colors = 0.5 + SH_C0 * sh[:, 0]
    if gaussians.degree:
        position = torch.as_tensor(view.position, dtype=sh.dtype, device=sh.device)
        x, y, z = torch.nn.functional.normalize(gaussians.means - position, dim=-1)[..., None].unbind(1)
        colors = colors + SH_C1 * (z * sh[:, 2] - y * sh[:, 1] - x * sh[:, 3])
    return colors.clamp_min(0)
