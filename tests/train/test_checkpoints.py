"""A checkpoint becomes the model that the run would export there, and a run can be watched while it trains."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import torch
from tests.train.conftest import MODEL

from diorama.checkpoint import load_tensors
from diorama.config import from_dict
from diorama.data import PackConfig
from diorama.errors import CheckpointError
from diorama.interop.lora import load_lora, merge_lora
from diorama.pipeline import Pipeline
from diorama.runtime import lock_folder
from diorama.train.checkpoints import follow, opener
from diorama.train.loop import LoopConfig
from diorama.train.lora import LoraConfig
from diorama.train.state import checkpoints
from diorama.train.transformer import ClipData, SampleConfig, TransformerTrainConfig, train_transformer
from diorama.transformer import Transformer

CPU = torch.device("cpu")


def config(home: Path, **changes: object) -> TransformerTrainConfig:
    settings: dict[str, object] = {
        "data": ClipData(shards=(home / "shards",), cache=home / "latents", pack=PackConfig(tokens=48)),
        "model": MODEL,
        "train": LoopConfig(steps=3, warmup=0, log_steps=1, sample_steps=0, checkpoint_steps=1, ema_decay=0.5),
        "sample": SampleConfig(prompts=("red ball",)),
        "autoencoder": home / "vae",
        "text_encoder": home / "text",
        **changes,
    }
    return TransformerTrainConfig(**settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_transformer(config(home), folder, CPU)
    return folder


def test_a_run_says_what_it_is(home: Path, run: Path) -> None:
    assert from_dict(TransformerTrainConfig, json.loads((run / "config.json").read_text())) == config(home)


def test_a_checkpoint_is_its_averaged_weights_and_the_last_what_was_exported(run: Path) -> None:
    read = opener(run, CPU)
    for checkpoint in checkpoints(run):
        kept, weights = load_tensors(checkpoint), read(checkpoint).transformer.state_dict()
        assert all(torch.equal(value, kept[f"ema.{name}"]) for name, value in weights.items())
        assert any(not torch.equal(value, kept[f"model.{name}"]) for name, value in weights.items())
    exported = Pipeline.load(run / "export", "cpu").models.transformer.state_dict()
    assert all(torch.equal(value.half().float(), exported[name]) for name, value in weights.items())
    clip = Pipeline(read(checkpoint)).generate("red ball", size=(48, 32), num_frames=5, steps=1)
    assert clip.frames.shape == (5, 32, 48, 3)


def test_a_lora_is_merged_into_what_it_was_trained_beside(home: Path, tmp_path: Path) -> None:
    start = Transformer(MODEL).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in start.parameters():
        parameter.normal_(std=0.3, generator=generator)  # a fresh transformer's last layer is 0 and lets no gradient through
    start.save(tmp_path / "start")
    wanted = config(home, init=tmp_path / "start", lora=LoraConfig(rank=2))
    train_transformer(wanted, tmp_path / "run", CPU)
    merge_lora(start, load_lora(tmp_path / "run" / "export"))
    found = opener(tmp_path / "run", CPU)(checkpoints(tmp_path / "run")[-1]).transformer.state_dict()
    for name, value in start.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-3)
    assert any(not torch.equal(value, found[name]) for name, value in Transformer.load(tmp_path / "start").state_dict().items())


def test_what_cannot_be_read_says_why(home: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        opener(tmp_path, CPU)
    read = opener(run, CPU)
    with pytest.raises(CheckpointError, match="missing"):
        read(tmp_path / "checkpoints" / "step-00000009")
    (tmp_path / "step-00000009").mkdir()
    (tmp_path / "step-00000009" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="step-00000009"):
        read(tmp_path / "step-00000009")
    Transformer(MODEL).save(tmp_path / "other")
    (tmp_path / "other" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "other" / "model.safetensors")
    with pytest.raises(CheckpointError, match="lacks tensor"):
        read(tmp_path / "other")


def test_following_sees_every_checkpoint_that_is_there_once_and_ends_with_the_training(tmp_path: Path) -> None:
    def write(step: int) -> Path:
        path = tmp_path / "checkpoints" / f"step-{step:08d}"
        path.mkdir(parents=True)
        return path

    first, second = write(1), write(2)
    assert list(follow(tmp_path, wait=False)) == [first, second]
    assert list(follow(tmp_path, wait=True)) == [first, second]  # nobody trains
    with lock_folder(tmp_path, "training in"):
        assert list(follow(tmp_path, wait=False)) == [first, second]
        coming = follow(tmp_path, wait=True, seconds=0.01)
        assert next(coming) == first
        second.rmdir()  # dropped by the run meanwhile
        third = write(3)
        assert next(coming) == third
        later = threading.Thread(target=lambda: (time.sleep(0.1), write(4)))
        later.start()
        assert next(coming).name == "step-00000004"
        later.join()
    assert list(coming) == []
