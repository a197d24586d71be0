"""What a file is, without decoding it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diorama.errors import MediaError
from diorama.media.codec import libav, pixel_aspect
from diorama.media.write import FOLDER_FILE, IMAGE_DESCRIPTION

__all__ = ["VideoInfo", "delays_of", "folder_fps", "kind_of", "opened", "pictures_of", "probe", "read_metadata", "standard_rate"]

Kind = Literal["video", "image", "folder"]
ANIMATION_FPS = 10.0  # what browsers play when an animation's delays are missing
_RANGES = {0: "untagged", 1: "limited", 2: "full"}  # AVCOL_RANGE_*


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts about a video, an image or a folder of pictures."""

    path: str
    """As given."""
    format: str
    """Container, for example ``mp4``."""
    codec: str
    """Picture codec, for example ``h264``."""
    width: int
    """Pixels as shown: upright, square pixels."""
    height: int
    """Pixels as shown."""
    num_frames: int
    """Frames; from the packets where the header does not say."""
    fps: float
    """Average rate; 1 for a single picture."""
    seconds: float
    """Duration."""
    rotation: int
    """Counter-clockwise degrees by which the stored frames are turned for showing."""
    pixel_aspect: float
    """Width over height of a stored pixel."""
    has_audio: bool
    """Whether there is sound."""
    color_range: str = "full"
    """How luma is coded: limited, full or untagged; pictures are full."""


def kind_of(path: Path) -> Kind:
    """Return how a path has to be opened.

    Raises:
        MediaError: there is no such file, it is empty or unreadable, or a folder without PNG pictures.
    """
    try:
        if path.is_dir():
            if not pictures_of(path):
                raise MediaError(f"folder {path} holds no png pictures; give a video file, or a folder of numbered png pictures")
            return "folder"
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise MediaError(f"there is no file {path}; check the name") from error
    except OSError as error:
        raise MediaError(f"{str(path)[:200]} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise MediaError(f"{str(path)[:200]!r} is no path ({error}); check the name") from error
    if not head:
        raise MediaError(f"{path} is an empty file; copy it again")
    image = head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    return "image" if image or head[4:12] in (b"ftypavif", b"ftypavis") else "video"


def pictures_of(folder: Path) -> list[Path]:
    """Return the PNG pictures of a folder in order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith("."))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a video file with PyAV, or a picture with Pillow, naming every fault.

    Raises:
        MediaError: the file is missing, empty, truncated or not a media file.
    """
    kind = kind_of(path)
    av = libav()
    if kind == "image":
        from PIL import Image

        try:
            image = Image.open(path)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(f"{path} is a damaged or oversized picture; copy it again or make it smaller") from error
        with image:
            try:
                yield image
            except (OSError, SyntaxError) as error:
                raise MediaError(f"{path} is a truncated or damaged picture; copy it again") from error
        return
    _check_whole(path)
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path} is not a media file, or truncated before its index; give a video such as mp4, webm, mov, mkv or gif") from error
    with container:
        yield container


def _check_whole(path: Path) -> None:
    """Refuse a Matroska or WebM file shorter than its header says; FFmpeg would take the part that is there for the whole."""
    with path.open("rb") as file:
        head = file.read(4096)
    start = head.find(b"\x18\x53\x80\x67") if head.startswith(b"\x1a\x45\xdf\xa3") else -1  # EBML, then the Segment
    if start < 0 or head[start + 4 : start + 5] != b"\x01":  # sizes of live recordings are unknown, other lengths are of tiny files
        return
    size = int.from_bytes(head[start + 5 : start + 12], "big")
    missing = start + 12 + size - path.stat().st_size
    if size != 2**56 - 1 and missing > 0:
        raise MediaError(f"{path} is truncated: its last {missing} bytes are missing; copy it again")


def probe(path: str | Path) -> VideoInfo:
    """Return what a file is.

    Raises:
        MediaError: the file is missing, empty, truncated, holds no video stream or 0 frames, or is not a media file.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "folder":
        return _probe_folder(path)
    with opened(path) as source:
        return _probe_image(path, source) if kind == "image" else _probe_video(path, source)


def _probe_video(path: Path, container: Any) -> VideoInfo:
    if not container.streams.video:
        raise MediaError(f"{path} holds no video stream; give a file with pictures")
    stream = container.streams.video[0]
    aspect = pixel_aspect(stream, str(path))
    frame = _first_frame(path, container, stream)
    width = round(frame.width * max(1.0, aspect))
    height = round(frame.height * max(1.0, 1 / aspect))
    rotation = round(frame.rotation / 90) * 90 % 360
    if rotation in (90, 270):
        width, height = height, width
    count, seconds = _length(container, stream)
    return VideoInfo(
        path=str(path),
        format=container.format.name.split(",")[0] if "mp4" not in container.format.name else "mp4",
        codec=stream.codec_context.name,
        width=width,
        height=height,
        num_frames=count,
        fps=standard_rate(count / seconds, float(stream.time_base) / seconds),
        seconds=seconds,
        rotation=rotation,
        pixel_aspect=aspect,
        has_audio=bool(container.streams.audio),
        color_range=_RANGES.get(int(stream.codec_context.color_range), "untagged"),
    )


def standard_rate(fps: float, slack: float) -> float:
    """Return the usual rate that ``fps`` is a rounded form of, or ``fps``.

    Containers store whole milliseconds (webm) or hundredths of a second (gif), so that 12 comes back as 12.003.

    Args:
        fps: Measured frames a second.
        slack: How far off it may be, as a share: the container's time step over the duration.
    """
    usual = [round(2 * fps) / 2, *(base * 1000 / 1001 for base in (24, 30, 60, 120))]
    nearest = min(usual, key=lambda rate: abs(rate - fps))
    return nearest if abs(nearest - fps) <= slack * fps else fps


def _first_frame(path: Path, container: Any, stream: Any) -> Any:
    av = libav()
    try:
        for frame in container.decode(stream):
            return frame
    except av.FFmpegError as error:
        raise MediaError(f"{path} is truncated or damaged before its first frame; copy it again") from error
    raise MediaError(f"{path} has a video stream with 0 frames; it is empty or truncated, so copy it again")


def _length(container: Any, stream: Any) -> tuple[int, float]:
    """Return (frames, seconds) from the header if it has both, else from the packets."""
    count, duration = stream.frames, float(stream.duration * stream.time_base) if stream.duration else 0.0
    if count and duration:
        return count, duration
    container.seek(0)
    times = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.size and packet.pts is not None]
    count = len(times) or 1
    if len(times) > 1:
        duration = (max(times) - min(times)) * count / (count - 1)
    return count, duration or count / float(stream.average_rate or 25)


def _probe_image(path: Path, image: Any) -> VideoInfo:
    count = getattr(image, "n_frames", 1)
    seconds = float(sum(delays_of(image))) if count > 1 else 1.0
    width, height = image.size
    if image.getexif().get(0x0112, 1) >= 5:  # EXIF orientation: 5 to 8 swap the sides
        width, height = height, width
    return VideoInfo(
        path=str(path),
        format=str(image.format).lower(),
        codec=str(image.format).lower(),
        width=width,
        height=height,
        num_frames=count,
        fps=standard_rate(count / seconds, 0.001 / seconds),
        seconds=seconds,
        rotation=0,
        pixel_aspect=1.0,
        has_audio=False,
    )


def delays_of(image: Any) -> list[float]:
    """Return how long each frame of a Pillow image is shown, seconds."""
    delays = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        delays.append(image.info.get("duration", 0) / 1000 or 1 / ANIMATION_FPS)
    image.seek(0)
    return delays


def _probe_folder(folder: Path) -> VideoInfo:
    pictures = pictures_of(folder)
    fps = folder_fps(folder)
    first = probe(pictures[0])
    return VideoInfo(
        path=str(folder),
        format="folder",
        codec="png",
        width=first.width,
        height=first.height,
        num_frames=len(pictures),
        fps=fps,
        seconds=len(pictures) / fps,
        rotation=0,
        pixel_aspect=1.0,
        has_audio=False,
    )


def folder_fps(folder: Path) -> float:
    """Return the rate a folder of pictures was written with, or ``ANIMATION_FPS``.

    Raises:
        MediaError: its ``metadata.json`` is damaged.
    """
    return float(_folder_record(folder).get("fps", ANIMATION_FPS))


def _folder_record(folder: Path) -> dict[str, Any]:
    path = folder / FOLDER_FILE
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["fps"] = float(record.get("fps", ANIMATION_FPS))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise MediaError(f"{path} is damaged; it must hold JSON with 'fps' and 'metadata', or be deleted") from error
    return dict(record)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata that ``save_clip`` put into a file; of other files, the tags they carry.

    Raises:
        MediaError: as ``probe``.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "folder":
        return {str(key): str(value) for key, value in _folder_record(path).get("metadata", {}).items()}
    with opened(path) as source:
        if kind == "image":
            tags = {"comment": source.getexif().get(IMAGE_DESCRIPTION)} | {key.lower(): value for key, value in source.info.items()}
        elif source.format.name == "gif":
            from PIL import Image

            with Image.open(path) as image:
                tags = {"comment": image.info.get("comment", b"").decode("utf-8", "replace")}
        else:
            tags = {key.lower(): value for key, value in source.metadata.items()}
    return _parse({key: value for key, value in tags.items() if isinstance(value, str) and value})


def _parse(tags: dict[str, str]) -> dict[str, str]:
    try:
        ours = json.loads(tags.get("comment", ""))
    except json.JSONDecodeError:
        return tags
    return {str(key): str(value) for key, value in ours.items()} if isinstance(ours, dict) else tags
