from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diorama.data import Sample, ShardSet, ShardWriter, write_shard
from diorama.data.shards import shard_names
from diorama.errors import DataError
from diorama.media import resize


def sample(key: str, frames: int = 5, height: int = 32, width: int = 48) -> Sample:
    coarse = np.random.default_rng(len(key) + frames).integers(0, 256, (frames, 4, 6, 3), dtype=np.uint8)
    return Sample(key=key, frames=resize(coarse, (width, height)), fps=12.0, record={"name": key, "captions": {"dense": ["é"]}})


def test_samples_of_any_size_come_back(tmp_path: Path) -> None:
    samples = [sample("a"), sample("b", 9, 48, 32), sample("c", 1)]
    write_shard(tmp_path, 0, samples[:2])
    write_shard(tmp_path, 1, samples[2:])
    shards = ShardSet(tmp_path)
    assert len(shards) == 3
    assert shards.tars() == [range(2), range(2, 3)]
    for i, expected in enumerate(samples):
        info = shards.info(i)
        assert (info.num_frames, info.height, info.width, info.fps) == (*expected.frames.shape[:3], 12.0)
        frames, record = shards.read(i)
        assert record == expected.record
        assert np.abs(frames.astype(int) - expected.frames).mean() < 4  # noise of full contrast is hard on H.264
    np.testing.assert_array_equal(shards.frames(2), samples[2].frames)


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_shard(tmp_path / name, 0, [sample("a"), sample("b", 1)])
    assert (tmp_path / "x/shard-00000.tar").read_bytes() == (tmp_path / "y/shard-00000.tar").read_bytes()
    assert ShardSet(tmp_path / "x").fingerprint() == ShardSet(tmp_path / "y").fingerprint()


def test_several_folders_make_one_set(tmp_path: Path) -> None:
    write_shard(tmp_path / "x", 0, [sample("a")])
    write_shard(tmp_path / "y", 0, [sample("b", 1)])
    both = ShardSet([tmp_path / "x", tmp_path / "y"])
    assert [both.record(i)["name"] for i in range(len(both))] == ["a", "b"]
    assert both.fingerprint() != ShardSet(tmp_path / "x").fingerprint()
    assert both.fingerprint(range(1)) == ShardSet(tmp_path / "x").fingerprint()


def test_the_writer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, max_bytes=2 * sample("a").frames.nbytes)
    assert all(writer.add(sample(key)) for key in "abc")
    assert shard_names(tmp_path) == ["shard-00000"]
    again = ShardWriter(tmp_path)
    assert [again.add(sample(key)) for key in "abcd"] == [False, False, True, True]
    again.flush()
    again.flush()
    shards = ShardSet(tmp_path)
    assert [shards.record(i)["name"] for i in range(len(shards))] == list("abcd")


def test_an_unfinished_shard_does_not_exist(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [sample("a")])
    write_shard(tmp_path, 1, [sample("b")])
    (tmp_path / "shard-00001.index.json").unlink()
    assert len(ShardSet(tmp_path)) == 1


def test_empty_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"training set .*none is empty: there is no such folder"):
        ShardSet(tmp_path / "none")
    with pytest.raises(DataError, match="is empty: it holds no finished shards; make one with: diorama worlds render"):
        ShardSet(tmp_path)
    with pytest.raises(DataError, match="0 folders"):
        ShardSet([])


def test_damage_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [sample("a")])
    tar = tmp_path / "shard-00000.tar"
    data = tar.read_bytes()
    shards = ShardSet(tmp_path)
    tar.write_bytes(data[:512] + bytes(shards.info(0).size) + data[512 + shards.info(0).size :])
    with pytest.raises(DataError, match=r"shard-00000.tar is damaged at sample a"):
        shards.frames(0)
    tar.write_bytes(data[:700])
    with pytest.raises(DataError, match=r"shard-00000.tar is truncated"):
        ShardSet(tmp_path)
    with pytest.raises(DataError, match="is truncated"):
        shards.read(0)
    tar.unlink()
    with pytest.raises(DataError, match=r"shard-00000.tar is missing"):
        ShardSet(tmp_path)
    (tmp_path / "shard-00000.index.json").write_text("{")
    with pytest.raises(DataError, match=r"shard index .* is damaged"):
        ShardSet(tmp_path)
