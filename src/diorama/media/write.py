"""Clips to files: the ending chooses the format, and a file is written whole or not at all.

``metadata`` travels inside each format: the comment tag of mp4 and webm, the comment block of gif, text of png, EXIF of
webp and jpeg, ``metadata.json`` of a folder of pictures.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from diorama.errors import MediaError
from diorama.media.clip import Audio, Clip, Pixels
from diorama.media.codec import Encoding, encode, libav

__all__ = ["ENDINGS", "FOLDER_FILE", "IMAGE_DESCRIPTION", "save_clip", "save_frames", "writing"]

FOLDER_FILE = "metadata.json"
IMAGE_DESCRIPTION = 0x010E  # EXIF tag
GIF_MAX_FPS = 50  # delays are whole hundredths of a second and players slow down below 2
_PATTERN = re.compile(r"%0?\d*d")
ENDINGS = (".mp4", ".webm", ".gif", ".webp", ".png", ".jpg")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` and move what was written there into place at the end.

    Raises:
        MediaError: the disk is full or the place is not writable; nothing is left behind.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    av = libav()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        yield fresh
        fresh.replace(path)
    except (OSError, av.FFmpegError) as error:
        raise _cannot_write(path, error) from error
    finally:
        if fresh.is_dir():
            shutil.rmtree(fresh, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)


def _cannot_write(path: Path, error: Exception) -> MediaError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MediaError(f"{path} cannot be written: the disk is full; free some space and try again")
    why = (getattr(error, "strerror", None) or str(error)).lower()
    return MediaError(f"{path} cannot be written: {why}; choose another place or change its permissions")


def save_clip(clip: Clip, path: str | Path, *, quality: int = 80) -> Path:
    """Write a clip; the ending of ``path`` chooses the format.

    ======================  =======================================================================
    ``.mp4``                H.264, plays everywhere (yuv420p; yuv444p for odd sizes), sound as AAC
    ``.webm``               VP9, sound as Opus
    ``.gif``                256 colours chosen for the clip, endless
    ``.webp``               one picture, or an endless animation
    ``.png``, ``.jpg``      one picture; the clip must have one frame
    folder ``name/`` or     numbered PNG pictures and ``metadata.json``
    ``name/%05d.png``
    ======================  =======================================================================

    Args:
        clip: What to write.
        path: Where; parents are made.
        quality: 1 to 100 for the lossy formats; 100 is close to lossless.

    Returns:
        The path.

    Raises:
        MediaError: the ending is not one of these or cannot hold the clip, the disk is full, or the place is not writable.
    """
    return save_frames([clip.frames], path, fps=clip.fps, metadata=clip.metadata, audio=clip.audio, quality=quality)


def check_output(path: str | Path) -> Path:
    """Return the place a clip shall be written to, refused now if it cannot be, so that no work is lost later.

    Raises:
        MediaError: the ending is no format, or the folder cannot be made or written to.
    """
    text, path = str(path), Path(path)
    if not text.endswith(("/", os.sep)) and path.suffix.lower() not in (*ENDINGS, ".jpeg"):
        raise MediaError(f"'{path.name}' cannot be written: allowed endings are {', '.join(ENDINGS)}, or name/ for a folder of png pictures")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise _cannot_write(path, error) from error


def save_frames(
    chunks: Iterable[Pixels],
    path: str | Path,
    *,
    fps: float,
    metadata: dict[str, str] | None = None,
    audio: Audio | None = None,
    quality: int = 80,
) -> Path:
    """Write chunks of frames as they come, in the memory of one chunk (mp4, webm, folder) or of the whole (gif, webp).

    Args:
        chunks: Arrays ``[t, H, W, 3]`` uint8 of one size.
        path: Where; the ending chooses the format as in ``save_clip``.
        fps: Frames a second.
        metadata: Kept inside the file.
        audio: Sound, for mp4 and webm.
        quality: 1 to 100.

    Raises:
        MediaError: as ``save_clip``.
    """
    if not 1 <= quality <= 100:
        raise MediaError(f"quality {quality} is out of range; allowed is 1 to 100")
    text, comment = str(path), json.dumps(metadata or {}, sort_keys=True) if metadata else ""
    pattern = Path(text).name if _PATTERN.search(Path(text).name) and text.lower().endswith(".png") else None
    if pattern or text.endswith(("/", os.sep)):
        folder = Path(text).parent if pattern else Path(text)
        _write_sequence(chunks, folder, pattern or "%05d.png", fps, metadata or {})
        return folder
    path = check_output(path)
    ending = path.suffix.lower()
    if ending == ".gif" and fps > GIF_MAX_FPS:
        raise MediaError(f"a gif cannot play {fps:g} frames a second; allowed is at most {GIF_MAX_FPS}, or write an mp4")
    with writing(path) as fresh:
        if ending in (".mp4", ".webm"):
            encode(str(fresh), chunks, _encoding(ending, quality), fps=fps, comment=comment, audio=audio)
        elif ending == ".gif":
            _write_gif(chunks, fresh, fps, comment)
        else:
            _write_images(list(chunks), fresh, path, fps, comment, quality)
    return path


def _encoding(ending: str, quality: int) -> Encoding:
    if ending == ".mp4":
        crf = round(40 - 0.3 * quality)  # 80 -> 16: no visible loss at small sizes
        return Encoding(container="mp4", codec="libx264", options={"crf": str(crf), "preset": "medium"}, audio_codec="aac")
    options = {"crf": str(round(60 - 0.5 * quality)), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
    return Encoding(container="webm", codec="libvpx-vp9", options=options, audio_codec="libopus")


def _write_gif(chunks: Iterable[Pixels], fresh: Path, fps: float, comment: str) -> None:
    av = libav()
    graph, out, pts = None, None, 0
    centiseconds = 100 / fps
    with av.open(str(fresh), "w", format="gif", options={"fflags": "+bitexact"}) as container:
        for chunk in chunks:
            if graph is None:
                height, width = chunk.shape[1:3]
                graph = _palette_graph(av, width, height)
                out = container.add_stream("gif", rate=round(fps) or 1)
                out.width, out.height, out.pix_fmt = width, height, "pal8"
                out.codec_context.time_base = Fraction(1, 100)
            for pixels in chunk:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame.pts = pts
                graph.push(frame)
                pts += 1
        if graph is None or out is None:
            raise MediaError("a video with 0 frames cannot be written; give at least 1")
        graph.push(None)
        for index in range(pts):
            frame = graph.pull()
            frame.time_base = out.codec_context.time_base
            frame.pts = round(index * centiseconds)
            for packet in out.encode(frame):
                packet.duration = round((index + 1) * centiseconds) - round(index * centiseconds)
                container.mux(packet)
        for packet in out.encode():
            container.mux(packet)
    if comment:
        _insert_gif_comment(fresh, comment)


def _palette_graph(av: Any, width: int, height: int) -> Any:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(1, 100))
    split, palette, use = (
        graph.add("split"),
        graph.add("palettegen", "stats_mode=diff:reserve_transparent=0"),
        graph.add("paletteuse", "dither=sierra2_4a"),
    )
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


def _insert_gif_comment(path: Path, comment: str) -> None:
    """Put a comment extension after the header and the global palette; FFmpeg's muxer writes none."""
    data = path.read_bytes()
    body = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    text = comment.encode("ascii")
    blocks = b"".join(bytes([len(part)]) + part for part in (text[i : i + 255] for i in range(0, len(text), 255)))
    path.write_bytes(data[:body] + b"\x21\xfe" + blocks + b"\x00" + data[body:])


def _write_images(chunks: list[Pixels], fresh: Path, path: Path, fps: float, comment: str, quality: int) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    frames = [frame for chunk in chunks for frame in chunk]
    if not frames:
        raise MediaError("a picture with 0 frames cannot be written; give at least 1")
    ending = path.suffix.lower()
    if len(frames) > 1 and ending != ".webp":
        raise MediaError(
            f"{path.name} holds one picture and the clip has {len(frames)} frames; write .mp4, .webm, .gif or .webp, "
            f"or {path.stem}/ for a folder of pictures"
        )
    images = [Image.fromarray(frame) for frame in frames]
    if ending == ".png":
        info = PngInfo()
        if comment:
            info.add_text("Comment", comment)
        images[0].save(fresh, "PNG", pnginfo=info)
        return
    exif = Image.Exif()
    if comment:
        exif[IMAGE_DESCRIPTION] = comment
    options: dict[str, Any] = {"quality": quality, "exif": exif}
    if ending == ".webp":
        options["lossless"] = quality == 100
        if len(images) > 1:
            ends = [round(1000 * (i + 1) / fps) for i in range(len(images))]
            options |= {"save_all": True, "append_images": images[1:], "duration": np.diff([0, *ends]).tolist(), "loop": 0}
    images[0].save(fresh, "WEBP" if ending == ".webp" else "JPEG", **options)


def _write_sequence(chunks: Iterable[Pixels], folder: Path, pattern: str, fps: float, metadata: dict[str, str]) -> None:
    from PIL import Image

    if folder.is_dir():
        foreign = next((entry.name for entry in sorted(folder.iterdir()) if entry.suffix.lower() != ".png" and entry.name != FOLDER_FILE), None)
        if foreign is not None:
            raise MediaError(f"folder {folder} holds other files ({foreign}); choose a new folder for the pictures")
    av = libav()
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        fresh.mkdir(parents=True)
        count = 0
        for chunk in chunks:
            for frame in chunk:
                Image.fromarray(frame).save(fresh / (pattern % count), "PNG")
                count += 1
        if not count:
            raise MediaError("a folder with 0 pictures cannot be written; give at least 1 frame")
        (fresh / FOLDER_FILE).write_text(json.dumps({"fps": fps, "metadata": metadata}, sort_keys=True) + "\n", encoding="utf-8")
        if folder.is_dir():
            folder.rename(old)
        fresh.rename(folder)
    except (OSError, av.FFmpegError) as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
