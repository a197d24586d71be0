"""Clips of different sizes in one flat run of tokens.

Positions restart in every clip and attention never crosses from clip to clip, so a pack gives what its clips would
give one by one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.patches.patchify import Triple, grid_of, patchify, unpatchify
from diorama.patches.positions import REFERENCE_FPS, Coordinates, positions

__all__ = ["Pack", "pack", "unpack"]


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Tokens of S clips behind one another. Neighbouring clips of equal length are attended in one call: sort by size."""

    tokens: Tensor
    """``[L, D]``."""
    positions: Tensor
    """``[L, 3]`` float32 of ``(t, y, x)``, see `positions`."""
    times: Tensor
    """Flow time of every token ``[L]`` float32 in [0, 1]."""
    grids: tuple[Triple, ...]
    """Token grid ``(f, h, w)`` of every clip."""
    begins: tuple[bool, ...]
    """Whether the first frame of each is the first of a clip; false for a window that begins in mid-clip."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of every clip; their sum is L."""
        return tuple(math.prod(grid) for grid in self.grids)

    @property
    def num_clips(self) -> int:
        """S."""
        return len(self.grids)

    def to(self, device: torch.device | str) -> Pack:
        """Return the pack on a device."""
        return dataclasses.replace(self, tokens=self.tokens.to(device), positions=self.positions.to(device), times=self.times.to(device))

    def replace(self, tokens: Tensor, times: Tensor) -> Pack:
        """Return the pack with other tokens ``[L, D]`` and flow times ``[L]``, as every step of a sampler needs it."""
        return dataclasses.replace(self, tokens=tokens, times=times)


def pack(
    latents: Sequence[Tensor],
    times: Sequence[Tensor | float],
    *,
    patch_size: Triple = (1, 1, 1),
    coordinates: Coordinates = "view",
    fps: float | Sequence[float] = REFERENCE_FPS,
    begins: bool | Sequence[bool] = True,
) -> Pack:
    """Pack latents of any sizes.

    Args:
        latents: One ``[C, T, H, W]`` a clip, same C.
        times: Flow time in [0, 1] of every clip: one number, one a token frame ``[f]``, or one a token ``[f, h, w]`` or ``[l]``.
        patch_size: Latent cells per token along ``(T, H, W)``.
        coordinates: Convention of the positions, as the model was trained.
        fps: Frames per second, one for all clips or one a clip.
        begins: Whether a clip's first frame is coded alone, one for all clips or one a clip; false for windows that begin in mid-clip.

    Raises:
        InputError: no clip, counts that differ, a latent off the patch grid, or times of a shape that does not fit.
    """
    rates = [fps] * len(latents) if isinstance(fps, int | float) else list(fps)
    starts = (begins,) * len(latents) if isinstance(begins, bool) else tuple(begins)
    if not latents or not len(times) == len(rates) == len(starts) == len(latents):
        raise InputError(f"{len(latents)} clips, {len(times)} times and {len(rates)} frame rates cannot be packed: give one of each for every clip")
    grids = tuple(grid_of((x.shape[1], x.shape[2], x.shape[3]), patch_size) for x in latents)
    device = latents[0].device
    return Pack(
        tokens=torch.cat([patchify(latent, patch_size) for latent in latents]),
        positions=torch.cat([positions(grid, coordinates, fps=rate) for grid, rate in zip(grids, rates, strict=True)]).to(device),
        times=torch.cat([_token_times(time, grid, device) for time, grid in zip(times, grids, strict=True)]),
        grids=grids,
        begins=starts,
    )


def _token_times(times: Tensor | float, grid: Triple, device: torch.device) -> Tensor:
    time = torch.as_tensor(times, dtype=torch.float32, device=device)
    if time.ndim == 0:
        return time.expand(math.prod(grid))
    if tuple(time.shape) == grid or time.shape == (math.prod(grid),):
        return time.reshape(-1)
    if time.shape == grid[:1]:
        return time.repeat_interleave(grid[1] * grid[2])
    raise InputError(f"times of shape {tuple(time.shape)} do not fit a token grid {grid}: give one number, one a frame, or one a token")


def unpack(tokens: Tensor, grids: Sequence[Triple], patch_size: Triple = (1, 1, 1)) -> list[Tensor]:
    """Cut packed tokens ``[L, D]`` back into latents ``[C, T, H, W]``, one for every grid.

    Args:
        tokens: Tokens or velocities in the order of the pack.
        grids: `Pack.grids`.
        patch_size: Latent cells per token along ``(T, H, W)``.
    """
    pieces = torch.split(tokens, [math.prod(grid) for grid in grids])
    return [unpatchify(piece, grid, patch_size) for piece, grid in zip(pieces, grids, strict=True)]
