"""What the model sees of a clip, and what is given back: exact ends, exact counts, the same box both ways."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.errors import InputError, MediaError
from diorama.media import Audio, Clip, Fit, Pixels, resize
from diorama.pipeline.source import Canvas, Source, as_clip, grid_size, is_file, made_with, open_source, part
from diorama.shapes import Stride, VideoShape

GRID = Stride()
RATES = (12.0, 12.5, 24.0, 29.97, 60.0, 5.0)
LENGTHS = (1, 2, 3, 17, 61, 300)
EPS = 1e-6


def numbered(num_frames: int, fps: float, width: int = 3, height: int = 2) -> Clip:
    """Return a clip whose frames say their number."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = (np.arange(num_frames) % 256)[:, None, None]
    frames[..., 1] = (np.arange(num_frames) // 256)[:, None, None]
    return Clip(frames, fps)


def numbers(frames: Pixels) -> list[int]:
    return [int(frame[0, 0, 0]) + 256 * int(frame[0, 0, 1]) for frame in frames]


def patterned(num_frames: int, width: int, height: int, fps: float = 12.0) -> Clip:
    return Clip(np.random.default_rng(width * height).integers(0, 256, (num_frames, height, width, 3), np.uint8), fps)


@pytest.fixture(params=[(n, rate, fps) for n in LENGTHS for rate in RATES for fps in (12.0, 24.0)], ids=str)
def source(request: pytest.FixtureRequest) -> Source:
    num_frames, rate, fps = request.param
    return open_source(numbered(num_frames, rate), (3, 2), fps, "stretch")


def test_counts_are_exact_and_ends_are_the_ends(source: Source) -> None:
    clip, count = source.clip, source.num_frames
    span = (clip.num_frames - 1) / clip.fps
    assert (count - 1) / source.fps <= span + EPS < count / source.fps + 2 * EPS
    head, tail = numbers(source.head(count)), numbers(source.tail(count))
    assert head[0] == 0
    assert tail[-1] == clip.num_frames - 1
    assert tail == [clip.num_frames - 1 - i for i in reversed(head)]
    assert all(abs(i / clip.fps - k / source.fps) <= 0.5 / clip.fps + EPS for k, i in enumerate(head))
    for some in {1, 2, count // 2 + 1, count} - {0}:
        assert numbers(source.head(some)) == [*head, clip.num_frames - 1][:some]
        assert numbers(source.tail(some))[-1] == clip.num_frames - 1
    for limit in (1, 2, 4, 5, 17, 18, 1000):
        length = source.length(limit, GRID)
        assert (length - 1) % GRID.time == 0
        assert 1 <= length <= min(limit, count) < length + GRID.time


def test_the_whole_is_on_the_grid_and_repeats_only_the_end(source: Source) -> None:
    whole = numbers(source.whole(GRID))
    assert (len(whole) - 1) % GRID.time == 0
    assert source.num_frames <= len(whole) < source.num_frames + GRID.time
    assert whole[: source.num_frames] == numbers(source.head(source.num_frames))
    assert whole[source.num_frames :] == [source.clip.num_frames - 1] * (len(whole) - source.num_frames)


def test_every_given_frame_has_its_moment(source: Source) -> None:
    clip, moments = source.clip, source.moments()
    assert len(moments) == clip.num_frames
    assert moments[0] == 0
    assert moments == sorted(moments)
    last = source.num_frames - 1
    assert all(abs(m / source.fps - i / clip.fps) <= 0.5 / source.fps + EPS for i, m in enumerate(moments) if m < last)
    assert max(moments) == last or clip.fps < source.fps
    if clip.fps == source.fps:
        assert moments == list(range(clip.num_frames))
    slow = Canvas(width=3, height=2, fps=6.0)
    assert [moments[i] for i in numbers(source.shown(slow))] == source.moments(slow)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("num_frames", [1, 2, 31, 240])
@pytest.mark.parametrize("fps", [6.0, 12.0, 29.97, 30.0, 60.0])
def test_timing_invents_nothing_and_keeps_the_duration(rate: float, num_frames: int, fps: float) -> None:
    frames, canvas = numbered(num_frames, rate).frames, Canvas(width=3, height=2, fps=fps)
    timed = numbers(canvas.timed(frames, rate))
    assert set(timed) <= set(range(num_frames))
    assert timed == sorted(timed)
    assert len(timed) == 1 or abs(len(timed) / fps - num_frames / rate) <= 0.5 / fps + EPS
    assert all(frame / rate <= (i + 0.5) / fps + EPS for i, frame in enumerate(timed))
    assert all((i + 0.5) / fps < (frame + 1) / rate + EPS or frame == num_frames - 1 for i, frame in enumerate(timed))
    if fps == rate:
        assert timed == list(range(num_frames))
    if fps > rate:
        assert set(timed) == set(range(num_frames))
    if fps < rate:
        assert len(set(timed)) == len(timed)
    assert len(canvas.timed(frames[:0], rate)) == 0


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("size", [(48, 32), (31, 77), (20, 20)])
def test_given_frames_stand_untouched_on_their_own_canvas(fps: float, size: tuple[int, int]) -> None:
    clip = patterned(7, *size, fps)
    source = open_source(clip, (48, 32), 12.0, "stretch")
    canvas = source.canvas
    assert (canvas.width, canvas.height, canvas.fps, canvas.box) == (*size, fps, None)
    assert np.array_equal(source.shown(canvas), clip.frames)
    assert np.array_equal(source.shown(canvas, 2, 5), clip.frames[2:5])
    assert source.head(1).shape == (1, 32, 48, 3)
    assert canvas.sized(source.head(1)).shape == (1, size[1], size[0], 3)
    if size == (48, 32):
        assert np.array_equal(canvas.sized(source.head(1)), clip.frames[:1])


@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((101, 64), (64, 64)),
        ((103, 100), (64, 48)),
        ((97, 55), (48, 48)),
        ((50, 500), (48, 144)),
        ((33, 21), (48, 16)),
        ((7, 90), (48, 48)),
        ((64, 48), (32, 64)),
    ],
)
def test_a_crop_is_the_same_box_of_given_and_seen_frames(size: tuple[int, int], target: tuple[int, int]) -> None:
    clip = patterned(3, *size)
    source = open_source(clip, target, 12.0, "crop")
    canvas = source.canvas
    shown = source.shown(canvas)
    assert shown.shape == (3, canvas.height, canvas.width, 3)
    assert canvas.width in (size[0], shown.shape[2])
    assert canvas.width == size[0] or canvas.height == size[1]
    assert np.array_equal(resize(shown, target), source.head(3))
    left, top, right, bottom = source.placement.source_box
    assert abs(canvas.width - (right - left)) <= 0.5
    assert abs(canvas.height - (bottom - top)) <= 0.5
    first_row, first_column = int(top), int(left)
    inside = (slice(None), slice(first_row, first_row + canvas.height), slice(first_column, first_column + canvas.width))
    assert np.array_equal(clip.frames[inside], shown)
    # Nothing of what is cut off shines in.
    dark = np.full_like(clip.frames, 255)
    dark[inside] = 0
    assert not replace(source, clip=Clip(dark, 12.0)).head(3).any()


@pytest.mark.parametrize(
    ("size", "target"), [((101, 64), (96, 96)), ((64, 100), (96, 64)), ((33, 90), (96, 96)), ((64, 48), (64, 48)), ((31, 2), (32, 32))]
)
def test_padding_goes_in_and_never_comes_out(size: tuple[int, int], target: tuple[int, int]) -> None:
    white = Clip(np.full((2, size[1], size[0], 3), 255, np.uint8), 12.0)
    source = open_source(white, target, 12.0, "pad")
    seen, canvas = source.head(2), source.canvas
    assert seen.shape == (2, target[1], target[0], 3)
    assert canvas.sized(seen).shape == white.frames.shape
    assert (canvas.sized(seen) == 255).all()
    if size[0] * target[1] != size[1] * target[0]:
        assert (seen == 0).any()
        # The model's own canvas shows the padding, of given frames too.
        model = Canvas(width=target[0], height=target[1], fps=12.0)
        assert np.array_equal(source.shown(model), seen)


def test_a_clip_of_another_shape_is_shown_as_the_canvas_shows_the_model() -> None:
    wide, tall = (open_source(patterned(2, *size), (64, 64), 12.0, "pad") for size in ((64, 32), (32, 64)))
    shown = tall.shown(wide.canvas)
    assert shown.shape == (2, 32, 64, 3)
    assert np.array_equal(shown, wide.canvas.sized(tall.head(2)))
    assert not shown[:, :, :16].any()


def test_a_still_is_one_frame_at_any_rate() -> None:
    source = open_source(patterned(1, 20, 30), (16, 16), 12.0, "crop")
    assert source.is_still
    assert source.canvas.fps == 12
    assert source.num_frames == source.length(17, GRID) == len(source.whole(GRID)) == 1
    for fps in (1.0, 12.0, 60.0):
        canvas = replace(source.canvas, fps=fps)
        assert len(source.shown(canvas)) == 1
        assert source.moments(canvas) == [0]


COMMON = [
    (1920, 1080),
    (1080, 1920),
    (640, 480),
    (720, 720),
    (854, 480),
    (2560, 1080),
    (500, 1500),
    (5000, 300),
    (1280, 720),
    (128, 128),
    (300, 5000),
]


@pytest.mark.parametrize("size", COMMON, ids=str)
@pytest.mark.parametrize("area", [128 * 128, 256 * 256, 832 * 480])
@pytest.mark.parametrize("space", [16, 32])
def test_the_grid_has_nearly_every_shape(size: tuple[int, int], area: int, space: int) -> None:
    width, height = grid_size(*size, area, Stride(space=space))
    VideoShape(num_frames=1, width=width, height=height).check(Stride(space=space))
    wanted = min(3.0, max(1 / 3, size[0] / size[1]))
    # With 8 cells a side as for the default model, a shape is 6 % off at most; four cells a side have fewer shapes.
    assert abs(math.log(width / height / wanted)) < (0.06 if area >= 64 * space**2 else 0.2)
    assert 0.6 < width * height / area < 1.6


@settings(deadline=None, max_examples=200)
@given(st.integers(2, 10_000), st.integers(2, 10_000), st.integers(1, 2_000_000))
def test_any_shape_has_a_size_on_the_grid(width: int, height: int, area: int) -> None:
    size = grid_size(width, height, area, GRID)
    VideoShape(num_frames=1, width=size[0], height=size[1]).check(GRID)


def test_huge_pictures_are_scaled_and_videos_are_not() -> None:
    picture = as_clip(Clip(np.zeros((1, 60, 4000, 3), np.uint8), 1.0, {"a": "b"}))
    assert (picture.width, picture.height, picture.metadata) == (1920, 29, {"a": "b"})
    assert as_clip(Clip(np.zeros((1, 5000, 4, 3), np.uint8), 1.0)).frames.shape == (1, 1920, 2, 3)
    video = Clip(np.zeros((2, 2, 4000, 3), np.uint8), 1.0)
    assert as_clip(video) is video


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_what_is_too_small_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="at least 2") as caught:
        open_source(Clip(np.zeros((3, size[1], size[0], 3), np.uint8), 12.0), (16, 16), 12.0, "crop")
    assert "\n" not in str(caught.value)


def test_a_path_is_read_with_its_sound(tmp_path: Path) -> None:
    sound = Audio(samples=np.sin(np.arange(48_000) / 20, dtype=np.float32)[None] / 2, rate=48_000)
    path = replace(patterned(12, 32, 32), audio=sound, metadata={"a": "b"}).save(tmp_path / "a.mp4")
    for given_path in (path, str(path)):
        clip = as_clip(given_path)
        assert (clip.num_frames, clip.fps, clip.metadata) == (12, 12.0, {"a": "b"})
        assert clip.audio is not None
    with pytest.raises(MediaError):
        as_clip(tmp_path / "absent.mp4")


def test_an_unknown_fit_is_refused() -> None:
    bad: Fit = "cropp"  # type: ignore[assignment]
    with pytest.raises(MediaError, match="did you mean 'crop'"):
        open_source(patterned(1, 32, 32), (16, 16), 12.0, bad)


@pytest.mark.parametrize("fps", [10.0, 29.97])
@pytest.mark.parametrize("rate", [8000, 44_100])
def test_parts_share_the_sound_without_gap(fps: float, rate: int) -> None:
    samples = np.linspace(-1, 1, round(40 / fps * rate), dtype=np.float32)[None].repeat(2, 0)
    clip = replace(numbered(40, fps), audio=Audio(samples=samples, rate=rate))
    parts = [part(clip, first, last) for first, last in ((0, 7), (7, 8), (8, 40))]
    assert numbers(np.concatenate([piece.frames for piece in parts])) == list(range(40))
    assert np.array_equal(np.concatenate([piece.audio.samples for piece in parts if piece.audio], axis=1), samples)
    assert all(abs(piece.audio.samples.shape[1] / rate - piece.seconds) <= 1 / rate for piece in parts if piece.audio)
    short = replace(clip, audio=Audio(samples=samples[:, : rate // 10], rate=rate))
    assert part(short, 20, 40).audio is None


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"comment": "x"},
        {"diorama": ""},
        {"diorama": "a prompt"},
        {"diorama": '"x"'},
        {"diorama": "[1]"},
        {"diorama": '{"prompt": 3}'},
        {"diorama": "[" * 10**6},
    ],
    ids=range(8),
)
def test_foreign_metadata_is_no_prompt(metadata: dict[str, str]) -> None:
    assert made_with(replace(numbered(1, 1.0), metadata=metadata)) == ""


def test_the_prompt_of_a_generated_clip_is_known() -> None:
    assert made_with(replace(numbered(1, 1.0), metadata={"diorama": json.dumps({"prompt": "a ball"})})) == "a ball"


def test_a_word_with_an_ending_or_a_place_that_is_there_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    assert all(is_file(word) for word in ("clip.mp4", "CAT.PNG", str(tmp_path / "a folder")))
    assert not any(is_file(text) for text in ("a red ball", "ball", "a ball hits clip.mp4", "x" * 5000))
