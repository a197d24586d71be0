"""The second lesson: what tokens show is named from middle features, and the names reach the blocks below."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.train.conftest import MODEL
from tests.train.test_transformer import CPU, config, losses

from diorama.data.coverage import KINDS
from diorama.errors import ConfigError
from diorama.pipeline import Pipeline
from diorama.runtime import generator
from diorama.train.cache import load_encoders, open_cache
from diorama.train.checkpoints import opener
from diorama.train.lora import LoraConfig
from diorama.train.naming import NAMED, NamingConfig, NamingHead, WithNaming, naming_loss
from diorama.train.state import checkpoints
from diorama.train.transformer import TransformerTask, TransformerTrainConfig, pack_loss, train_transformer
from diorama.transformer import Transformer
from diorama.worlds.scene import CAMERA_MOVES


def named_config(home: Path, *, steps: int = 4, weight: float = 0.5, block: int = 1) -> TransformerTrainConfig:
    return replace(config(home, steps=steps), naming=NamingConfig(weight=weight, block=block))


def named_task(home: Path, block: int = 1) -> TransformerTask:
    wanted = named_config(home, block=block)
    encoders = load_encoders(wanted.autoencoder, wanted.text_encoder, CPU)
    return TransformerTask(wanted, open_cache(wanted.data.shards, wanted.data.cache, encoders, wanted.data.encode), Transformer(MODEL), encoders)


def test_the_loss_is_the_weighted_cross_entropy_of_what_is_known() -> None:
    head, features = NamingHead(8), torch.randn(4, 8, generator=generator(0))
    kinds = torch.tensor([[1, 2, 3, 5], [0, 0, 0, -1], [-1, -1, -1, 2], [4, 1, 1, 3]])
    weights = torch.tensor([2.0, 1.0, 5.0, 0.0])  # bodies of the third and the camera of the second are not known, the fourth does not count
    loss, figures = naming_loss(head, features, kinds, weights)
    wanted = 0.0
    *bodies, camera = (logits.detach().log_softmax(-1) for logits in head(features))
    for i, chances in enumerate(bodies):
        wanted -= float(2 * chances[0, kinds[0, i]] + chances[1, 0]) / 3 / 3
    wanted -= float(2 * camera[0, 5] + 5 * camera[2, 2]) / 7
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert set(figures) == {f"named_{name}" for name in NAMED}
    assert set(figures.values()) <= {0.0, 1.0}
    nothing, none = naming_loss(head, features, torch.full((4, 4), -1), weights)
    assert (nothing.item(), none) == (0.0, {})


def test_the_lesson_reaches_the_blocks_below_the_head_and_no_others(home: Path) -> None:
    job = named_task(home)
    module, batch = job.module(), job.batch(0)
    assert isinstance(module, WithNaming)
    assert batch.kinds is not None
    assert batch.kinds.shape == (sum(latent[0].numel() for latent in batch.latents), len(NAMED))
    assert {0, 1} == set(batch.kinds[:, 0].tolist())
    plain, _ = pack_loss(job.transformer, batch, generator(0))
    loss, figures = job.loss(batch, generator(0))
    assert loss.item() == pytest.approx(plain.item() + 0.5 * figures["loss_naming"], rel=1e-5)
    # Projections that end a block start at 0, so two steps are needed for a gradient to pass them.
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        ((job.loss(batch, generator(0))[0] - pack_loss(job.transformer, batch, generator(0))[0]) / 0.5).backward()
        optimizer.step()
    moved = {name for name, parameter in module.named_parameters() if parameter.grad is not None and float(parameter.grad.abs().max()) > 1e-7}
    assert any(name.startswith("transformer.blocks.0.attn2.to_k") for name in moved)
    assert not any(name.startswith(("transformer.blocks.1", "transformer.proj_out")) for name in moved)


def test_the_camera_of_clips_is_named_and_that_of_stills_is_not(home: Path) -> None:
    cameras = []
    for draw in named_task(home).sampler.draw(0):
        job = named_task(home)
        job.sampler.draw = lambda step, max_tokens=None, draw=draw: [draw]  # type: ignore[method-assign, misc]
        batch = job.batch(0)
        assert batch.kinds is not None
        cameras.append((draw.num_frames > 1, draw.mirrored, batch.kinds[:, len(KINDS)].unique().tolist()))
    left, right = (1 + CAMERA_MOVES.index(move) for move in ("pan_left", "pan_right"))
    assert all(camera == [(right if mirrored else left) if moving else -1] for moving, mirrored, camera in cameras)
    assert len({moving for moving, _, _ in cameras}) == 2


def test_clips_that_say_nothing_pass_the_lesson_by(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = named_task(home)
    monkeypatch.setattr(job.cache, "kinds", lambda index, variant: None)
    monkeypatch.setattr(job.cache.shards, "record", lambda index: {})
    batch = job.batch(0)
    assert batch.kinds is not None
    assert set(batch.kinds.unique().tolist()) == {-1}
    loss, figures = job.loss(batch, generator(0))
    assert loss.item() == pytest.approx(pack_loss(job.transformer, batch, generator(0))[0].item())
    assert figures["loss_naming"] == 0.0


def test_it_resumes_bit_equal_and_exports_the_transformer_alone(home: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    result = train_transformer(named_config(home, steps=4), whole, CPU)
    for steps in (2, 4):
        train_transformer(named_config(home, steps=steps), parts, CPU)
    assert losses(whole) == losses(parts)
    weights = Transformer.load(result.folder / "transformer").state_dict()
    assert set(weights) == set(Transformer(MODEL).state_dict())
    clip = Pipeline.load(result.folder, "cpu").generate("red ball", size=(48, 32), num_frames=5, steps=2)
    assert clip.frames.shape == (5, 32, 48, 3)
    opened = opener(whole, CPU)(checkpoints(whole)[-1]).transformer.state_dict()
    for name, value in weights.items():
        torch.testing.assert_close(opened[name].half(), value.half())


def test_what_cannot_be_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"naming\.weight"):
        NamingConfig(weight=-1.0)
    with pytest.raises(ConfigError, match=r"naming\.block"):
        NamingConfig(block=0)
    with pytest.raises(ConfigError, match="has 2 blocks"):
        named_task(home, block=3)
    with pytest.raises(ConfigError, match="lora"):
        replace(named_config(home), lora=LoraConfig())
