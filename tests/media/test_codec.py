from __future__ import annotations

import io
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from diorama.errors import MediaError
from diorama.media import decode_bytes, decode_picture, encode_bytes, encode_picture
from diorama.media.codec import Encoding, decode, encode, libav, pixel_aspect

QUADRANTS = np.array([[(220, 30, 20), (20, 200, 40)], [(10, 60, 220), (250, 240, 230)]], np.uint8)


def quadrants(height: int = 32, width: int = 48) -> np.ndarray:
    return QUADRANTS.repeat(height // 2, 0).repeat(width // 2, 1)


def noise(frames: int = 9, height: int = 64, width: int = 96) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (frames, height // 16, width // 16, 3), dtype=np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)


@pytest.mark.parametrize("full_chroma", [True, False])
def test_colours_survive_a_round_trip(full_chroma: bool) -> None:
    frames = np.stack([quadrants()] * 3)
    back = decode_bytes(encode_bytes(frames, 12, crf=2, full_chroma=full_chroma)).astype(int)
    for y, x in ((8, 12), (8, 36), (24, 12), (24, 36)):
        assert np.abs(back[1, y, x] - frames[1, y, x]).max() <= 3


def test_full_chroma_is_nearer_to_the_frames() -> None:
    frames = noise()

    def error(full_chroma: bool) -> float:
        return float(np.square(decode_bytes(encode_bytes(frames, 12, crf=4, full_chroma=full_chroma)).astype(float) - frames).mean())

    assert error(True) < 0.5 * error(False)


def test_equal_frames_give_equal_bytes() -> None:
    frames = noise(17)
    files = {encode_bytes(np.array(frames), 12) for _ in range(8)}
    assert len(files) == 1


def test_odd_sizes_keep_their_size() -> None:
    assert decode_bytes(encode_bytes(noise()[:, :37, :53], 12)).shape == (9, 37, 53, 3)


def test_garbage_is_named() -> None:
    with pytest.raises(MediaError, match="sample 3 is damaged"):
        decode_bytes(b"garbage" * 100, "sample 3")
    with pytest.raises(MediaError, match="picture in memory is damaged"):
        decode_picture(b"garbage" * 100)


def test_pictures_are_exact() -> None:
    frame = noise(1)[0]
    np.testing.assert_array_equal(decode_picture(encode_picture(frame)), frame)


def test_frames_that_change_size_are_refused() -> None:
    encoding = Encoding(container="mp4", codec="libx264", options={})
    with pytest.raises(MediaError, match="do not fit"):
        encode(io.BytesIO(), [noise(), noise(2, 32, 32)], encoding, fps=12)
    with pytest.raises(MediaError, match="0 frames"):
        encode(io.BytesIO(), [], encoding, fps=12)


def encoded(**settings: object) -> io.BytesIO:
    """Return an mp4 whose stream was given ``settings`` that our own writer never makes."""
    av, buffer = libav(), io.BytesIO()
    rotation = settings.pop("rotation", None)
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12, options={"crf": "2"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, settings.pop("pix_fmt", "yuv444p")
        if rotation is not None:
            stream.set_display_rotation(rotation)
        color_range = settings.pop("color_range", 1)
        stream.codec_context.color_range, stream.codec_context.colorspace = color_range, 1
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(quadrants(), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt, dst_colorspace="ITU709", dst_color_range=color_range)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    buffer.seek(0)
    return buffer


def first(buffer: io.BytesIO) -> np.ndarray:
    with libav().open(buffer) as container:
        return next(iter(decode(container, "test"))).pixels


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_is_undone(rotation: int) -> None:
    shown = first(encoded(rotation=rotation)).astype(int)
    expected = np.rot90(quadrants(), rotation // 90)
    assert shown.shape == expected.shape
    height, width = shown.shape[:2]
    for y, x in ((height // 4, width // 4), (height // 4, 3 * width // 4), (3 * height // 4, width // 4)):
        assert np.abs(shown[y, x] - expected[y, x]).max() <= 4


def test_full_range_is_understood() -> None:
    shown = first(encoded(color_range=2))
    assert np.abs(shown[24, 36].astype(int) - QUADRANTS[1, 1]).max() <= 4


@pytest.mark.parametrize(("aspect", "shape"), [("2/1", (32, 96, 3)), ("1/2", (64, 48, 3))])
def test_pixels_become_square(aspect: str, shape: tuple[int, ...]) -> None:
    assert first(encoded(sample_aspect_ratio=Fraction(aspect))).shape == shape


def test_absurd_pixel_aspect_is_refused() -> None:
    assert pixel_aspect(SimpleNamespace(sample_aspect_ratio=None), "test") == 1.0
    with pytest.raises(MediaError, match="pixel aspect of 100"):
        pixel_aspect(SimpleNamespace(sample_aspect_ratio=Fraction(100, 1)), "test")
