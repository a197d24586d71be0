from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from diorama import checkpoint
from diorama.checkpoint import (
    fill,
    in_bytes,
    load_file,
    load_into,
    load_tensors,
    open_files,
    open_weights,
    read_json,
    replacing,
    save_folder,
    tensors_hash,
    write_file,
    write_text,
)
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


@pytest.mark.parametrize(("error", "told"), [(OSError(28, "No space left on device"), CheckpointError), (KeyError("x"), KeyError)])
def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path, error: Exception, told: type[Exception]) -> None:
    def fail() -> None:
        with replacing(tmp_path / "b.txt") as fresh:
            fresh.write_text("half")
            raise error

    write_text(tmp_path / "b.txt", "one")
    with pytest.raises(told):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize(("text", "told"), [("{", "cannot be read"), ("[1]", "must hold one JSON object"), (None, "cannot be read")])
def test_a_json_file_that_is_none_is_named(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError, match=rf"config\.json {told}"):
        read_json(path)
    path.write_text('{"a": [1]}')
    assert read_json(path) == {"a": [1]}


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


def test_a_truncated_tensor_is_named_with_its_shape(tmp_path: Path) -> None:
    save_folder(tmp_path / "m", tensors(3), {})
    path = tmp_path / "m/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"truncated: tensor 'layer2.weight' of shape \(8, 8\) ends at byte"):
        open_weights(tmp_path / "m")


def test_an_index_that_promises_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 300)
    save_folder(tmp_path / "m", tensors(2), {})
    index = tmp_path / "m/model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"]["layer9.weight"] = next(iter(values["weight_map"].values()))
    index.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"lacks tensor 'layer9\.weight', which the index places there"):
        open_weights(tmp_path / "m")
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="is not a safetensors index"):
        open_weights(tmp_path / "m")


def test_weights_on_disk_are_read_or_mapped(tmp_path: Path) -> None:
    every = {f"x{i}": torch.arange(3.0).to(dtype) for i, dtype in enumerate([torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8])}
    every["empty"] = torch.zeros(0, 4)
    every["scalar"] = torch.tensor(3.0)
    write_file(tmp_path / "a.safetensors", every)
    weights = open_files([tmp_path / "a.safetensors"])
    assert weights.num_bytes == sum(value.numel() * value.element_size() for value in every.values())
    for name, value in every.items():
        stored = weights.tensors[name]
        assert (stored.shape, stored.dtype) == (tuple(value.shape), value.dtype)
        assert torch.equal(stored.read(), value)
        assert torch.equal(stored.map(), value)
    kept = weights.renamed(lambda name: name.replace("x", "y") if name.startswith("x") else None)
    assert sorted(kept.tensors) == ["y0", "y1", "y2", "y3", "y4"]


def test_files_of_torch_hold_tensors_alone(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "a.pth")
    assert torch.equal(open_files([tmp_path / "a.pth"]).tensors["weight"].read(), torch.ones(2))
    torch.save({"weight": torch.ones(2), "step": 3}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="holds more than named tensors"):
        open_files([tmp_path / "b.pth"])
    torch.save({"weight": Path("x")}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="nothing but tensors"):
        open_files([tmp_path / "c.pth"])
    (tmp_path / "d.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"d\.pth cannot be read"):
        open_files([tmp_path / "d.pth"])


def test_a_module_without_memory_is_filled(tmp_path: Path) -> None:
    layer = nn.Linear(3, 4)
    save_folder(tmp_path / "m", layer.state_dict(), {})
    with torch.device("meta"):
        empty = nn.Linear(3, 4)
    fill(empty, open_weights(tmp_path / "m"), lambda name, stored: torch.bfloat16 if name == "weight" else stored, mapped=True)
    assert torch.equal(empty.weight, layer.weight.bfloat16())
    assert torch.equal(empty.bias, layer.bias)
    assert empty.weight.requires_grad


def test_a_large_model_has_large_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 300)
    monkeypatch.setattr(checkpoint, "_LARGE", 1000)
    monkeypatch.setattr(checkpoint, "_LARGE_SHARD", 600)
    save_folder(tmp_path / "m", tensors(5), {})
    assert len(list(tmp_path.glob("m/*.safetensors"))) == 3
    assert tensors_hash(load_tensors(tmp_path / "m")) == tensors_hash(tensors(5))


def test_matrices_in_bytes_come_back_to_half_a_scale(tmp_path: Path) -> None:
    module = nn.Linear(40, 6)
    save_folder(tmp_path / "m", in_bytes(module.state_dict()), {})
    assert load_tensors(tmp_path / "m")["weight"].dtype == torch.int8
    again = nn.Linear(40, 6)
    load_into(again, tmp_path / "m")
    before, after = module.weight.detach(), again.weight.detach()
    error = (after - before).abs().amax(1) / before.abs().amax(1)
    assert 0 < float(error.max()) <= 0.51 / 127 + 1e-3
    torch.testing.assert_close(again.bias, module.bias, atol=1e-3, rtol=1e-3)
    save_folder(tmp_path / "twice", in_bytes(again.state_dict()), {})
    third = nn.Linear(40, 6)
    load_into(third, tmp_path / "twice")
    assert torch.equal(third.weight, again.weight)
    with pytest.raises(CheckpointError, match="expected"):
        load_into(nn.Linear(20, 6), tmp_path / "m")
