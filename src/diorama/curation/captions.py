"""Captions for clips: whoever describes them, long clips are described window by window and put together.

A describer is a function of frames and their rate. There are three: the captioner that this repository trains, a vision-language
model through transformers, and any OpenAI-compatible endpoint that reads pictures.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diorama.curation.manifest import Row
from diorama.curation.shards import SCORES
from diorama.errors import InputError, MissingExtraError
from diorama.media import Clip, Pixels, encode_picture, resize
from diorama.text.captioner import Captioner
from diorama.text.endpoint import ask

__all__ = ["CaptionOptions", "Captioning", "Captions", "Describe", "caption_clip", "describer", "merge", "with_scores"]

_INSTRUCTION = """\
These are frames of one video, in order, evenly spaced over {seconds:.1f} seconds. Describe the video for training a text-to-video
model: each subject with its look, what it does and where it goes, the place, the light, the style, and what the camera does.
Do not speak of frames or pictures. Answer with one dense paragraph of at most 80 words, then on a new line the word SHORT: and
one sentence of at most 15 words."""
_REMEDY = "check the address, the model's name and that it reads pictures, and the key in OPENAI_API_KEY, or use the packaged captioner"
_SHORT = re.compile(r"\s*\**\bshort\b\**\s*:\**\s*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Two descriptions of one clip."""

    dense: str
    """All that is visible."""
    short: str
    """The subjects and what they do."""

    def record(self) -> dict[str, list[str]]:
        """Return them as a training sample's record holds them."""
        return {"dense": [self.dense], "short": [self.short]}


Describe = Callable[[Pixels, float], Captions]
"""Frames ``[T, H, W, 3]`` uint8 and their rate to captions."""


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """Who describes clips, and how."""

    source: str = "captioner"
    """``captioner`` for the packaged one, a folder that holds a captioner or a vision-language model of transformers, or the
    address of an OpenAI-compatible endpoint."""
    model: str = ""
    """Name of the model at the endpoint."""
    window: float = 5.0
    """Seconds described at once; a longer clip is described in windows of equal length of at most this."""
    frames: int = 6
    """Frames of a window shown to a vision-language model."""
    side: int = 512
    """Longer side in pixels of a frame shown to a vision-language model."""
    scores: tuple[str, ...] = ()
    """Names of measured scores to append to dense captions, such as ``motion``; a still has no motion, so none is said of it."""
    timeout: float = 120.0
    """Seconds to wait for an endpoint."""

    def __post_init__(self) -> None:
        if not (self.window > 0 and self.timeout > 0) or self.frames < 1 or self.side < 16:
            raise InputError(
                f"captions of windows of {self.window:g} s, {self.frames} frames of {self.side} pixels within {self.timeout:g} s cannot be made; "
                "window and timeout must be above 0, frames at least 1 and side at least 16"
            )
        if self.source.startswith(("http://", "https://")) and not self.model:
            raise InputError(f"the caption endpoint {self.source} needs the name of a model; give one")
        if unknown := next((name for name in self.scores if name not in SCORES), None):
            raise InputError(f"score '{unknown}' cannot be appended to captions; there are {', '.join(SCORES)}")

    @property
    def label(self) -> str:
        """What wrote the captions, for the manifest."""
        return f"{self.model} at {self.source}" if self.model else self.source


def describer(options: CaptionOptions, *, device: torch.device | str = "cpu", api_key: str | None = None) -> Describe:
    """Return the function that describes a window.

    Args:
        options: Who describes.
        device: Where a captioner or a vision-language model computes.
        api_key: Sent to an endpoint as bearer token.

    Raises:
        InputError: there is no such folder.
        CheckpointError: the captioner is damaged.
        MissingExtraError: a vision-language model was named and transformers is not installed.
    """
    folder = _folder(options.source)
    if folder is None:
        return _from_endpoint(options, api_key)
    if not folder.is_dir():
        raise InputError(f"caption source '{options.source}' is no folder and no web address; give 'captioner', a model folder, or http://...")
    if (folder / "preprocessor_config.json").exists() or (folder / "processor_config.json").exists():
        return _from_model(folder, options, device)
    return _from_captioner(Captioner.load(folder, device=device))


def caption_clip(frames: Pixels, fps: float, describe: Describe, options: CaptionOptions, scores: Mapping[str, float] | None = None) -> Captions:
    """Describe a clip.

    Args:
        frames: ``[T, H, W, 3]`` uint8, at least one.
        fps: Frames a second.
        describe: Describes one window.
        options: Length of windows and the scores to append.
        scores: Measured scores of the clip by name.

    Raises:
        InputError: the describer failed.
    """
    count = max(1, int(np.ceil(len(frames) / fps / options.window - 1e-6)))
    told = [describe(part, fps) for part in np.array_split(frames, min(count, len(frames)))]
    dense, short = merge([one.dense for one in told]), merge([one.short for one in told])
    return Captions(dense=with_scores(dense, scores or {}, options.scores), short=short)


class Captioning:
    """The stage as ``curate`` runs it: rows of one source to rows with captions.

    Args:
        options: Who describes, and how.
        device: Where a captioner or a vision-language model computes.
        api_key: Sent to an endpoint as bearer token.

    Raises:
        InputError: see ``describer``.
    """

    def __init__(self, options: CaptionOptions, *, device: torch.device | str = "cpu", api_key: str | None = None) -> None:
        self.options = options
        self.identity = _identity(options)
        """Changes with the options and with the model's files; another identity captions anew."""
        self._describe = describer(options, device=device, api_key=api_key)

    def __call__(self, rows: Sequence[Row], clip: Callable[[Row], Clip]) -> list[Row]:
        """Return rows with captions; those that came with the files stay, and a missing short one is made of the dense one.

        Args:
            rows: Pieces with their scores.
            clip: Gives a piece's frames; not called for pieces that have a caption.

        Raises:
            InputError: see ``caption_clip``.
        """
        return [self._row(row, clip) for row in rows]

    def _row(self, row: Row, clip: Callable[[Row], Clip]) -> Row:
        if row.caption:
            return row if row.caption_short else dataclasses.replace(row, caption_short=_sentences(row.caption)[0])
        measured = {name: value for name in SCORES if (value := getattr(row, name)) is not None}
        shown = clip(row)
        told = caption_clip(shown.frames, shown.fps, self._describe, self.options, measured)
        return dataclasses.replace(row, caption=told.dense, caption_short=told.short, captioner=self.options.label)


def _identity(options: CaptionOptions) -> str:
    told = dataclasses.asdict(options)
    del told["timeout"]
    folder = _folder(options.source)
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder and folder.is_dir() else []
    seen = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for path in files:
        # Small files by content, the weights of a large model by their size.
        seen.update(path.name.encode() + (path.read_bytes() if (size := path.stat().st_size) < 2**24 else str(size).encode()))
    return seen.hexdigest()[:16]


def _folder(source: str) -> Path | None:
    """Return the folder that a source names, None for an endpoint."""
    if source.startswith(("http://", "https://")):
        return None
    return Path(str(resources.files("diorama"))) / "models" / "default" / "captioner_2" if source == "captioner" else Path(source)


def merge(texts: Sequence[str]) -> str:
    """Put captions of consecutive windows together.

    A sentence that the window before said too is left out, and what is left begins with "then", by which prompts are split into
    shots too.

    Args:
        texts: One or more, of one sentence or more each.

    Raises:
        InputError: there is none.
    """
    if not texts:
        raise InputError("0 captions cannot be put together; give at least 1")
    before, parts = _sentences(texts[0]), [" ".join(texts[0].split())]
    for text in texts[1:]:
        said = _sentences(text)
        fresh = [sentence for sentence in said if sentence not in before]
        if fresh:
            first = parts[-1].rstrip()
            parts[-1] = first if first.endswith((".", "!", "?")) else f"{first}."
            parts.append(f"Then {fresh[0][0].lower()}{fresh[0][1:]}" + "".join(f" {sentence}" for sentence in fresh[1:]))
        before = said
    return " ".join(parts)


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", " ".join(text.split())) if part]


def with_scores(text: str, scores: Mapping[str, float], names: Sequence[str]) -> str:
    """Append measured scores to a caption, so that a prompt can ask for them.

    Args:
        text: The caption.
        scores: By name.
        names: Which to append, in this order, where they were measured.

    Returns:
        Such as "A red ball rolls. Motion score: 3.2, sharpness score: 0.81."
    """
    said = ", ".join(f"{name.replace('_', ' ')} score: {scores[name]:.2g}" for name in names if name in scores)
    if not said:
        return text
    text = text.rstrip()
    return f"{text}{'' if text.endswith(('.', '!', '?')) else '.'} {said[0].upper()}{said[1:]}."


def _from_captioner(captioner: Captioner) -> Describe:
    def describe(frames: Pixels, fps: float) -> Captions:
        del fps
        seen = captioner.see([frames])
        return Captions(dense=captioner.write(seen, "dense")[0], short=captioner.write(seen, "short")[0])

    return describe


def _shown(frames: Pixels, options: CaptionOptions) -> Pixels:
    """Return the frames that a vision-language model is shown."""
    picked = frames[np.linspace(0, len(frames) - 1, min(options.frames, len(frames))).round().astype(int)]
    height, width = picked.shape[1:3]
    scale = options.side / max(height, width)
    return picked if scale >= 1 else resize(picked, (max(1, round(width * scale)), max(1, round(height * scale))))


def _both(answer: str) -> Captions:
    """Take an answer apart; without the mark the first sentence is the short caption."""
    dense, *short = _SHORT.split(answer.strip(), maxsplit=1)
    dense = " ".join((dense or answer).split())
    return Captions(dense=dense, short=" ".join(short[0].split()) if short and short[0].strip() else _sentences(dense)[0])


def _from_endpoint(options: CaptionOptions, api_key: str | None) -> Describe:
    def describe(frames: Pixels, fps: float) -> Captions:
        pictures = [base64.b64encode(encode_picture(frame)).decode() for frame in _shown(frames, options)]
        content: list[dict[str, Any]] = [{"type": "text", "text": _INSTRUCTION.format(seconds=len(frames) / fps)}]
        content += [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}} for picture in pictures]
        message = {"role": "user", "content": content}
        answer = ask([message], options.source, options.model, api_key, purpose="caption", remedy=_REMEDY, temperature=0.2, timeout=options.timeout)
        return _both(answer)

    return describe


def _from_model(folder: Path, options: CaptionOptions, device: torch.device | str) -> Describe:
    try:
        from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise MissingExtraError("transformers", "hub", "captioning with a vision-language model") from error
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True).to(device).eval()
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"{folder} cannot be used as a vision-language model ({error}); give a folder that transformers' auto classes open"
        ) from error

    def describe(frames: Pixels, fps: float) -> Captions:
        shown = _shown(frames, options)
        content: list[dict[str, str]] = [{"type": "image"} for _ in shown]
        content.append({"type": "text", "text": _INSTRUCTION.format(seconds=len(frames) / fps)})
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
        inputs = processor(text=prompt, images=list(shown), return_tensors="pt").to(device)
        with torch.inference_mode():
            written = model.generate(**inputs, max_new_tokens=200, do_sample=False)
        answer = processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0].strip()
        if not answer:
            raise InputError(f"the vision-language model {folder} answered with no text; use another one, or the packaged captioner")
        return _both(answer)

    return describe
