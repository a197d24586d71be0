"""LoRA training: a small transformer, and the real loop over the real task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.train.conftest import MODEL

from diorama.checkpoint import load_file, load_tensors
from diorama.config import load_toml
from diorama.data import PackConfig
from diorama.errors import ConfigError
from diorama.interop.lora import load_lora, merge_lora
from diorama.train.loop import LoopConfig
from diorama.train.lora import Adapter, LoraConfig
from diorama.train.transformer import ClipData, SampleConfig, TransformerTrainConfig, train_transformer
from diorama.transformer import Transformer

CPU = torch.device("cpu")


def model() -> Transformer:
    transformer = Transformer(MODEL).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in transformer.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return transformer


def learnt(transformer: Transformer, config: LoraConfig | None = None) -> Adapter:
    adapter, generator = Adapter(transformer, config or LoraConfig(rank=3, alpha=2.0)), torch.Generator().manual_seed(2)
    for parameter in adapter.lora_B.values():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapter


def velocity(transformer: Transformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    latents = [torch.randn(4, 2, 3, 4, generator=generator), torch.randn(4, 1, 2, 2, generator=generator)]
    text = transformer.encode_text(torch.randn(2, 5, 24, generator=generator), None, torch.randn(2, 24, generator=generator))
    return transformer(transformer.pack(latents, [0.3, 0.8]), text)


def test_a_fresh_adapter_adds_nothing_and_comes_off_again() -> None:
    transformer = model()
    plain = velocity(transformer)
    for handle in Adapter(transformer, LoraConfig()).attach(transformer):
        handle.remove()
    assert torch.equal(velocity(transformer), plain)
    Adapter(transformer, LoraConfig()).attach(transformer)
    assert torch.equal(velocity(transformer), plain)
    handles = learnt(transformer).attach(transformer)
    assert not torch.allclose(velocity(transformer), plain, atol=1e-2)
    for handle in handles:
        handle.remove()
    assert torch.equal(velocity(transformer), plain)


def test_beside_the_layers_is_the_same_as_merged_outputs_and_gradients() -> None:
    transformer, merged = model(), model()
    adapter = learnt(transformer)
    adapter.attach(transformer)
    merge_lora(merged, adapter.lora())
    beside, inside = velocity(transformer), velocity(merged.requires_grad_(True))
    torch.testing.assert_close(beside, inside, atol=1e-4, rtol=1e-4)
    beside.square().sum().backward()
    inside.square().sum().backward()
    for key, down in adapter.lora_A.items():
        gradient = merged.get_parameter(f"{key.replace('/', '.')}.weight").grad
        assert gradient is not None
        wanted = adapter.config.scale * adapter.lora_B[key].detach().T @ gradient
        torch.testing.assert_close(down.grad, wanted, atol=1e-3, rtol=1e-3, msg=lambda text, key=key: f"{key}: {text}")


def test_targets_choose_layers_and_unknown_ones_are_named() -> None:
    transformer = model()
    assert set(Adapter(transformer, LoraConfig(targets=("attn1.to_q", "proj_out"))).lora_A) == {
        "blocks/0/attn1/to_q",
        "blocks/1/attn1/to_q",
        "proj_out",
    }
    assert len(Adapter(transformer, LoraConfig()).lora_A) == 2 * (8 + 2)
    with pytest.raises(ConfigError, match="names 'to_x' and no layer's name ends so"):
        Adapter(transformer, LoraConfig(targets=("to_q", "to_x")))
    for wrong in ({"rank": 0}, {"targets": ()}, {"alpha": 0.0}, {"alpha": float("inf")}):
        with pytest.raises(ConfigError, match=r"lora\."):
            LoraConfig(**wrong)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a transformer's folder."""
    folder = tmp_path_factory.mktemp("start")
    model().save(folder)
    return folder


def train(home: Path, start: Path, folder: Path, steps: int, accumulate: int = 1) -> Path:
    config = TransformerTrainConfig(
        data=ClipData(shards=(home / "shards",), cache=home / "latents", pack=PackConfig(tokens=48)),
        train=LoopConfig(steps=steps, warmup=0, log_steps=1, sample_steps=4, ema_decay=0.0, accumulate=accumulate),
        sample=SampleConfig(prompts=("red ball",), width=32, height=48, num_frames=5, steps=2),
        init=start,
        lora=LoraConfig(rank=2, alpha=4.0),
        autoencoder=home / "vae",
        text_encoder=home / "text",
    )
    return train_transformer(config, folder, CPU).folder


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_only_the_lora_is_trained_and_saved_and_it_resumes_bit_equal(home: Path, start: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    export = train(home, start, whole, 6)
    train(home, start, parts, 3)
    again = train(home, start, parts, 6)
    assert losses(whole) == losses(parts)
    assert sorted(path.name for path in export.iterdir()) == ["pytorch_lora_weights.safetensors"]
    first, second = (load_file(folder / "pytorch_lora_weights.safetensors")[0] for folder in (export, again))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert len(first) == 2 * 2 * (8 + 2)
    assert any(value.abs().max() > 0 for name, value in first.items() if "lora_B" in name)
    kept = load_tensors(whole / "checkpoints" / "step-00000006")
    assert all("lora_" in name for name in kept)
    assert (whole / "samples" / "step-00000004" / "0.png").is_file()
    before, after = velocity(Transformer.load(start)), Transformer.load(start)
    merge_lora(after, load_lora(export))
    assert not torch.allclose(velocity(after), before, atol=1e-4)


def test_batches_side_by_side_are_as_one_after_the_other(home: Path, start: Path, tmp_path: Path) -> None:
    train(home, start, tmp_path / "alone", 3, accumulate=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(home, start, tmp_path / "beside", 3, accumulate=2)
    finally:
        torch.set_num_threads(threads)
    assert losses(tmp_path / "beside") == pytest.approx(losses(tmp_path / "alone"), rel=1e-3)


def test_the_command_line_turns_it_on(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[data]\nshards = ["shards"]\n')
    read = load_toml(TransformerTrainConfig, tmp_path / "a.toml", ["--lora.rank", "8", "--lora.alpha", "4"])
    assert read.lora == LoraConfig(rank=8, alpha=4.0)
    assert load_toml(TransformerTrainConfig, tmp_path / "a.toml").lora is None
