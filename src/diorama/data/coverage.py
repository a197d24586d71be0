"""Where in a clip the objects are, and which: written into the records of rendered worlds, read back on the grid of latents.

Objects fill about a tenth of a rendered frame, so a loss that counts every place alike learns floors long before shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.errors import DataError
from diorama.worlds.scene import CAMERA_MOVES, COLORS, MOTIONS, SHAPES

__all__ = ["KINDS", "camera_kind", "coverage_record", "latent_coverage", "latent_kinds"]

CELL = 16
KINDS: dict[str, tuple[str, ...]] = {"shape": SHAPES, "color": tuple(COLORS), "motion": MOTIONS}
"""The attributes of a body that `latent_kinds` tells, with their values."""


def coverage_record(instances: Tensor) -> dict[str, Any]:
    """Return how much of every cell of 16 x 16 pixels shows an object, and which, as JSON can hold it.

    Args:
        instances: uint8 ``[T, H, W]``, 0 for the background, else the number of the body.

    Returns:
        ``{"cell": 16, "percent": [T][h][w], "body": [T][h][w]}`` with whole percents of all bodies together and the number of the body that
        fills most of the cell, 0 where there is none; cells at the right and lower edge may be smaller.
    """
    numbers = torch.arange(1, int(instances.max()) + 1)[:, None, None, None]
    each = functional.avg_pool2d((instances == numbers).float(), CELL, ceil_mode=True)
    whole = each.sum(0) if len(each) else functional.avg_pool2d(torch.zeros(instances.shape), CELL, ceil_mode=True)
    body = (each.argmax(0) + 1) * (whole > 0) if len(each) else torch.zeros_like(whole, dtype=torch.long)
    return {"cell": CELL, "percent": whole.mul(100).ceil().to(torch.uint8).tolist(), "body": body.tolist()}


def latent_coverage(record: Mapping[str, Any], shape: tuple[int, int, int]) -> Tensor | None:
    """Return where a record says that objects are, on the grid of a latent.

    Args:
        record: Of a sample whose frames were encoded as they are.
        shape: Latent size (f, h, w); its first frame is one frame of the clip, each other one several.

    Returns:
        ``[f, h, w]`` float32, 1 where an object shows in any of the frames and 0 elsewhere; None if the record does not say.

    Raises:
        DataError: the record's coverage is not a table of numbers of the clip's length.
    """
    coverage = record.get("coverage")
    return None if coverage is None else (_fullest(coverage, shape)[0] > 0).float()


def latent_kinds(record: Mapping[str, Any], shape: tuple[int, int, int]) -> Tensor | None:
    """Return what a record says that each cell of a latent shows: the attributes of the body that fills most of it.

    Args:
        record: Of a sample whose frames were encoded as they are.
        shape: Latent size (f, h, w).

    Returns:
        ``[len(KINDS), f, h, w]`` int64, for each attribute 0 for the background, else 1 + the place of its value; None if the record does not say.

    Raises:
        DataError: the record's coverage is not a table of the clip's length, or speaks of bodies that its scene does not hold.
    """
    coverage, scene = record.get("coverage"), record.get("scene")
    if coverage is None or scene is None or "body" not in coverage:
        return None
    _, places = _fullest(coverage, shape)
    try:
        number = torch.from_numpy(np.asarray(coverage["body"], dtype=np.int64)).flatten()[places]
        rows = [[0, *(1 + values.index(body[name]) for body in scene["bodies"])] for name, values in KINDS.items()]
        return torch.tensor(rows)[:, number]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged() from error


def camera_kind(record: Mapping[str, Any], mirrored: bool) -> int | None:
    """Return 1 + the place in ``CAMERA_MOVES`` of how a record says that the camera moves; None if the record does not say.

    Args:
        record: Of a sample.
        mirrored: Whether its frames are shown flipped from left to right, which turns left and right round.

    Raises:
        DataError: the record names a move that there is none of.
    """
    scene = record.get("scene")
    move = scene.get("camera", {}).get("move") if isinstance(scene, Mapping) else None
    if move is None:
        return None
    turned = {"left": "right", "right": "left"}
    what, _, way = str(move).rpartition("_")
    try:
        return 1 + CAMERA_MOVES.index(f"{what}_{turned[way]}" if mirrored and way in turned else move)
    except ValueError as error:
        raise DataError(f"a training sample's camera moves by {move!r}; render its shard again") from error


def _fullest(coverage: Mapping[str, Any], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the percent of the fullest of the cells and frames behind each latent cell, and its place in the table, both ``[f, h, w]``."""
    try:
        percent = torch.from_numpy(np.asarray(coverage["percent"], dtype=np.float32))
        frames, high, wide = percent.shape
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged() from error
    f, h, w = shape
    if f > 1 and (frames - 1) % (f - 1):
        raise DataError(f"a training sample's coverage has {frames} frames, which do not make {f} latent frames; render its shard again")
    pooled, places = functional.adaptive_max_pool2d(percent.unsqueeze(1), (h, w), return_indices=True)
    pooled, places = pooled.squeeze(1), places.squeeze(1) + high * wide * torch.arange(frames)[:, None, None]
    if f == 1:
        return pooled[:1], places[:1]
    later, which = pooled[1:].reshape(f - 1, -1, h, w).max(1, keepdim=True)
    later_places = places[1:].reshape(f - 1, -1, h, w).gather(1, which)
    return torch.cat([pooled[:1], later.squeeze(1)]), torch.cat([places[:1], later_places.squeeze(1)])


def _damaged() -> DataError:
    return DataError("a training sample's coverage is damaged; render its shard again")
