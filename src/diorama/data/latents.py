"""Latents and text states of a training set, computed once and mapped from disk.

The cache lies in a folder named after the hash of what made it (autoencoder, text encoder, settings): another
autoencoder finds no cache and builds its own. Each tar of the training set has its part, so that a killed build goes on
and a set that grew is not encoded again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diorama.data.coverage import KINDS, latent_coverage, latent_kinds
from diorama.data.fit import Shape, fit, fitted
from diorama.data.shards import ShardSet
from diorama.errors import DataError, cannot_write
from diorama.media import Clip, to_tensor

__all__ = ["CacheConfig", "Encoders", "LatentCache", "Text", "first_captions", "padded"]

_ARRAYS = ("latents", "states", "pooled", "coverage", "kinds")
_OPTIONAL = ("coverage", "kinds")


def first_captions(record: Mapping[str, Any], count: int) -> list[str]:
    """Return the first ``count`` dense and the first ``count`` short captions of a record, dense ones first.

    Raises:
        DataError: the record holds no captions.
    """
    captions = record.get("captions")
    if isinstance(captions, Mapping):
        chosen = [str(text) for kind in ("dense", "short") for text in list(captions.get(kind, []))[:count]]
        if chosen:
            return chosen
    raise DataError("a training sample has no captions; its record needs {'captions': {'dense': [...], 'short': [...]}}")


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """The functions that fill a cache, and what identifies them."""

    video: Callable[[Tensor], Tensor]
    """``[B, 3, T, H, W]`` float in [-1, 1] to normalised latents ``[B, C, f, h, w]``."""
    text: Callable[[Sequence[str]], tuple[Tensor, Tensor, Tensor]]
    """Prompts to states ``[B, M, D]``, mask ``[B, M]`` bool and pooled ``[B, D]``."""
    mirror: Callable[[str], str]
    """A caption to the caption of the clip seen in a mirror."""
    identity: str
    """Hash of the weights of both encoders."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """What a cache holds."""

    captions: int = 1
    """Dense captions of each clip, and as many short ones."""
    mirrored: bool = True
    """Also keep each clip seen in a mirror."""
    area: int | None = None
    """Pixels of a frame at most, about: larger clips are shrunk to sides that are multiples of 16; None keeps sizes as they are."""
    fps: float | None = None
    """Frames a second at most; clips of a higher rate lose frames. None keeps rates as they are."""
    num_frames: int | None = None
    """Longest clip; the beginning of a longer one is kept. None keeps lengths, to the last 1 + 4 k frames."""
    together: int = 256
    """Clips read before they are sorted by shape and encoded; the most that a killed build loses."""
    batch_tokens: int = 4096
    """Latent cells encoded at once; larger is faster and takes more memory."""

    def __post_init__(self) -> None:
        if min(self.captions, self.together, self.batch_tokens) < 1:
            raise DataError(f"captions {self.captions}, together {self.together} and batch_tokens {self.batch_tokens} must all be at least 1")
        if (self.area or 256) < 256 or (self.fps is not None and self.fps <= 0) or (self.num_frames or 1) < 1:
            raise DataError(
                f"area {self.area}, fps {self.fps} and num_frames {self.num_frames} must be at least 256, above 0 and at least 1, or left out"
            )


@dataclass(frozen=True, kw_only=True)
class Text:
    """One encoded caption."""

    states: Tensor
    """``[M, D]`` float32, no padding."""
    pooled: Tensor
    """``[D]`` float32."""


def padded(texts: Sequence[Text]) -> tuple[Tensor, Tensor, Tensor]:
    """Return texts of any lengths as one: states ``[S, M, D]``, mask ``[S, M]`` bool, false on padding, and pooled ``[S, D]``."""
    states = pad_sequence([text.states for text in texts], batch_first=True)
    mask = pad_sequence([torch.ones(len(text.states), dtype=torch.bool) for text in texts], batch_first=True)
    return states, mask, torch.stack([text.pooled for text in texts])


@dataclass(frozen=True)
class _Entry:
    """Where a variant of a clip lies in its part; offsets count numbers, not bytes."""

    latent: int
    shape: tuple[int, int, int, int]
    states: tuple[int, ...]
    """Offset of each caption's states, then the end."""
    pooled: int
    dense: int
    """How many of the captions, the first ones, are dense."""
    fps: float | None
    """Rate of the latent's clip; None is the sample's own."""
    coverage: int | None
    """Offset of where the objects are, None if the record does not say."""
    kinds: int | None
    """Offset of what each place shows, None if the record does not say."""


class LatentCache:
    """Latents and text states of every sample of a shard set, by index, from memory-mapped files.

    Args:
        folder: Where caches lie; each has its own folder inside.
        shards: The clips.
        identity: Hash of the weights of both encoders.
        config: What it holds.

    Raises:
        DataError: a finished part is damaged.
    """

    def __init__(self, folder: str | Path, shards: ShardSet, identity: str, config: CacheConfig | None = None) -> None:
        self.config = config or CacheConfig()
        self.shards = shards
        kept = (self.config.area, self.config.fps, self.config.num_frames)
        text = json.dumps([identity, self.config.captions, self.config.mirrored, *([kept] if any(kept) else [])])
        self.folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.num_variants = 2 if self.config.mirrored else 1
        self._members = shards.tars()
        self._names = [shards.fingerprint(members) for members in self._members]
        self._part_of = [number for number, members in enumerate(self._members) for _ in members]
        self._parts: dict[int, tuple[list[list[_Entry]], dict[str, NDArray[Any]], int]] = {}

    def missing(self) -> list[int]:
        """Return the numbers of the parts, one for each tar, that are still to be built; of a tar that is named twice the first."""
        first = {name: number for number, name in reversed(list(enumerate(self._names)))}
        return [number for number in sorted(first.values()) if not self._path(number, "json").is_file()]

    def _path(self, number: int, ending: str) -> Path:
        return self.folder / f"{self._names[number]}.{ending}"

    @torch.inference_mode()
    def build(self, encoders: Encoders, *, progress: Callable[[int, int], None] | None = None) -> None:
        """Encode what is missing, in batches of clips of equal shape.

        Args:
            encoders: The functions; their device and number format are theirs.
            progress: Called with clips done and clips in all.

        Raises:
            DataError: a shard is damaged, a record has no captions, or the disk is full.
        """
        missing = self.missing()
        total = len(self.shards)
        done = total - sum(len(self._members[number]) for number in missing)
        while missing:
            if progress is not None:
                progress(done, total)
            group = [missing.pop(0)]
            while missing and sum(len(self._members[number]) for number in [*group, missing[0]]) <= self.config.together:
                group.append(missing.pop(0))
            indices = [index for number in group for index in self._members[number]]
            latents = self._encode_videos(indices, encoders.video)
            for number in group:
                self._build_part(number, latents, encoders)
            done += len(indices)
        if progress is not None:
            progress(done, total)

    def _build_part(self, number: int, latents: Mapping[int, list[Tensor]], encoders: Encoders) -> None:
        members = self._members[number]
        texts: list[list[list[str]]] = []
        num_dense, objects = [], list[tuple[Tensor | None, Tensor | None]]()
        for index in members:
            record = self.shards.record(index)
            plain = first_captions(record, self.config.captions)
            num_dense.append(min(self.config.captions, len(record["captions"].get("dense", ()))))
            texts.append([plain, [encoders.mirror(text) for text in plain]][: self.num_variants])
            objects.append(self._objects(index, record, latents[index][0]))
        encoded = _encode_texts([text for clip in texts for variant in clip for text in variant], encoders.text)
        flat: dict[str, list[NDArray[np.float16]]] = {name: [] for name in _ARRAYS}
        size = dict.fromkeys(_ARRAYS, 0)

        def put(name: str, values: Tensor) -> int:
            array = values.to(torch.float16).cpu().numpy()
            flat[name].append(array.reshape(-1))
            size[name] += array.size
            return size[name] - array.size

        entries: list[list[dict[str, Any]]] = []
        for index, clip, dense, told in zip(members, texts, num_dense, objects, strict=True):
            variants = []
            for variant, captions in enumerate(clip):
                latent = latents[index][variant]
                c, f, h, w = latent.shape
                offsets = [put("states", encoded[text].states) for text in captions]
                pooled = [put("pooled", encoded[text].pooled) for text in captions]
                where = [None if x is None else put(name, x.flip(-1) if variant else x) for name, x in zip(_OPTIONAL, told, strict=True)]
                entry = _Entry(put("latents", latent), (c, f, h, w), (*offsets, size["states"]), pooled[0], dense, self._shape(index).fps, *where)
                variants.append(asdict(entry))
            entries.append(variants)
        width = next(iter(encoded.values())).pooled.shape[-1]
        self._write_part(number, flat, {"width": width, "entries": entries})

    def _objects(self, index: int, record: Mapping[str, Any], latent: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return where the objects are and what they are; None if the record does not say or speaks of more frames than the latent holds."""
        info, shape = self.shards.info(index), self._shape(index)
        if shape != Shape(num_frames=info.num_frames, height=info.height, width=info.width, fps=shape.fps):
            return None, None
        f, h, w = latent.shape[1:]
        return latent_coverage(record, (f, h, w)), latent_kinds(record, (f, h, w))

    def _encode_videos(self, members: Sequence[int], encode: Callable[[Tensor], Tensor]) -> dict[int, list[Tensor]]:
        shapes: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for index in members:
            shape = self._shape(index)
            shapes[shape.num_frames, shape.height, shape.width].append(index)
        latents: dict[int, list[Tensor]] = {}
        for (frames, height, width), indices in shapes.items():
            cells = max(1, frames // 4) * max(1, height // 16) * max(1, width // 16) * self.num_variants
            size = max(1, self.config.batch_tokens // cells)
            for first in range(0, len(indices), size):
                chunk = indices[first : first + size]
                clips = [fit(self.shards.frames(index), self.shards.info(index).fps, self._shape(index)) for index in chunk]
                video = torch.cat([to_tensor(Clip(frames, 1.0)) for frames in clips])
                if self.config.mirrored:
                    video = torch.cat([video, video.flip(-1)])
                latent = encode(video).to("cpu", torch.float16)
                if not bool(torch.isfinite(latent).all()):
                    raise DataError(
                        f"the autoencoder gives latents that are not finite for {self.shards.name(chunk[0])} or its neighbours; train it further"
                    )
                latents.update((index, [latent[i + v * len(chunk)].clone() for v in range(self.num_variants)]) for i, index in enumerate(chunk))
        return latents

    def _shape(self, index: int) -> Shape:
        config = self.config
        return fitted(self.shards.info(index), area=config.area, fps=config.fps, num_frames=config.num_frames, name=self.shards.name(index))

    def _write_part(self, number: int, flat: Mapping[str, list[NDArray[np.float16]]], index: Mapping[str, Any]) -> None:
        fresh = self.folder / f".{self._names[number]}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, arrays in flat.items():
                with fresh.open("wb") as file:
                    np.save(file, np.concatenate(arrays or [np.zeros(0, np.float16)]))
                fresh.replace(self._path(number, f"{name}.npy"))
            fresh.write_text(json.dumps(index), encoding="utf-8")
            fresh.replace(self._path(number, "json"))
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        finally:
            fresh.unlink(missing_ok=True)

    def _part(self, number: int) -> tuple[list[list[_Entry]], dict[str, NDArray[Any]], int]:
        if number not in self._parts:
            path = self._path(number, "json")
            try:
                index = json.loads(path.read_text(encoding="utf-8"))
                entries = [
                    # An index written before 2026-11-21 does not count the dense ones, which are half of them, and keeps every rate.
                    [
                        _Entry(
                            entry["latent"],
                            tuple(entry["shape"]),
                            tuple(entry["states"]),
                            entry["pooled"],
                            entry.get("dense", len(entry["states"]) // 2),
                            entry.get("fps"),
                            entry.get("coverage"),
                            entry.get("kinds"),
                        )
                        for entry in variants
                    ]
                    for variants in index["entries"]
                ]
                told = {name for variants in entries for entry in variants for name in _OPTIONAL if getattr(entry, name) is not None}
                names = [name for name in _ARRAYS if name in told or name not in _OPTIONAL]
                arrays = {name: np.load(self._path(number, f"{name}.npy"), mmap_mode="r") for name in names}
                self._parts[number] = entries, arrays, int(index["width"])
            except FileNotFoundError as error:
                raise DataError(f"the latent cache {self.folder} lacks {self._path(number, '*').name}; build it before training") from error
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"the latent cache {self.folder} is damaged at {self._path(number, '*').name}; delete that folder and start again"
                ) from error
        return self._parts[number]

    def __len__(self) -> int:
        return len(self.shards)

    def _entry(self, index: int, variant: int) -> tuple[_Entry, dict[str, NDArray[Any]], int]:
        number = self._part_of[index]
        entries, arrays, width = self._part(number)
        return entries[index - self._members[number].start][variant], arrays, width

    def shape(self, index: int) -> tuple[int, int, int, int]:
        """Return the latent shape (C, f, h, w) of a sample."""
        return self._entry(index, 0)[0].shape

    def fps(self, index: int) -> float:
        """Return the frames a second of the clip that a sample's latent holds."""
        return self._entry(index, 0)[0].fps or self.shards.info(index).fps

    def grids(self) -> list[tuple[int, int, int]]:
        """Return the latent size (f, h, w) of every sample."""
        return [self.shape(index)[1:] for index in range(len(self))]

    def latent(self, index: int, variant: int = 0) -> Tensor:
        """Return a latent ``[C, f, h, w]`` float32; variant 1 is the clip seen in a mirror."""
        entry, arrays, _ = self._entry(index, variant)
        return _table(arrays["latents"], entry.latent, entry.shape)

    def coverage(self, index: int, variant: int = 0) -> Tensor | None:
        """Return where a sample's objects are, ``[f, h, w]`` float32 of 0 and 1; None if its record does not say."""
        entry, arrays, _ = self._entry(index, variant)
        return None if entry.coverage is None else _table(arrays["coverage"], entry.coverage, entry.shape[1:])

    def kinds(self, index: int, variant: int = 0) -> Tensor | None:
        """Return what each place of a sample shows, ``[len(KINDS), f, h, w]`` int64, see `latent_kinds`; None if its record does not say."""
        entry, arrays, _ = self._entry(index, variant)
        return None if entry.kinds is None else _table(arrays["kinds"], entry.kinds, (len(KINDS), *entry.shape[1:])).long()

    def num_captions(self, index: int) -> int:
        """Return how many captions of a sample are encoded: dense ones, then short ones."""
        return len(self._entry(index, 0)[0].states) - 1

    def choose(self, index: int, place: float, dense_share: float = 0.5) -> int:
        """Return which caption of a sample to show.

        Args:
            index: Sample.
            place: Uniform in [0, 1).
            dense_share: Share of dense captions, 0 to 1; a sample that has one kind only is always shown with that.
        """
        dense, count = self._entry(index, 0)[0].dense, self.num_captions(index)
        if dense in (0, count):
            return int(place * count)
        if place < dense_share:
            return min(int(place / dense_share * dense), dense - 1)
        return min(dense + int((place - dense_share) / (1 - dense_share) * (count - dense)), count - 1)

    def text(self, index: int, variant: int = 0, caption: int = 0) -> Text:
        """Return an encoded caption of a sample; variant 1 is that of the clip seen in a mirror."""
        entry, arrays, width = self._entry(index, variant)
        states = arrays["states"][entry.states[caption] : entry.states[caption + 1]].astype(np.float32).reshape(-1, width)
        first = entry.pooled + caption * width
        return Text(states=torch.from_numpy(states), pooled=torch.from_numpy(arrays["pooled"][first : first + width].astype(np.float32)))


def _table(array: NDArray[Any], first: int, shape: tuple[int, ...]) -> Tensor:
    """Return the numbers of ``array`` from ``first`` on as a float32 tensor of ``shape``."""
    return torch.from_numpy(array[first : first + math.prod(shape)].astype(np.float32)).reshape(shape)


def _encode_texts(texts: Sequence[str], encode: Callable[[Sequence[str]], tuple[Tensor, Tensor, Tensor]], batch: int = 64) -> dict[str, Text]:
    """Encode every different text once, those of like length together."""
    different = sorted(set(texts), key=lambda text: (len(text), text))
    encoded: dict[str, Text] = {}
    for first in range(0, len(different), batch):
        chunk = different[first : first + batch]
        states, mask, pooled = encode(chunk)
        for i, text in enumerate(chunk):
            encoded[text] = Text(states=states[i][mask[i]].float().cpu(), pooled=pooled[i].float().cpu())
    return encoded
