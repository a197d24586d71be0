from __future__ import annotations

import numpy as np
import pytest

from diorama.errors import MediaError
from diorama.media import place, resize
from diorama.media.resize import plan


def test_same_size_is_untouched() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    assert resize(frames, (24, 16)) is frames


def test_shrinking_averages() -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[None, ..., None].repeat(3, -1)
    small = resize(board, (8, 8))
    assert np.abs(small.astype(int) - 128).max() <= 2


def test_crop_cuts_the_sides_and_keeps_the_middle() -> None:
    frames = np.zeros((1, 20, 60, 3), np.uint8)
    frames[:, :, 20:40] = 255
    shown, placement = place(frames, (40, 40), "crop")
    assert shown.shape == (1, 40, 40, 3)
    assert shown[:, :, 2:-2].min() >= 250
    assert placement.source_box == (20.0, 0.0, 40.0, 20.0)
    assert placement.describe() == "60x20 cropped to 20x20, scaled to 40x40"


def test_pad_shows_everything_on_black() -> None:
    shown, placement = place(np.full((1, 20, 60, 3), 255, np.uint8), (30, 30), "pad")
    assert placement.target_box == (0, 10, 30, 20)
    assert shown[0, 10:20].min() == 255
    assert shown[0, :10].max() == shown[0, 20:].max() == 0


def test_stretch_fills() -> None:
    shown, placement = place(np.full((1, 20, 60, 3), 7, np.uint8), (16, 48), "stretch")
    assert shown.shape == (1, 48, 16, 3)
    assert shown.min() == shown.max() == 7
    assert placement.describe() == "60x20 stretched to 16x48"


def test_unknown_fit_names_the_nearest() -> None:
    with pytest.raises(MediaError, match="did you mean 'crop'"):
        plan((4, 4), (8, 8), "crops")  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="at least 1 pixel"):
        plan((4, 4), (8, 0), "crop")
