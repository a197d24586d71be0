"""Where in a clip the objects are: written into the records of rendered worlds, read back on the grid of latents.

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

__all__ = ["coverage_record", "latent_coverage"]

CELL = 16


def coverage_record(objects: Tensor) -> dict[str, Any]:
    """Return how much of every cell of 16 x 16 pixels shows an object, as JSON can hold it.

    Args:
        objects: bool ``[T, H, W]``.

    Returns:
        ``{"cell": 16, "percent": [T][h][w]}`` with whole percents; cells at the right and lower edge may be smaller.
    """
    shares = functional.avg_pool2d(objects.float().unsqueeze(1), CELL, ceil_mode=True).squeeze(1)
    return {"cell": CELL, "percent": shares.mul(100).ceil().to(torch.uint8).tolist()}


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
    if coverage is None:
        return None
    try:
        percent = torch.from_numpy(np.asarray(coverage["percent"], dtype=np.float32))
        frames, _, _ = percent.shape
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("a training sample's coverage is damaged; render its shard again") from error
    f, h, w = shape
    if f > 1 and (frames - 1) % (f - 1):
        raise DataError(f"a training sample's coverage has {frames} frames, which do not make {f} latent frames; render its shard again")
    shown = functional.adaptive_max_pool2d((percent > 0).float().unsqueeze(1), (h, w)).squeeze(1)
    return torch.cat([shown[:1], shown[1:].reshape(f - 1, -1, h, w).amax(1)]) if f > 1 else shown[:1]
