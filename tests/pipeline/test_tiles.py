from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.errors import InputError
from diorama.pipeline.generate import decode
from diorama.pipeline.load import Models
from diorama.pipeline.tiles import tiles_of

CONFIG = AutoencoderConfig(z_dim=4, widths=(8, 8, 8))


@pytest.mark.parametrize(("size", "tile"), [((5, 9), 32), ((1, 1), 16), ((4, 4), 64), ((3, 7), 1600), ((6, 2), None)])
def test_tiles_cover_a_frame_once(size: tuple[int, int], tile: int | None) -> None:
    seen = np.zeros((size[0] * 16, size[1] * 16), int)
    for part in tiles_of(size, CONFIG, tile):
        height, width = (inner.stop - inner.start for inner in (part.inner_rows, part.inner_columns))
        seen[part.top : part.top + height, part.left : part.left + width] += 1
        for cells, inner, start, whole in ((part.rows, part.inner_rows, part.top, size[0]), (part.columns, part.inner_columns, part.left, size[1])):
            assert cells.start * 16 + inner.start == start
            assert 0 <= cells.start <= cells.stop <= whole
            assert inner.stop <= (cells.stop - cells.start) * 16
            assert inner.start in (cells.start * 0, CONFIG.decoder_halo * 16, start)
    assert (seen == 1).all()


def test_a_tile_off_the_grid_is_refused() -> None:
    for tile in (0, 8, 100):
        with pytest.raises(InputError, match=rf"a tile of {tile} pixels is off the grid: give a multiple of 16"):
            list(tiles_of((4, 4), CONFIG, tile))


@pytest.mark.parametrize("ring", [False, True])
def test_tiles_decode_what_whole_frames_do(models: Models, ring: bool) -> None:
    latent = torch.randn(4, 3, 7, 13, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = decode(models, latent, 12.0, ring=ring)
        told: list[tuple[str, int, int]] = []
        tiled = decode(replace(models, tile=32), latent, 12.0, lambda *step: told.append(step), ring=ring)
    assert whole.shape == tiled.shape == (12 if ring else 9, 112, 208, 3)
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 2, "bf16 sums in another order, rounded to bytes"
    assert told == [("decode", done, 4 * 7 * 3) for done in range(4 * 7 * 3 + 1)]
