from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from diorama.errors import InputError, MediaError
from diorama.geometry.frames import MAX_AREA, choose, footage_of, read_footage
from diorama.media import Clip, resize, save_clip


def sliding(offsets: np.ndarray, size: int = 96, seed: int = 0) -> np.ndarray:
    """Return a view that slides over a picture, at ``offsets`` pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (1, size // 6, (size + int(max(offsets)) + 6) // 6 + 1, 3), dtype=np.uint8)
    wide = resize(coarse, (coarse.shape[2] * 6, size))[0]
    return np.stack([wide[:, int(o) : int(o) + size] for o in offsets])


def test_a_short_clip_is_taken_whole() -> None:
    frames = sliding(np.arange(0, 60, 2))
    footage = footage_of(frames, 12.0, num_frames=24)
    np.testing.assert_array_equal(footage.frames, frames)
    assert footage.numbers == tuple(range(30))
    np.testing.assert_allclose(footage.times, np.arange(30) / 12)
    assert footage.num_source == 30
    diagonal = np.hypot(96, 96)
    np.testing.assert_allclose(footage.motion[1:], 2 / diagonal, rtol=0.3)


def test_frames_are_spread_over_motion_and_not_over_time() -> None:
    # waits for 60 frames, then moves for 40
    offsets = np.concatenate([np.zeros(60), np.arange(40) * 2])
    footage = footage_of(sliding(offsets), num_frames=16)
    assert len(footage.numbers) <= 16
    assert footage.numbers[0] < 15
    assert footage.numbers[-1] >= 97
    assert sum(number >= 60 for number in footage.numbers) >= 10


def test_blurred_frames_are_passed_over() -> None:
    frames = sliding(np.arange(90))
    blurred = [number for number in range(90) if number % 3]
    for number in blurred:
        frames[number] = np.asarray(Image.fromarray(frames[number]).filter(ImageFilter.GaussianBlur(2)))
    footage = footage_of(frames, num_frames=20)
    assert len(footage.numbers) >= 18
    assert sum(number in blurred for number in footage.numbers) <= 2


def test_choice_is_increasing_and_survives_jumps_and_stillness() -> None:
    for motion in ([0.0] * 100, [0.0] + [1.0] * 49 + [500.0] + [1.0] * 49, list(np.random.default_rng(0).random(100) ** 8)):
        chosen = choose(motion, [1.0] * 100, 20)
        assert chosen == sorted(set(chosen))
        assert len(chosen) >= 15
        assert chosen[0] <= 5
        assert chosen[-1] >= 94


def test_black_bars_are_cut_and_black_videos_are_not() -> None:
    frames = sliding(np.arange(0, 40, 2)).copy()
    frames[:, :, :9] = 3
    frames[:, -5:] = 0
    footage = footage_of(frames)
    left, top, right, bottom = footage.bars
    assert 9 <= left <= 11
    assert 5 <= bottom <= 7
    assert (top, right) == (0, 0)
    np.testing.assert_array_equal(footage.frames, frames[:, : 96 - bottom, left:])
    black = footage_of(np.zeros((5, 48, 48, 3), np.uint8))
    assert black.bars == (0, 0, 0, 0)
    assert black.frames.shape == (5, 48, 48, 3)


def test_large_frames_come_down_to_the_area() -> None:
    footage = footage_of(np.zeros((3, 900, 1600, 3), np.uint8))
    height, width = footage.frames.shape[1:3]
    assert width * height == pytest.approx(MAX_AREA, rel=0.01)
    assert width / height == pytest.approx(16 / 9, rel=0.01)


def test_a_file_gives_what_the_frames_give(tmp_path: Path) -> None:
    frames = sliding(np.arange(0, 80, 2))
    path = save_clip(Clip(frames, 10.0), f"{tmp_path}/clip/")  # pictures, so that nothing is lost
    seen: list[tuple[int, int]] = []
    footage = read_footage(path, num_frames=12, progress=lambda done, total: seen.append((done, total)))
    expected = footage_of(frames, 10.0, num_frames=12)
    np.testing.assert_array_equal(footage.frames, expected.frames)
    assert footage.numbers == expected.numbers
    np.testing.assert_allclose(footage.times, expected.times)
    assert seen == sorted(seen)
    assert seen[-1][0] <= seen[-1][1]
    part = read_footage(path, start=1.0, seconds=1.5)
    assert part.num_source == 15
    np.testing.assert_array_equal(part.frames, frames[10:25])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_frames_are_refused_in_a_sentence(tmp_path: Path, count: int) -> None:
    frames = np.zeros((count, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match=rf"has {count} frames? from 0 s on; 3D needs at least 3"):
        read_footage(save_clip(Clip(frames, 10.0), tmp_path / "short.mp4"))
    with pytest.raises(InputError, match="at least 3"):
        footage_of(frames)


def test_long_videos_want_a_part_named(tmp_path: Path) -> None:
    path = save_clip(Clip(np.zeros((310, 16, 16, 3), np.uint8), 0.5), tmp_path / "long.mp4")
    with pytest.raises(InputError, match=r"620 seconds, more than 60.*start and seconds"):
        read_footage(path)
    footage = read_footage(path, start=500, seconds=40)
    assert footage.num_source == 20
    assert footage.times[0] >= 500


def test_wrong_files_and_values_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video", encoding="utf-8")
    with pytest.raises(MediaError):
        read_footage(tmp_path / "notes.mp4")
    with pytest.raises(MediaError):
        read_footage(tmp_path / "missing.mp4")
    with pytest.raises(InputError, match="allowed is 3 to 480"):
        read_footage(tmp_path / "notes.mp4", num_frames=2)
    with pytest.raises(InputError, match="above 0"):
        read_footage(tmp_path / "notes.mp4", seconds=0)
