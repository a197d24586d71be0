"""Pictures of clips: a thumbnail and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diorama.errors import MediaError
from diorama.media.clip import Clip
from diorama.media.write import writing

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["contact_sheet", "save_image", "thumbnail"]

GAP = 4  # pixels between the frames of a sheet


def thumbnail(clip: Clip, longest: int = 256) -> Image:
    """Return the middle frame, scaled down so that its longer side is at most ``longest`` pixels."""
    from PIL import Image

    image = Image.fromarray(clip.frames[clip.num_frames // 2])
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    return image


def contact_sheet(clip: Clip, columns: int = 4, rows: int = 3, longest: int = 256) -> Image:
    """Return evenly spaced frames on a dark sheet, first and last included, read left to right.

    Args:
        clip: What to show; a clip with fewer frames than cells gets fewer cells.
        columns: Frames beside each other, at least 1.
        rows: Frames above each other, at least 1.
        longest: Longer side of one frame at most, pixels.

    Raises:
        MediaError: ``columns`` or ``rows`` is below 1.
    """
    from PIL import Image

    if columns < 1 or rows < 1:
        raise MediaError(f"a contact sheet of {columns} columns and {rows} rows is empty; both must be at least 1")
    shown = np.unique(np.linspace(0, clip.num_frames - 1, min(columns * rows, clip.num_frames)).round().astype(int))
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    scale = min(1.0, longest / max(clip.width, clip.height))
    width, height = max(1, round(clip.width * scale)), max(1, round(clip.height * scale))
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), (24, 24, 24))
    for cell, index in enumerate(shown):
        image = Image.fromarray(clip.frames[index]).resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(image, (GAP + cell % columns * (width + GAP), GAP + cell // columns * (height + GAP)))
    return sheet


def save_image(image: Image, path: str | Path) -> Path:
    """Write a picture whole or not at all; the ending chooses the format.

    Raises:
        MediaError: the ending is no image format, the disk is full or the place is not writable.
    """
    path = Path(path)
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    if path.suffix.lower() not in formats:
        raise MediaError(f"a picture cannot be written to '{path.name}'; allowed endings: {', '.join(formats)}")
    with writing(path) as fresh:
        image.save(fresh, formats[path.suffix.lower()])
    return path
