"""The picture encoder of Wan 2.1's image-to-video checkpoints: CLIP's vision tower, through transformers (extra ``hub``)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diorama.errors import CheckpointError, MissingExtraError

__all__ = ["ClipImageEncoder", "load_image_encoder"]


class ClipImageEncoder:
    """Pictures to states.

    States are those before the last layer, one for the whole picture and one a patch, as Wan's transformer was trained on them.

    Args:
        model: A ``CLIPVisionModel``.
        processor: Its ``CLIPImageProcessor``.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor

    @torch.no_grad()
    def encode(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Encode pictures ``[S, H, W, 3]`` uint8 into states ``[S, M, image_dim]``."""
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        values = pixels.to(self.model.device, next(self.model.parameters()).dtype)
        states: Tensor = self.model(pixel_values=values, output_hidden_states=True).hidden_states[-2]
        return states


def load_image_encoder(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> ClipImageEncoder:
    """Read ``image_encoder/`` and ``image_processor/`` of a diffusers folder.

    Args:
        folder: The model folder.
        device: Where to put the encoder.
        dtype: Number format of its weights; None keeps that on disk.

    Raises:
        MissingExtraError: transformers is not installed.
        CheckpointError: the folder holds no CLIP vision model, or a tensor is missing or of another shape.
    """
    try:
        from transformers import CLIPImageProcessor, CLIPVisionModel
    except ImportError as error:
        raise MissingExtraError("transformers", "hub", "the picture encoder of an image-to-video checkpoint") from error
    place = folder / "image_encoder"
    try:
        with _quiet():
            model, found = CLIPVisionModel.from_pretrained(
                place, local_files_only=True, dtype=dtype or "auto", ignore_mismatched_sizes=True, output_loading_info=True
            )
            processor = CLIPImageProcessor.from_pretrained(folder / "image_processor", local_files_only=True)
    except Exception as error:  # a truncated file is a SafetensorError, a wrong one anything
        raise CheckpointError(f"picture encoder of {folder} cannot be read: {' '.join(str(error).split())}; download or export it again") from error
    for name, got, expected in sorted(found["mismatched_keys"]):
        raise CheckpointError(f"{place}: tensor '{name}' has shape {tuple(got)}, expected {tuple(expected)}; the weights are of another model")
    for name in sorted(found["missing_keys"]):
        raise CheckpointError(f"{place} lacks tensor '{name}' of shape {tuple(model.state_dict()[name].shape)}; download or export it again")
    return ClipImageEncoder(model.to(device), processor)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing a table of what it found: the faults are raised."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
