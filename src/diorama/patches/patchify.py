"""Patches of one latent as tokens, and back.

A token holds its patch as ``(time, height, width, channel)``, channels last: the order in which the Wan graph gives its
output, so that tokens and velocities need no reordering between model and sampler.
"""

from __future__ import annotations

import math

from torch import Tensor

from diorama.errors import InputError

__all__ = ["grid_of", "patchify", "unpatchify"]

Triple = tuple[int, int, int]


def grid_of(shape: Triple, patch_size: Triple) -> Triple:
    """Return the token grid ``(f, h, w)`` of a latent.

    Args:
        shape: Latent ``(T, H, W)``.
        patch_size: Latent cells per token along ``(T, H, W)``.

    Raises:
        InputError: a side is not a positive multiple of the patch.
    """
    if any(side < patch or side % patch for side, patch in zip(shape, patch_size, strict=True)):
        raise InputError(
            f"a latent of {'x'.join(map(str, shape))} cells cannot be cut into patches of {'x'.join(map(str, patch_size))}: "
            "every side must be a positive multiple of the patch; choose a size on that grid"
        )
    return shape[0] // patch_size[0], shape[1] // patch_size[1], shape[2] // patch_size[2]


def patchify(latent: Tensor, patch_size: Triple) -> Tensor:
    """Cut a latent into tokens, row by row, frame by frame.

    Args:
        latent: ``[C, T, H, W]``.
        patch_size: Latent cells per token along ``(T, H, W)``.

    Returns:
        Tokens ``[L, D]`` with ``L = f * h * w`` and ``D = prod(patch_size) * C``.

    Raises:
        InputError: a side is not a positive multiple of the patch.
    """
    c, t, h, w = latent.shape
    f, rows, columns = grid_of((t, h, w), patch_size)
    pt, ph, pw = patch_size
    cut = latent.reshape(c, f, pt, rows, ph, columns, pw)
    return cut.permute(1, 3, 5, 2, 4, 6, 0).reshape(f * rows * columns, pt * ph * pw * c)


def unpatchify(tokens: Tensor, grid: Triple, patch_size: Triple) -> Tensor:
    """Undo `patchify`.

    Args:
        tokens: ``[L, D]``.
        grid: Token grid ``(f, h, w)``.
        patch_size: Latent cells per token along ``(T, H, W)``.

    Returns:
        The latent ``[C, T, H, W]``.
    """
    f, rows, columns = grid
    pt, ph, pw = patch_size
    c = tokens.shape[1] // math.prod(patch_size)
    cut = tokens.reshape(f, rows, columns, pt, ph, pw, c)
    return cut.permute(6, 0, 3, 1, 4, 2, 5).reshape(c, f * pt, rows * ph, columns * pw)
