from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diorama.errors import MediaError, TooLargeError
from diorama.media import Clip, iter_frames, read_clip, save_clip
from diorama.media.codec import libav


def counted(count: int = 24, size: int = 32) -> Clip:
    """Return a clip whose brightness counts its frames."""
    return Clip((np.arange(count, dtype=np.uint8) * 10)[:, None, None, None].repeat(size, 1).repeat(size, 2).repeat(3, 3), 12.0)


def numbers(frames: np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 10) for frame in frames]


@pytest.mark.parametrize("name", ["c.mp4", "c.webm", "c/", "c.webp"])
@pytest.mark.parametrize(("start", "count"), [(0.0, 3), (0.5, 4), (1.0, 20)])
def test_a_part_is_exact(tmp_path: Path, name: str, start: float, count: int) -> None:
    path = save_clip(counted(), f"{tmp_path}/{name}", quality=95)
    clip = read_clip(path, start=start, max_frames=count)
    first = round(start * 12)
    assert numbers(clip.frames) == list(range(first, min(first + count, 24)))
    assert clip.fps == 12.0


@pytest.mark.parametrize(("fps", "expected"), [(6.0, [0, 2, 4, 6]), (24.0, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]), (12.0, list(range(8)))])
def test_another_rate_shows_the_newest_frame(tmp_path: Path, fps: float, expected: list[int]) -> None:
    path = save_clip(counted(8), tmp_path / "c.mp4", quality=95)
    clip = read_clip(path, fps=fps)
    assert numbers(clip.frames) == expected
    assert clip.seconds == pytest.approx(8 / 12)
    assert [frame.time for frame in iter_frames(path, fps=fps)] == pytest.approx([i / fps for i in range(len(expected))])


def test_variable_rate_keeps_its_times_or_becomes_constant(tmp_path: Path) -> None:
    av, times = libav(), [0, 1, 2, 3, 8, 9, 10]
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * i, np.uint8), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert [frame.time for frame in iter_frames(tmp_path / "v.mp4")] == pytest.approx([time / 10 for time in times])
    clip = read_clip(tmp_path / "v.mp4")
    assert clip.fps == pytest.approx(10)
    assert numbers(clip.frames) == [0, 1, 2, 3, 3, 3, 3, 3, 4, 5, 6]


def test_frames_come_one_at_a_time(tmp_path: Path) -> None:
    path = save_clip(counted(), tmp_path / "c.mp4")
    frames = iter_frames(path)
    assert next(frames).time == 0.0
    frames.close()  # type: ignore[attr-defined]


def test_size_and_fit(tmp_path: Path) -> None:
    path = save_clip(counted(3), tmp_path / "c.mp4", quality=95)
    assert read_clip(path, size=(48, 16)).frames.shape == (3, 16, 48, 3)
    padded = read_clip(path, size=(48, 16), fit="pad").frames
    assert padded[2, :, :14].max() == 0
    assert padded[2, :, 18:30].min() > 10


def test_transparency_gets_a_background(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / "t.png")
    assert read_clip(tmp_path / "t.png").frames.max() == 0
    assert next(iter_frames(tmp_path / "t.png", background=(9, 8, 7))).pixels[0, 0].tolist() == [9, 8, 7]
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / "t.gif")
    assert next(iter_frames(tmp_path / "t.gif", background=(255, 255, 255))).pixels[0, 0].tolist() == [255, 255, 255]


def test_a_turned_photo_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "p.jpg", exif=exif)
    assert read_clip(tmp_path / "p.jpg").frames.shape == (1, 40, 20, 3)


def test_pictures_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    for i in range(2):
        Image.new("RGB", (8 + 8 * i, 8)).save(tmp_path / f"{i}.png")
    with pytest.raises(MediaError, match="changes its picture size"):
        read_clip(tmp_path)
    assert read_clip(tmp_path, size=(8, 8)).num_frames == 2


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("name", ["c.mp4", "c.webm"])
def test_truncated_files_are_named(tmp_path: Path, name: str, share: float) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    data = save_clip(Clip(frames, 12.0), tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(MediaError, match=r"truncated|damaged|not a media file") as caught:
        read_clip(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_cut_picture_is_named(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    data = save_clip(Clip(frames, 12.0), tmp_path / "p.png").read_bytes()
    (tmp_path / "p.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="truncated or damaged picture"):
        read_clip(tmp_path / "p.png")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    av = libav()
    with av.open(str(tmp_path / "s.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="no video stream"):
        read_clip(tmp_path / "s.mp4")


def test_a_stream_without_frames_is_named(tmp_path: Path) -> None:
    av = libav()
    with av.open(str(tmp_path / "z.mp4"), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    with pytest.raises(MediaError, match="0 frames"):
        read_clip(tmp_path / "z.mp4")


@pytest.mark.parametrize("name", ["c.mp4", "c/", "c.webp"])
def test_a_start_after_the_end_is_refused(tmp_path: Path, name: str) -> None:
    path = save_clip(counted(6), f"{tmp_path}/{name}")
    with pytest.raises(MediaError, match="no frame at or after 9 s"):
        read_clip(path, start=9.0)


@pytest.mark.parametrize("options", [{"start": -1.0}, {"start": float("nan")}, {"fps": 0.0}, {"max_frames": 0}])
def test_impossible_requests_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    path = save_clip(counted(3), tmp_path / "c.mp4")
    with pytest.raises(MediaError):
        read_clip(path, **options)  # type: ignore[arg-type]


def test_what_cannot_fit_is_refused_before_reading(tmp_path: Path) -> None:
    path = save_clip(counted(6), tmp_path / "c.mp4")
    with pytest.raises(TooLargeError, match="read fewer frames"):
        read_clip(path, size=(60_000, 60_000), fps=1000.0)


def test_real_files_of_every_kind(shared: Path) -> None:
    for name in ("moviepy__fire2.mp4", "interactive-examples__flower.webm", "moviepy__pigs_in_a_polka.gif", "PySceneDetect__delayed_start.mp4"):
        clip = read_clip(shared / "video" / name, max_frames=9, fps=12.0, size=(96, 64))
        assert clip.frames.shape == (9, 64, 96, 3), name
        assert clip.frames.std() > 5, name


def test_real_times_grow(shared: Path) -> None:
    times = [frame.time for frame in iter_frames(shared / "video" / "PySceneDetect__delayed_start.mp4")]
    assert times[0] == 0.0
    assert all(a < b for a, b in pairwise(times))


def test_real_sound(shared: Path) -> None:
    clip = read_clip(shared / "video" / "interactive-examples__stream-of-water.mp4", max_frames=15, audio=True, size=(48, 32))
    assert clip.audio is not None
    assert clip.audio.samples.shape[1] / clip.audio.rate == pytest.approx(clip.seconds, abs=0.05)
