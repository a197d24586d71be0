"""What is kept comes back equal; what was cut off by a crash counts as not there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from diorama.errors import CheckpointError
from diorama.geometry.cameras import Cameras, Capture, Floats
from diorama.geometry.keep import keep, recall


@dataclass(frozen=True, kw_only=True)
class Inner:
    values: Floats
    name: str


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    several: tuple[Inner, ...]
    pair: tuple[int, float]
    table: dict[str, float]
    maybe: Inner | None
    count: int


def value() -> Outer:
    one = Inner(values=np.array([1.0, np.nan, math.inf]), name="a '\n{}")
    return Outer(inner=one, several=(one, Inner(values=np.zeros((0, 3)), name="")), pair=(3, 0.5), table={"x": 1.5}, maybe=None, count=np.int64(4))  # type: ignore[arg-type]


def test_a_tree_of_results_comes_back(tmp_path: Path) -> None:
    keep(tmp_path / "deep" / "value.npz", value())
    back = recall(tmp_path / "deep" / "value.npz", Outer)
    assert back is not None
    assert np.array_equal(back.inner.values, value().inner.values, equal_nan=True)
    assert back.inner.name == "a '\n{}"
    assert [one.values.shape for one in back.several] == [(3,), (0, 3)]
    assert (back.pair, back.table, back.maybe, back.count) == ((3, 0.5), {"x": 1.5}, None, 4)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["value.npz"]


def test_a_capture_comes_back_bit_by_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    cameras = Cameras(intrinsics=random.normal(size=(2, 3, 3)), world_to_camera=random.normal(size=(2, 4, 4)), width=6, height=4)
    frames = random.integers(0, 255, (2, 4, 6, 3)).astype(np.uint8)
    for masks in (None, random.random((2, 4, 6)) > 0.5):
        capture = Capture(frames=frames, cameras=cameras, points=random.normal(size=(5, 3)), colors=np.zeros((5, 3), np.uint8), masks=masks)
        keep(tmp_path / "c.npz", capture)
        back = recall(tmp_path / "c.npz", Capture)
        assert back is not None
        assert (back.frames == frames).all()
        assert (back.cameras.world_to_camera == cameras.world_to_camera).all()
        assert (back.masks is None) if masks is None else (back.masks == masks).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_what_a_crash_cut_off_is_not_there(tmp_path: Path, share: float) -> None:
    path = tmp_path / "value.npz"
    assert recall(path, Outer) is None
    keep(path, value())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert recall(path, Outer) is None
    path.write_bytes(whole)
    assert recall(path, Outer) is not None


def test_another_shape_of_result_is_not_there(tmp_path: Path) -> None:
    keep(tmp_path / "value.npz", value().inner)
    assert recall(tmp_path / "value.npz", Outer) is None


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot be written"):
        keep(tmp_path / "file" / "value.npz", value())
