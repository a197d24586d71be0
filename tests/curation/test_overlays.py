"""Text, subtitles and logos are found where they were drawn, and not where they were not."""

from __future__ import annotations

import cv2
import numpy as np
from tests.curation.conftest import pan, texture

from diorama.curation.overlays import mark_area, subtitle_share, text_boxes, text_share, watermark_strength
from diorama.media import Pixels


def smooth(frames: Pixels) -> list[Pixels]:
    return [cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames]


def drift(seed: int, frames: int) -> list[Pixels]:
    """Return a camera that moves aslant over a texture."""
    wide = texture(seed, 144 + 7 * frames, 256 + 11 * frames) // 2 + 60
    return [wide[7 * i : 7 * i + 144, 11 * i : 11 * i + 256].copy() for i in range(frames)]


def written(frames: list[Pixels], text: str, where: tuple[int, int], scale: float = 0.45) -> list[Pixels]:
    out = [frame.copy() for frame in frames]
    for frame in out:
        cv2.putText(frame, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def test_a_subtitle_is_found_and_is_text() -> None:
    plain = smooth(pan(0, 6, size=(256, 144)) // 2)
    marked = written(plain, "what a wonderful day", (45, 135))
    assert subtitle_share(plain) == 0
    assert subtitle_share(marked) >= 0.8
    assert text_share(plain) == 0
    assert 0.02 < text_share(marked) < 0.2
    (left, top, right, bottom) = text_boxes(marked[0])[0]
    assert left < 60 < 150 < right
    assert 115 < top < bottom <= 144


def test_a_title_is_no_subtitle() -> None:
    marked = written(smooth(pan(0, 6, size=(256, 144)) // 2), "what a wonderful day", (45, 60))
    assert subtitle_share(marked) == 0
    assert text_share(marked) > 0.02


def test_a_logo_stays_while_the_camera_moves() -> None:
    plain = drift(1, 12)
    marked = [frame.copy() for frame in plain]
    for frame in marked:
        frame[8:24, 216:248] = 250
        frame[12:20, 222:242] = 10
    assert mark_area(plain) < 0.002
    assert mark_area(marked) > 0.004


def test_where_nothing_moves_nothing_is_said() -> None:
    still = [pan(0, 1, size=(256, 144))[0]] * 8
    assert mark_area(still) == watermark_strength(still) == 0.0
    assert mark_area([]) == subtitle_share([]) == text_share([]) == 0.0


def test_a_watermark_is_stronger_than_none() -> None:
    plain = drift(2, 14)
    mark = np.zeros((144, 256, 3), np.uint8)
    cv2.putText(mark, "PREVIEW", (60, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 1, cv2.LINE_AA)
    marked = [np.clip(frame + 0.25 * mark * (1 - frame / 255), 0, 255).astype(np.uint8) for frame in plain]
    assert watermark_strength(marked) > 3 * watermark_strength(plain)
