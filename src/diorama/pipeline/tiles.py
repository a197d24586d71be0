"""Tiles of a frame for decoding in bounded memory: each is decoded through all of time before the next, with what it depends on around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diorama.autoencoder.config import AutoencoderConfig
from diorama.errors import InputError

__all__ = ["Tile", "tiles_of"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of a frame."""

    rows: slice
    """Latent rows to decode, the surroundings included."""
    columns: slice
    """Latent columns to decode."""
    inner_rows: slice
    """Rows of the decoded pixels that are kept."""
    inner_columns: slice
    """Columns of the decoded pixels that are kept."""
    top: int
    """Where the kept pixels go."""
    left: int
    """Where the kept pixels go."""


def tiles_of(size: tuple[int, int], config: AutoencoderConfig, tile: int | None) -> Iterator[Tile]:
    """Yield the tiles of a frame.

    Args:
        size: Latent cells along height and width.
        config: Of the autoencoder, whose decoder says how far its pixels reach.
        tile: Side in pixels; None for one tile.

    Raises:
        InputError: the side is off the grid.
    """
    space = config.stride.space
    if tile is not None and (tile < space or tile % space):
        raise InputError(f"a tile of {tile} pixels is off the grid: give a multiple of {space}, for example {max(1, round(tile / space)) * space}")
    step = max(size) if tile is None else tile // space
    for top in range(0, size[0], step):
        for left in range(0, size[1], step):
            rows, inner_rows = _span(top, step, size[0], config.decoder_halo, space)
            columns, inner_columns = _span(left, step, size[1], config.decoder_halo, space)
            yield Tile(rows=rows, columns=columns, inner_rows=inner_rows, inner_columns=inner_columns, top=top * space, left=left * space)


def _span(start: int, step: int, whole: int, halo: int, space: int) -> tuple[slice, slice]:
    """Return cells to decode, and which of their pixels to keep."""
    stop = min(start + step, whole)
    first, last = max(0, start - halo), min(whole, stop + halo)
    return slice(first, last), slice((start - first) * space, (stop - first) * space)
