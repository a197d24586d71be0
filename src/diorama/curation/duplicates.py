"""What a piece looks like, and which pieces of the whole set show the same.

Near-duplicates are looked for by embedding, confirmed by perceptual hash and frame by frame: pieces that share a room and an actor
are alike in the first and differ in the last. Of a group the largest is kept, then the longest, then the one with the
most bytes a second.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diorama.curation.borders import inside
from diorama.curation.cuts import Shot, cv2_library
from diorama.curation.manifest import Row
from diorama.errors import ConfigError
from diorama.media import Pixels

__all__ = ["DuplicateConfig", "Match", "apply_duplicates", "candidates", "embed", "fingerprint", "mark_duplicates", "similarity"]

SIDE = 16  # of a print, pixels
_PRINTS = 16  # frames of a piece that are kept as prints
_BLOCK = 1024  # rows compared at once
_BRUTE = 20_000  # up to this many pieces every pair is compared


@dataclass(frozen=True, kw_only=True)
class DuplicateConfig:
    """What counts as the same."""

    embedding: float = 0.96
    """Cosine of embeddings from which a pair is looked at."""
    hash_bits: int = 14
    """Bits of 64 by which the perceptual hashes of matching frames may differ on average."""
    similarity: float = 0.7
    """Least similarity of matching frames, 0 to 1, that makes a duplicate."""

    def __post_init__(self) -> None:
        if not (0 < self.embedding <= 1 and 0 <= self.hash_bits <= 64 and 0 < self.similarity <= 1):
            raise ConfigError(
                f"duplicates by embedding {self.embedding:g}, hash_bits {self.hash_bits}, similarity {self.similarity:g} cannot be found; "
                "allowed are above 0 to 1, 0 to 64, above 0 to 1"
            )


def fingerprint(row: Row, shot: Shot) -> Row:
    """Return the row with its embedding, perceptual hashes and prints."""
    if not shot.medium:
        return row
    frames = [np.ascontiguousarray(inside(row, frame)) for frame in shot.medium]
    prints = [_print(frame) for frame in frames[:_PRINTS]]
    hashes = tuple(_hash(frame) for frame in frames[:_PRINTS])
    return dataclasses.replace(row, embedding=tuple(embed(frames).tolist()), hashes=hashes, prints=np.stack(prints).tobytes())


def _gray(frame: Pixels, side: int) -> NDArray[np.uint8]:
    cv2 = cv2_library()
    gray: NDArray[np.uint8] = cv2.cvtColor(cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return gray


def _print(frame: Pixels) -> NDArray[np.uint8]:
    return _gray(frame, SIDE)


def _hash(frame: Pixels) -> int:
    """Return the perceptual hash: signs of the low frequencies of a cosine transform about their median, as a signed integer."""
    low = cv2_library().dct(_gray(frame, 32).astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int(np.packbits(bits).view(">u8")[0].astype(np.int64))


def embed(frames: Sequence[Pixels]) -> NDArray[np.float32]:
    """Return a unit vector of what frames ``[h, w, 3]`` look like: colour and direction of edges in 4 x 4 fields, mean over frames."""
    cv2 = cv2_library()
    total = np.zeros(4 * 4 * 9, np.float64)
    for frame in frames:
        lab = cv2.cvtColor(cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB).astype(np.float32)
        color = lab.reshape(4, 16, 4, 16, 3).mean(axis=(1, 3)).reshape(16, 3) - 128
        gx, gy = (cv2.Sobel(lab[..., 0], cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        angle = (np.arctan2(gy, gx) % np.pi / np.pi * 6).astype(int).clip(0, 5)
        weight = np.sqrt(gx**2 + gy**2)
        edges = np.stack([(weight * (angle == i)).reshape(4, 16, 4, 16).mean(axis=(1, 3)).ravel() for i in range(6)], axis=1)
        total += np.concatenate([color * 2, edges], axis=1).ravel()
    norm = float(np.linalg.norm(total))
    unit: NDArray[np.float32] = (total / norm if norm else total).astype(np.float32)
    return unit


def candidates(vectors: NDArray[np.float32], least: float, *, brute: int = _BRUTE) -> Iterator[tuple[int, int]]:
    """Yield pairs i < j whose cosine is at least ``least``; each once, in order for a set that is compared whole.

    Args:
        vectors: ``[n, D]`` unit vectors.
        least: Smallest cosine.
        brute: Larger sets are compared only inside the buckets of random projections, where near-equal vectors meet.
    """
    count = len(vectors)
    if count <= brute:
        for first in range(0, count, _BLOCK):
            near = vectors[first : first + _BLOCK] @ vectors[first:].T >= least
            for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
                yield first + int(i), first + int(j)
        return
    planes = np.random.default_rng(0).standard_normal((vectors.shape[1], 24 * 12)).astype(np.float32)
    signs = ((vectors - vectors.mean(axis=0)) @ planes > 0).reshape(count, 24, 12)
    seen: set[tuple[int, int]] = set()
    for table in range(24):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for i, bits in enumerate(np.packbits(signs[:, table], axis=1)):
            buckets[bits.tobytes()].append(i)
        for members in buckets.values():
            near = vectors[members] @ vectors[members].T >= least
            for a, b in zip(*np.nonzero(np.triu(near, 1)), strict=True):
                pair = (members[int(a)], members[int(b)])
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def similarity(a: Row, b: Row, hash_bits: int) -> float:
    """Return how alike two pieces are frame by frame at the best shift between them, 0 to 1; 0 if their hashes differ too much."""
    prints = [np.frombuffer(row.prints, np.uint8).reshape(-1, SIDE, SIDE).astype(np.float32) for row in (a, b)]
    hashes = [np.array(row.hashes, np.int64) for row in (a, b)]
    if len(prints[0]) > len(prints[1]):
        prints, hashes = prints[::-1], hashes[::-1]
    short, long = len(prints[0]), len(prints[1])
    best = 0.0
    needed = min(short, max(2, short // 2)) if short > 1 else 1
    for shift in range(needed - short, long - needed + 1):
        lo, hi = max(0, -shift), min(short, long - shift)
        if hi - lo < needed:
            continue
        apart = float(np.bitwise_count((hashes[0][lo:hi] ^ hashes[1][lo + shift : hi + shift]).view(np.uint64)).mean())
        if apart > hash_bits:
            continue
        x, y = prints[0][lo:hi], prints[1][lo + shift : hi + shift]
        x, y = (z - z.mean(axis=(1, 2), keepdims=True) for z in (x, y))
        difference = np.abs(x - y)
        contrast = np.maximum(8.0, (x.std(axis=(1, 2)) + y.std(axis=(1, 2))) / 2)
        # The fields that differ most decide: a hand that moves changes few of them.
        worst = np.quantile(difference.reshape(len(difference), -1), 0.97, axis=1) / contrast
        best = max(best, float(np.clip(1 - worst.mean(), 0, 1)))
    return best


@dataclass(frozen=True, kw_only=True)
class Match:
    """The piece that stands for another one."""

    key: str
    """Of the piece that is kept."""
    name: str
    """Where that piece is, for people."""
    similarity: float
    """Of the two, 0 to 1."""


def mark_duplicates(rows: Sequence[Row], config: DuplicateConfig) -> dict[str, Match]:
    """Return, for the key of each piece that another one stands for, that one.

    Args:
        rows: Pieces whose fate is open, with embeddings, hashes and prints.
        config: What counts as the same.
    """
    chosen = [row for row in rows if row.embedding and row.prints]
    if len(chosen) < 2:
        return {}
    order = sorted(range(len(chosen)), key=lambda i: _rank(chosen[i]))
    vectors = np.array([row.embedding for row in chosen], np.float32)
    alike: dict[int, dict[int, float]] = defaultdict(dict)
    for i, j in candidates(vectors, config.embedding):
        if chosen[i].kind != chosen[j].kind:
            continue
        value = similarity(chosen[i], chosen[j], config.hash_bits)
        if value >= config.similarity:
            alike[i][j] = alike[j][i] = value
    marked: dict[str, Match] = {}
    kept: set[int] = set()
    for i in order:  # the best first: it stands for all that are like it
        better = {j: value for j, value in alike[i].items() if j in kept}
        if better:
            j = max(better, key=lambda j: (better[j], chosen[j].key))
            other = chosen[j]
            marked[chosen[i].key] = Match(key=other.key, name=f"{other.source} at {other.start:.2f} s", similarity=better[j])
        else:
            kept.add(i)
    return marked


def _rank(row: Row) -> tuple[Any, ...]:
    width, height = row.size
    rate = row.file_bytes / row.source_seconds if row.source_seconds else float(row.file_bytes)
    return (-width * height, -round(row.seconds), -rate, row.source, row.piece)


def apply_duplicates(rows: Sequence[Row], marked: Mapping[str, Match], config: DuplicateConfig) -> list[Row]:
    """Return the rows, those that another stands for dropped."""
    out = []
    for row in rows:
        match = marked.get(row.key)
        if match is not None and not row.fate:
            row = dataclasses.replace(row, duplicate_of=match.key, similarity=match.similarity)
            detail = f"shows the same as {match.name}"
            row = row.dropped("duplicate", "duplicates", detail, figure=match.similarity, limit=config.similarity)
        out.append(row)
    return out
