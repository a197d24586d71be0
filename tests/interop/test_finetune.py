"""A checkpoint of Wan is fine-tuned as the packaged model is: its own encoders, its own text padding, an export that opens again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diorama.data import PackConfig, Sample, write_shard
from diorama.data.latents import CacheConfig
from diorama.errors import CheckpointError, ConfigError
from diorama.flow import Mixture
from diorama.interop.lora import LoraFile, load_lora
from diorama.interop.settings import Settings
from diorama.pipeline import Pipeline
from diorama.pipeline.fitted import load_fitted
from diorama.runtime import generator
from diorama.text.umt5 import OnDemandTextEncoder
from diorama.train.cache import load_encoders, open_cache
from diorama.train.checkpoints import opener
from diorama.train.loop import LoopConfig
from diorama.train.lora import LoraConfig
from diorama.train.state import checkpoints
from diorama.train.transformer import (
    ClipData,
    SampleConfig,
    TransformerTask,
    TransformerTrainConfig,
    first_transformer,
    pack_loss,
    train_transformer,
    with_base,
)

CPU = torch.device("cpu")
CAPTION = "a red ball bounces past the blue cube"
Maker = Callable[..., tuple[Any, Path]]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("wan-shards"), np.random.default_rng(0)
    clips = [np.ascontiguousarray(np.broadcast_to(rng.integers(0, 255, (1, 32, 48, 3), np.uint8), (5, 32, 48, 3))) for _ in range(2)]
    record = {"captions": {"dense": [CAPTION], "short": ["red ball"]}}
    write_shard(folder, 0, [Sample(key=f"clip{i}", frames=clip, fps=16.0, record=record) for i, clip in enumerate(clips)])
    return folder


def config(base: Path, shards: Path, home: Path, **changes: Any) -> TransformerTrainConfig:
    data = ClipData(
        shards=(shards,), cache=home / "latents", encode=CacheConfig(mirrored=False), pack=PackConfig(tokens=48), mixture=Mixture(), text_drop=0.0
    )
    sample = SampleConfig(prompts=("red ball",), width=48, height=32, num_frames=5, steps=2)
    loop = LoopConfig(steps=2, warmup=1, log_steps=1, sample_steps=2)
    return TransformerTrainConfig(data=data, base=str(base), train=loop, sample=sample, **changes)


def test_all_of_it_is_trained_and_opens_here_and_in_diffusers(checkpoint: Maker, diffusers: Any, shards: Path, tmp_path: Path) -> None:
    _, base = checkpoint("t2v")
    result = train_transformer(config(base, shards, tmp_path), tmp_path / "run", CPU)
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2
    made = Pipeline.load(result.folder, "cpu")
    before = Pipeline.load(base, "cpu")
    assert made.models.scheduler.shift == before.models.scheduler.shift == 3.0
    name = "blocks.0.attn1.to_q.weight"
    assert not torch.equal(made.models.transformer.get_parameter(name).float(), before.models.transformer.get_parameter(name).float())
    assert made.generate("red ball", size=(48, 32), num_frames=5, steps=2, seed=1).frames.shape == (5, 32, 48, 3)
    theirs = diffusers.WanPipeline.from_pretrained(result.folder)
    trained = made.models.transformer.get_parameter(name).float()
    torch.testing.assert_close(theirs.transformer.state_dict()[name].float(), trained, atol=1e-2, rtol=1e-2)
    opened = opener(tmp_path / "run", CPU)(checkpoints(tmp_path / "run")[-1])
    torch.testing.assert_close(opened.transformer.get_parameter(name), trained, atol=1e-2, rtol=1e-2)


def test_a_lora_is_trained_and_merged(checkpoint: Maker, shards: Path, tmp_path: Path) -> None:
    _, base = checkpoint("t2v")
    result = train_transformer(config(base, shards, tmp_path, lora=LoraConfig(rank=2)), tmp_path / "run", CPU)
    assert load_lora(result.folder).ranks == (2,)
    name = "blocks.0.attn1.to_q.weight"
    merged, plain = (load_fitted(base, "cpu", Settings(), loras) for loras in ([LoraFile(result.folder)], []))
    assert not torch.equal(merged.transformer.get_parameter(name), plain.transformer.get_parameter(name))


def test_texts_are_those_of_generation_padding_included(checkpoint: Maker, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, base = checkpoint("t2v")
    wanted = with_base(config(base, shards, tmp_path))
    encoders = load_encoders(wanted.autoencoder, wanted.text_encoder, CPU)
    assert isinstance(encoders.text, OnDemandTextEncoder)
    reads, load = [], encoders.text._load
    monkeypatch.setattr(encoders.text, "_load", lambda: reads.append(1) or load())
    cache = open_cache(wanted.data.shards, wanted.data.cache, encoders, wanted.data.encode)
    assert len(reads) == 1  # read once for all captions, and let go
    assert encoders.text._kept is None
    job = TransformerTask(wanted, cache, first_transformer(wanted), encoders)
    batch = job.batch(0)
    assert batch.padded_to == 512
    said = Pipeline.load(base, "cpu").models.text_encoder.encode([CAPTION, "red ball"])
    lengths = said.mask.sum(1).tolist()
    for states, mask in zip(batch.states, batch.mask, strict=True):
        row = lengths.index(int(mask.sum()))
        torch.testing.assert_close(states[mask].float(), said.states[row][said.mask[row]].float(), atol=1e-2, rtol=1e-2)
    seen, _ = pack_loss(job.transformer, batch, generator(0))
    batch.__dict__["padded_to"] = None
    assert pack_loss(job.transformer, batch, generator(0))[0].item() != pytest.approx(seen.item(), rel=1e-4)


def test_other_text_encoders_have_other_caches(checkpoint: Maker, tmp_path: Path) -> None:
    _, base = checkpoint("t2v")
    first = load_encoders(base / "vae", base, CPU).functions().identity
    assert first == load_encoders(base / "vae", base, CPU).functions().identity
    other = tmp_path / "other"
    for part in ("text_encoder", "tokenizer"):
        (other / part).mkdir(parents=True)
        for path in (base / part).iterdir():
            (other / part / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match=r"model_index\.json"):
        load_encoders(base / "vae", other, CPU)
    (other / "model_index.json").write_text((base / "model_index.json").read_text())
    assert load_encoders(base / "vae", other, CPU).functions().identity == first
    weights = next((other / "text_encoder").glob("*.safetensors"))
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(bytes(raw))
    assert load_encoders(base / "vae", other, CPU).functions().identity != first


def test_what_is_said_goes_before_the_base(checkpoint: Maker, shards: Path, tmp_path: Path) -> None:
    _, base = checkpoint("t2v")
    found = with_base(config(base, shards, tmp_path, init=tmp_path / "mine"))
    assert (found.init, found.autoencoder, found.text_encoder) == (tmp_path / "mine", base / "vae", base)


@pytest.mark.parametrize(("kind", "message"), [("a14b t2v", "two experts"), ("i2v", "animate pictures")])
def test_what_cannot_be_trained_is_told(checkpoint: Maker, shards: Path, tmp_path: Path, kind: str, message: str) -> None:
    _, base = checkpoint(kind)
    with pytest.raises(ConfigError, match=message):
        train_transformer(config(base, shards, tmp_path), tmp_path / "run", CPU)


def test_a_base_that_is_none_is_told(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        train_transformer(config(tmp_path / "none", shards, tmp_path), tmp_path / "run", CPU)
