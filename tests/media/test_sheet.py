from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diorama.errors import MediaError
from diorama.media import Clip, contact_sheet, read_clip, save_image, thumbnail


def clip(count: int) -> Clip:
    return Clip(np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(24, 2).repeat(3, 3) * 10, 12.0)


def test_a_sheet_shows_first_and_last() -> None:
    sheet = np.asarray(contact_sheet(clip(9), columns=2, rows=2))
    assert sheet.shape == (2 * 20 + 4, 2 * 28 + 4, 3)
    assert sheet[12, 12, 0] == 0
    assert sheet[32, 40, 0] == 80


def test_a_short_clip_gets_a_small_sheet() -> None:
    assert np.asarray(contact_sheet(clip(1))).shape == (24, 32, 3)


def test_large_frames_are_scaled_down() -> None:
    assert contact_sheet(clip(1), longest=12).size == (12 + 8, 8 + 8)
    assert thumbnail(clip(3), longest=12).size == (12, 8)


def test_the_thumbnail_is_the_middle_frame() -> None:
    assert np.asarray(thumbnail(clip(5))).max() == 20


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(MediaError, match="0 columns"):
        contact_sheet(clip(3), columns=0)


def test_pictures_are_written_by_their_ending(tmp_path: Path) -> None:
    path = save_image(thumbnail(clip(5)), tmp_path / "new" / "t.png")
    assert read_clip(path).frames.max() == 20
    with pytest.raises(MediaError, match="allowed endings"):
        save_image(thumbnail(clip(5)), tmp_path / "t.bmp")
    assert [p.name for p in tmp_path.iterdir()] == ["new"]
