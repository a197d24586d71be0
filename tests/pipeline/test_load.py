"""Model folders: there and back, and every fault in one sentence."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from diorama.errors import CheckpointError, ConfigError, InputError
from diorama.pipeline import load
from diorama.pipeline.load import Models, SchedulerConfig, load_models, model_folder, save_models, write_index


def test_a_folder_comes_back_whole(models: Models, tmp_path: Path) -> None:
    save_models(models, tmp_path / "copy")
    again = load_models(tmp_path / "copy", "cpu")
    assert again.hash == models.hash
    assert again.scheduler == models.scheduler
    assert again.transformer.config == models.transformer.config
    index = json.loads((tmp_path / "copy" / "model_index.json").read_text())
    assert index["vae"] == ["diorama", "Autoencoder"]
    assert not again.transformer.training


def test_the_hash_sees_one_changed_number(models: Models, folder: Path) -> None:
    other = load_models(folder, "cpu")
    next(other.autoencoder.parameters()).view(-1)[0] += 1
    assert other.hash != models.hash


def test_stride_is_what_a_token_covers(models: Models) -> None:
    assert (models.stride.time, models.stride.space) == (4, 16)


def test_shift_grows_from_where_it_is_stated() -> None:
    scheduler = SchedulerConfig(shift=2.0, shift_tokens=100)
    assert scheduler.shift_for(100) == 2.0
    assert scheduler.shift_for(400) == 4.0
    with pytest.raises(ConfigError, match="above 0"):
        SchedulerConfig(shift=0.0)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nobody/no-model", "cannot be reached"),
        ("./not-here", "does not exist"),
        (Path("nobody/no-model"), "cannot be reached"),
        ("a/b/c", "does not exist"),
    ],
)
def test_what_is_no_folder_is_said(source: str | Path, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        model_folder(source)


def test_an_open_model_is_fetched_by_its_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fetched: list[str] = []
    monkeypatch.setattr(load, "fetch", lambda repository: fetched.append(repository) or folder)
    for source in ("wan2.1-t2v-1.3b", Path("Wan2.2-T2V-A14B"), "Wan-AI/Wan2.1-VACE-14B"):
        assert model_folder(source) == folder
    assert fetched == ["Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan-AI/Wan2.2-T2V-A14B-Diffusers", "Wan-AI/Wan2.1-VACE-14B"]
    with pytest.raises(InputError, match=r"no open model 'wan2\.1-t2v-13b'; did you mean 'wan2\.1-t2v-1\.3b'"):
        model_folder("wan2.1-t2v-13b")


def test_a_folder_without_index_or_parts_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="model_index"):
        load_models(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "vae")
    with pytest.raises(CheckpointError, match="lacks vae"):
        load_models(copy)
    (copy / "model_index.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_models(copy)


def test_an_index_names_the_classes_of_its_parts(tmp_path: Path) -> None:
    names = {"transformer": "WanTransformer3DModel", "vae": "AutoencoderKLWan", "text_encoder": "CompactTextEncoder"}
    for part, name in names.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps({"_class_name": name}))
    write_index(tmp_path, SchedulerConfig())
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert {part: index[part][0] for part in names} == {"transformer": "diffusers", "vae": "diffusers", "text_encoder": "diorama"}
    with pytest.raises(CheckpointError, match="before its index"):
        write_index(tmp_path / "empty", SchedulerConfig())


@pytest.mark.parametrize(
    "scheduler",
    [SchedulerConfig(window=5, anchor=1, takes=4, context_noise=0.05, shift=3.0), SchedulerConfig(window=None), SchedulerConfig()],
    ids=str,
)
def test_what_sampling_must_know_survives(models: Models, tmp_path: Path, scheduler: SchedulerConfig) -> None:
    save_models(dataclasses.replace(models, scheduler=scheduler), tmp_path)
    assert load_models(tmp_path, "cpu").scheduler == scheduler
    path = tmp_path / "scheduler" / "scheduler_config.json"
    kept = json.loads(path.read_text())
    assert (kept["window"], kept["context_noise"]) == (scheduler.window, scheduler.context_noise)
    # A folder from before there were windows.
    path.write_text(json.dumps({"_class_name": kept["_class_name"], "shift": 3.0}))
    assert load_models(tmp_path, "cpu").scheduler == SchedulerConfig(shift=3.0)


def test_truncated_weights_are_said(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = next((copy / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        load_models(copy)
