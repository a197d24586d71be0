from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from diorama.errors import MediaError
from diorama.media import Audio, Clip, check_output, probe, read_clip, read_metadata, resize, save_clip, save_frames

METADATA = {"diorama": '{"prompt": "a red ball, 红, é", "seed": 7}', "long": "x" * 700}
PSNR = {"a.mp4": 33, "a.webm": 33, "a.gif": 20, "a.webp": 30, "a/": 99, "a/%03d.png": 99}


def smooth(count: int = 9, height: int = 64, width: int = 96) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(60, 200, (count, 4, 6, 3), dtype=np.uint8)
    return resize(coarse, (width, height))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(a.astype(float) - b).mean(), 1e-9)))


@pytest.mark.parametrize("name", PSNR)
def test_round_trip_with_metadata(tmp_path: Path, name: str) -> None:
    clip = Clip(smooth(), 12.0, METADATA)
    path = save_clip(clip, f"{tmp_path}/new/{name}")
    back = read_clip(path)
    assert back.frames.shape == clip.frames.shape
    assert back.fps == 12.0
    assert back.metadata == read_metadata(path) == METADATA
    assert psnr(back.frames, clip.frames) > PSNR[name]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [path.name]


@pytest.mark.parametrize("name", ["o.png", "o.webp", "o.jpg", "o.mp4", "o.webm", "o.gif"])
def test_one_frame(tmp_path: Path, name: str) -> None:
    clip = Clip(smooth(1), 12.0, METADATA)
    back = read_clip(save_clip(clip, tmp_path / name))
    assert back.frames.shape == clip.frames.shape
    assert back.metadata == METADATA
    assert psnr(back.frames, clip.frames) > (99 if name == "o.png" else 20)


@pytest.mark.parametrize("name", ["odd.mp4", "odd.webm", "odd.gif"])
def test_odd_sizes(tmp_path: Path, name: str) -> None:
    assert read_clip(save_clip(Clip(smooth()[:, :37, :53], 12.0), tmp_path / name)).frames.shape == (9, 37, 53, 3)


@pytest.mark.parametrize("name", ["d.mp4", "d.webm", "d.gif", "d.webp"])
def test_two_saves_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    clip = Clip(smooth(17), 12.0, METADATA)
    files = {save_clip(clip, tmp_path / f"{i}{name}").read_bytes() for i in range(3)}
    assert len(files) == 1


@pytest.mark.parametrize("fps", [12.5, 24.0, 30000 / 1001, 8.0])
@pytest.mark.parametrize("name", ["r.mp4", "r.webm", "r.gif"])
def test_rates_come_back(tmp_path: Path, name: str, fps: float) -> None:
    assert probe(save_clip(Clip(smooth(25, 16, 16), fps), tmp_path / name)).fps == pytest.approx(fps, rel=1e-4 if name != "r.gif" else 2e-3)


def test_mp4_plays_while_it_loads_and_everywhere(tmp_path: Path) -> None:
    path = save_clip(Clip(smooth(), 12.0), tmp_path / "a.mp4")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert probe(path).codec == "h264"


def test_quality_costs_bytes(tmp_path: Path) -> None:
    clip = Clip(smooth(), 12.0)
    sizes = [save_clip(clip, tmp_path / "a.mp4", quality=quality).stat().st_size for quality in (10, 50, 95)]
    assert sizes == sorted(set(sizes))
    with pytest.raises(MediaError, match="1 to 100"):
        save_clip(clip, tmp_path / "a.mp4", quality=0)


def test_chunks_make_the_same_file_as_the_whole(tmp_path: Path) -> None:
    frames = smooth()
    whole = save_clip(Clip(frames, 12.0), tmp_path / "a.mp4").read_bytes()

    def chunks() -> Iterator[np.ndarray]:
        yield frames[:1]
        yield frames[1:5]
        yield frames[5:]

    assert save_frames(chunks(), tmp_path / "b.mp4", fps=12.0).read_bytes() == whole


@pytest.mark.parametrize("name", ["s.mp4", "s.webm"])
def test_sound_is_kept(tmp_path: Path, name: str) -> None:
    tone = np.sin(np.arange(48000) / 48000 * 2 * np.pi * 440).astype(np.float32)[None] * 0.5
    path = save_clip(Clip(smooth(12), 12.0, audio=Audio(samples=tone, rate=48000)), tmp_path / name)
    sound = read_clip(path, audio=True).audio
    assert sound is not None
    assert sound.rate == 48000
    assert abs(sound.samples.shape[1] - 48000) < 2048
    spectrum = np.abs(np.fft.rfft(sound.samples[0, 8000:40000]))
    assert round(float(spectrum.argmax()) * 48000 / 32000) == pytest.approx(440, abs=2)
    assert read_clip(path).audio is None


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("a.avi", 2, "allowed endings are"),
        ("a", 2, "allowed endings are"),
        ("a.png", 2, "holds one picture"),
        ("a.jpg", 2, "holds one picture"),
    ],
)
def test_wrong_endings_are_refused(tmp_path: Path, name: str, count: int, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        save_clip(Clip(smooth(count), 12.0), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_gif_has_its_limit(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="at most 50"):
        save_clip(Clip(smooth(), 60.0), tmp_path / "a.gif")


def test_a_folder_is_replaced_whole_unless_it_holds_other_files(tmp_path: Path) -> None:
    save_clip(Clip(smooth(9), 12.0), f"{tmp_path}/f/")
    save_clip(Clip(smooth(3), 12.0), f"{tmp_path}/f/")
    assert read_clip(tmp_path / "f").num_frames == 3
    (tmp_path / "f" / "thesis.txt").write_text("dear")
    with pytest.raises(MediaError, match=r"other files \(thesis.txt\)"):
        save_clip(Clip(smooth(3), 12.0), f"{tmp_path}/f/")
    assert (tmp_path / "f" / "thesis.txt").read_text() == "dear"


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp", "a/"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    path = save_clip(Clip(smooth(2, 16, 16), 12.0), f"{tmp_path}/{name}")
    before = read_clip(path).frames
    coarse = np.random.default_rng(0).integers(0, 256, (9, 128, 128, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(MediaError, match="the disk is full"):
            save_clip(Clip(coarse, 12.0), f"{tmp_path}/{name}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(read_clip(path).frames, before)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MediaError, match=r"cannot be written: .*; choose another place"):
        save_clip(Clip(smooth(2), 12.0), tmp_path / "file" / "a.mp4")
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(MediaError, match="it is a folder"):
        save_clip(Clip(smooth(2), 12.0), tmp_path / "a.mp4")
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(MediaError, match="permission"):
            save_clip(Clip(smooth(2), 12.0), tmp_path / "b.mp4")
        tmp_path.chmod(0o700)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def chunks() -> Iterator[np.ndarray]:
        yield smooth(3)
        raise KeyboardInterrupt

    for name in ("a.mp4", "a.gif", "a/"):
        with pytest.raises(KeyboardInterrupt):
            save_frames(chunks(), f"{tmp_path}/{name}", fps=12.0)
    assert not list(tmp_path.iterdir())


def test_a_place_is_refused_before_there_is_anything_to_write(tmp_path: Path) -> None:
    assert check_output(tmp_path / "new" / "a.mp4") == tmp_path / "new" / "a.mp4"
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(MediaError, match="allowed endings"):
        check_output(tmp_path / "a.xyz")
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="cannot be written"):
        check_output(tmp_path / "file" / "a.mp4")
