from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from diorama import checkpoint
from diorama.checkpoint import load_file, load_into, load_tensors, save_folder, tensors_hash, write_file, write_text
from diorama.errors import CheckpointError


def tensors(n: int = 3) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {f"layer{i}.weight": torch.randn(8, 8, generator=g) for i in range(n)}


def test_round_trip_in_one_file(tmp_path: Path) -> None:
    save_folder(tmp_path / "m", tensors(), {"a": 1})
    loaded = load_tensors(tmp_path / "m")
    assert loaded.keys() == tensors().keys()
    assert all(torch.equal(loaded[k], v) for k, v in tensors().items())
    assert json.loads((tmp_path / "m/config.json").read_text()) == {"a": 1}
    assert (tmp_path / "m/model.safetensors").stat().st_mode & 0o777 == 0o644


def test_round_trip_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 300)
    save_folder(tmp_path / "m", tensors(5), {})
    files = sorted(tmp_path.glob("m/*.safetensors"))
    assert len(files) == 5
    assert tensors_hash(load_tensors(tmp_path / "m")) == tensors_hash(tensors(5))


def test_replacing_leaves_nothing_behind(tmp_path: Path) -> None:
    save_folder(tmp_path / "m", tensors(), {"a": 1})
    save_folder(tmp_path / "m", tensors(1), {"a": 2})
    assert list(load_tensors(tmp_path / "m")) == ["layer0.weight"]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_failed_write_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_folder(tmp_path / "m", tensors(), {"a": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="disk is full"):
        save_folder(tmp_path / "m", tensors(1), {"a": 2})
    assert tensors_hash(load_tensors(tmp_path / "m")) == tensors_hash(tensors())
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_truncated_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_tensors(tmp_path)
    save_folder(tmp_path / "m", tensors(), {})
    path = tmp_path / "m/model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="truncated"):
        load_tensors(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("weight"), "lacks tensor 'weight'"),
        (lambda t: t.update(weight=torch.zeros(2, 2)), r"'weight' has shape \(2, 2\), expected \(4, 3\)"),
        (lambda t: t.update(extra=torch.zeros(1)), "unknown tensor 'extra'"),
    ],
)
def test_wrong_weights_are_named(tmp_path: Path, change: object, message: str) -> None:
    module = nn.Linear(3, 4)
    state = dict(module.state_dict())
    change(state)  # type: ignore[operator]
    save_folder(tmp_path / "m", state, {})
    with pytest.raises(CheckpointError, match=message):
        load_into(module, tmp_path / "m")


def test_load_into_keeps_the_modules_dtype(tmp_path: Path) -> None:
    module = nn.Linear(3, 4)
    save_folder(tmp_path / "m", {k: v.half() for k, v in module.state_dict().items()}, {})
    load_into(module, tmp_path / "m")
    assert module.weight.dtype == torch.float32


def test_write_text_replaces_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a/b.txt", "one")
    write_text(tmp_path / "a/b.txt", "two")
    assert (tmp_path / "a/b.txt").read_text() == "two"
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_a_single_file_keeps_tensors_and_header(tmp_path: Path) -> None:
    path = tmp_path / "new" / "one.safetensors"
    write_file(path, tensors(), {"a": "1"})
    loaded, metadata = load_file(path)
    assert tensors_hash(loaded) == tensors_hash(tensors())
    assert metadata == {"a": "1"}
    assert [p.name for p in path.parent.iterdir()] == ["one.safetensors"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=r"one\.safetensors cannot be read"):
        load_file(path)
    with pytest.raises(CheckpointError, match="is missing"):
        load_file(tmp_path / "other.safetensors")
