"""What learns beside the transformer: each lesson adds its weighted loss, and the model that is exported has none of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.train.conftest import MODEL
from tests.train.test_transformer import CPU, config, losses

from diorama.errors import ConfigError
from diorama.pipeline import Pipeline
from diorama.runtime import generator
from diorama.train.cache import load_encoders, open_cache
from diorama.train.checkpoints import opener
from diorama.train.heads import WithHeads
from diorama.train.lora import LoraConfig
from diorama.train.naming import NamingConfig
from diorama.train.recognition import RecognitionConfig
from diorama.train.state import checkpoints
from diorama.train.transformer import TransformerTask, TransformerTrainConfig, pack_loss, train_transformer
from diorama.transformer import Transformer


def taught(home: Path, *, naming: float = 0.5, recognition: float = 0.25, steps: int = 4) -> TransformerTrainConfig:
    lessons = {"naming": NamingConfig(weight=naming, block=1), "recognition": RecognitionConfig(weight=recognition, width=8, ahead=3)}
    return replace(config(home, steps=steps), **lessons)


def task(wanted: TransformerTrainConfig) -> TransformerTask:
    encoders = load_encoders(wanted.autoencoder, wanted.text_encoder, CPU)
    return TransformerTask(wanted, open_cache(wanted.data.shards, wanted.data.cache, encoders, wanted.data.encode), Transformer(MODEL), encoders)


def test_each_lesson_adds_its_weighted_loss(home: Path) -> None:
    job = task(taught(home))
    batch = job.batch(0)
    plain, _ = pack_loss(job.transformer, batch, generator(0))
    loss, figures = job.loss(batch, generator(0))
    # What the net learns by is no part of what is logged of the transformer: it is what is left.
    left = loss.item() - plain.item() - 0.5 * figures["loss_naming"] - 0.25 * figures["loss_recognition"]
    assert 0.5 < left < 5
    assert {"named_shape", "recognised_shape", "read_shape"} <= set(figures)


def test_the_lesson_of_predictions_reaches_the_whole_transformer(home: Path) -> None:
    job = task(taught(home, naming=0))
    module, batch = job.module(), job.batch(0)
    assert isinstance(module, WithHeads)
    assert module.naming_head is None
    # Projections that end a block start at 0, so it takes some steps until a gradient passes them all.
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    for _ in range(6):
        optimizer.zero_grad()
        (job.loss(batch, generator(0))[0] - pack_loss(job.transformer, batch, generator(0))[0]).backward()
        optimizer.step()
    moved = {name for name, parameter in module.named_parameters() if parameter.grad is not None and float(parameter.grad.abs().max()) > 1e-7}
    for part in ("transformer.patch_embedding", "transformer.blocks.0.attn2", "transformer.blocks.1", "transformer.proj_out", "recogniser"):
        assert any(name.startswith(part) for name in moved), part


def test_it_resumes_bit_equal_and_exports_the_transformer_alone(home: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    result = train_transformer(taught(home), whole, CPU)
    for steps in (2, 4):
        train_transformer(taught(home, steps=steps), parts, CPU)
    assert losses(whole) == losses(parts)
    weights = Transformer.load(result.folder / "transformer").state_dict()
    assert set(weights) == set(Transformer(MODEL).state_dict())
    clip = Pipeline.load(result.folder, "cpu").generate("red ball", size=(48, 32), num_frames=5, steps=2)
    assert clip.frames.shape == (5, 32, 48, 3)
    opened = opener(whole, CPU)(checkpoints(whole)[-1]).transformer.state_dict()
    for name, value in weights.items():
        torch.testing.assert_close(opened[name].half(), value.half())


def test_the_net_learns_ahead_once_and_from_the_truth(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = task(taught(home, naming=0))
    assert job.heads is not None
    assert job.heads.recogniser is not None
    before = {name: value.clone() for name, value in job.heads.state_dict().items()}
    job.read_ahead(CPU)
    moved = {name for name, value in job.heads.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"recogniser.{name}" for name in job.heads.recogniser.state_dict()}
    assert "read ahead: shape" in capsys.readouterr().err
    for steps, told in ((1, True), (2, False)):
        train_transformer(taught(home, naming=0, steps=steps), tmp_path / "run", CPU)
        assert ("read ahead" in capsys.readouterr().err) == told


def test_what_cannot_be_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="has 2 blocks"):
        WithHeads(Transformer(MODEL), NamingConfig(weight=1.0, block=3), RecognitionConfig())
    assert WithHeads(Transformer(MODEL), NamingConfig(block=3), RecognitionConfig(weight=1.0)).naming_head is None
    with pytest.raises(ConfigError, match=r"recognition\.weight"):
        replace(taught(home, naming=0), lora=LoraConfig())
