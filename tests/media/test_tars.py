"""A shard is whole or not there, and its index says where everything in it lies."""

from __future__ import annotations

import dataclasses
import json
import resource
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from diorama.errors import DataError
from diorama.media.tars import CodedSample, shard_name, write_tar


def sample(key: str, data: bytes = b"pictures", kind: str = "mp4") -> CodedSample:
    return CodedSample(key=key, kind=kind, data=data, record={"name": key, "captions": ["é"]}, height=32, width=48, num_frames=5, fps=12.0)


def test_the_index_says_where_everything_lies(tmp_path: Path) -> None:
    samples = [sample("a", bytes(range(256)) * 5), sample("b", b"", "png"), sample("c" * 90)]
    infos = write_tar(tmp_path / "made", 7, samples)
    data = (tmp_path / "made" / "shard-00007.tar").read_bytes()
    for info, one in zip(infos, samples, strict=True):
        assert data[info.offset :][: info.size] == one.data
        assert json.loads(data[info.record_offset :][: info.record_size]) == one.record
        assert (info.key, info.kind, info.height, info.width, info.num_frames, info.fps) == (one.key, one.kind, 32, 48, 5, 12.0)
    index = json.loads((tmp_path / "made" / f"{shard_name(7)}.index.json").read_text())
    assert index == {"samples": [dataclasses.asdict(info) for info in infos]}


def test_any_webdataset_reader_finds_its_files(tmp_path: Path) -> None:
    write_tar(tmp_path, 0, [sample("a"), sample("b", b"still", "png")])
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        assert tar.getnames() == ["a.mp4", "a.json", "b.png", "b.json"]
        assert json.load(tar.extractfile("b.json")) == sample("b").record  # type: ignore[arg-type]


def test_equal_samples_give_equal_bytes_over_what_was_there(tmp_path: Path) -> None:
    write_tar(tmp_path / "y", 0, [sample("old")] * 3)
    for name in ("x", "y"):
        write_tar(tmp_path / name, 0, [sample("a"), sample("b")])
    for name in ("shard-00000.tar", "shard-00000.index.json"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_without_samples_no_shard_is_left(tmp_path: Path) -> None:
    write_tar(tmp_path, 0, [sample("a")])
    assert write_tar(tmp_path, 0, []) == []
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_shard_before_and_no_half(tmp_path: Path) -> None:
    def failing() -> Iterator[CodedSample]:
        yield sample("b")
        raise KeyboardInterrupt

    write_tar(tmp_path, 0, [sample("a")])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        write_tar(tmp_path, 0, failing())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("room", [4_000, 15_000], ids=["tar", "index"])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, room: int) -> None:
    """The four samples take a tar of 10,240 bytes, and their counts of 4,001 digits an index of more than 16,000."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(DataError, match="the disk is full"):
            write_tar(tmp_path, 0, [dataclasses.replace(sample("a"), num_frames=10**4000)] * 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["", "a/b", "a.b", "x" * 100])
def test_keys_that_break_names_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match="sample key"):
        write_tar(tmp_path, 0, [sample(key)])
    assert not list(tmp_path.iterdir())
