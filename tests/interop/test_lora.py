"""LoRA files against peft and diffusers, on tiny random models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diorama.checkpoint import load_file, write_file
from diorama.errors import CheckpointError, InputError
from diorama.interop.lora import Change, Lora, LoraFile, load_lora, merge_lora, parse_lora, save_lora
from diorama.transformer import Transformer, TransformerConfig

SIZES: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
}
TARGETS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
TARGETS = (*TARGETS, "ffn.net.0.proj", "ffn.net.2")


def tiny() -> Transformer:
    torch.manual_seed(1)
    model = Transformer(TransformerConfig(**SIZES, pooled_dim=None, coordinates="index", place=False)).requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.2)
    return model


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def random_lora(rank: int = 3, seed: int = 0, scale: float = 0.5) -> Lora:
    generator, model, changes = torch.Generator().manual_seed(seed), tiny(), {}
    for i in range(SIZES["num_layers"]):
        for target in TARGETS:
            out, into = model.get_parameter(f"blocks.{i}.{target}.weight").shape
            down, up = torch.randn(rank, into, generator=generator), torch.randn(out, rank, generator=generator)
            changes[f"blocks.{i}.{target}"] = Change(down=down, up=up, scale=scale)
    return Lora(changes=changes)


def merged(lora: Lora, scale: float = 1.0) -> dict[str, Tensor]:
    model = tiny()
    merge_lora(model, lora, scale)
    return weights(model)


def close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def wan() -> Callable[[], Any]:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("peft", reason="peft is not installed")

    def make() -> Any:
        model = diffusers.WanTransformer3DModel(**SIZES, cross_attn_norm=True, rope_max_seq_len=32)
        model.load_state_dict(weights(tiny()))
        return model

    return make


def with_random_lora(model: Any, **settings: Any) -> Any:
    from peft import LoraConfig

    config = LoraConfig(**{"r": 3, "lora_alpha": 2, "target_modules": list(TARGETS), "init_lora_weights": False, **settings})
    torch.manual_seed(3)
    model.add_adapter(config)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "r": 4},
        {"alpha_pattern": {"ffn.net.2": 7}, "rank_pattern": {"attn1.to_q": 1}},
        {"target_modules": ["to_q", "proj_out"]},
    ],
    ids=["plain", "rslora", "patterns", "outside"],
)
def test_diffusers_files_merge_as_peft_merges_them(wan: Callable[[], Any], settings: dict[str, Any], tmp_path: Path) -> None:
    model = with_random_lora(wan(), **settings)
    model.save_lora_adapter(tmp_path, safe_serialization=True)
    lora = load_lora(tmp_path)
    model.fuse_lora()
    model.unload_lora()
    close(merged(lora), weights(model))
    assert any(not torch.equal(value, weights(tiny())[name]) for name, value in weights(model).items())


def test_peft_folders_merge_as_peft_merges_them(wan: Callable[[], Any], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(4)
    model = get_peft_model(wan(), LoraConfig(r=2, lora_alpha=5, target_modules=list(TARGETS), init_lora_weights=False))
    model.save_pretrained(tmp_path)
    close(merged(load_lora(tmp_path)), weights(model.merge_and_unload()))


@pytest.mark.parametrize("naming", ["diffusers", "kohya"])
def test_diffusers_reads_what_we_write(wan: Callable[[], Any], naming: Any, tmp_path: Path) -> None:
    from diffusers import WanPipeline

    lora = random_lora()
    save_lora(lora, tmp_path, naming=naming)
    model = wan()
    pipeline = WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=None, transformer=model)
    pipeline.load_lora_weights(tmp_path)
    pipeline.fuse_lora(components=["transformer"])
    pipeline.unload_lora_weights()
    close(weights(model), merged(lora))


@pytest.mark.parametrize("naming", ["diffusers", "kohya"])
def test_round_trip(naming: Any, tmp_path: Path) -> None:
    lora = random_lora()
    file = save_lora(lora, tmp_path / "style.safetensors", naming=naming, metadata={"note": "here"})
    assert load_file(file)[1]["note"] == "here"
    again = load_lora(file)
    assert again.changes.keys() == lora.changes.keys()
    assert again.ranks == (3,)
    close(merged(again), merged(lora))


def original(naming: str, *, alpha: bool) -> dict[str, Tensor]:
    """Return ``random_lora`` as other tools write it: dots behind ``diffusion_model.``, or flattened."""
    theirs = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o", "net.0.proj": "0", "net.2": "2"}
    tensors = {}
    for module, change in random_lora().changes.items():
        _, block, part, layer = module.split(".", 3)
        name = f"blocks.{block}.{ {'attn1': 'self_attn', 'attn2': 'cross_attn', 'ffn': 'ffn'}[part] }.{theirs[layer]}"
        name = f"lora_unet_{name.replace('.', '_')}" if naming == "flat" else f"diffusion_model.{name}"
        down, up = ("lora_A", "lora_B") if naming == "dots" else ("lora_down", "lora_up")
        assert change.down is not None
        assert change.up is not None
        tensors |= {f"{name}.{down}.weight": change.down, f"{name}.{up}.weight": change.up}
        if alpha:
            tensors[f"{name}.alpha"] = torch.tensor(change.scale * len(change.down))
    return tensors


@pytest.mark.parametrize("naming", ["flat", "dots", "dots-down"])
@pytest.mark.parametrize("alpha", [True, False], ids=["alpha", "no-alpha"])
def test_original_and_kohya_names(naming: str, alpha: bool, tmp_path: Path) -> None:
    write_file(tmp_path / "a.safetensors", original(naming, alpha=alpha))
    close(merged(load_lora(tmp_path)), merged(random_lora(scale=0.5 if alpha else 1.0)))


def test_whole_tensors_and_biases_are_added(tmp_path: Path) -> None:
    tensors = {
        "diffusion_model.blocks.0.norm3.diff": torch.full((24,), 0.25),
        "diffusion_model.blocks.1.self_attn.q.diff_b": torch.full((24,), 0.5),
        "diffusion_model.blocks.1.self_attn.norm_k.diff": torch.full((24,), -1.0),
        "diffusion_model.patch_embedding.diff": torch.ones(24, 4, 1, 2, 2),
        "diffusion_model.time_projection.1.lora_down.weight": torch.ones(2, 24),
        "diffusion_model.time_projection.1.lora_up.weight": torch.ones(144, 2),
    }
    write_file(tmp_path / "a.safetensors", tensors)
    lora = load_lora(tmp_path / "a.safetensors")
    before, found = weights(tiny()), merged(lora, 2.0)
    changed = {name: found[name] - value for name, value in before.items() if not torch.equal(found[name], value)}
    wanted = {
        "blocks.0.norm2.weight": 0.5,
        "blocks.1.attn1.to_q.bias": 1.0,
        "blocks.1.attn1.norm_k.weight": -2.0,
        "patch_embedding.weight": 2.0,
        "condition_embedder.time_proj.weight": 4.0,
    }
    assert changed.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(changed[name], torch.full_like(changed[name], value), atol=1e-5, rtol=0)
    close(merged(load_lora(save_lora(lora, tmp_path / "b.safetensors", naming="kohya"))), merged(lora))
    with pytest.raises(InputError, match="whole tensor"):
        save_lora(lora, tmp_path / "c.safetensors")


def test_scales_multiply_and_merging_can_be_undone() -> None:
    lora, before = random_lora(), weights(tiny())
    close(merged(lora.scaled(0.5), 2.0), merged(lora))
    close(merged(lora, 0.0), before)
    model = tiny()
    merge_lora(model, lora, 0.7)
    merge_lora(model, lora, -0.7)
    close(weights(model), before)
    with pytest.raises(InputError, match="finite"):
        lora.scaled(float("nan"))


def test_half_weights_are_rounded_once() -> None:
    lora, half = random_lora(), tiny().bfloat16()
    before = weights(half)
    merge_lora(half, lora)
    name = "blocks.0.attn1.to_q"
    delta = lora.changes[name].delta()
    assert delta is not None
    assert torch.equal(half.get_parameter(f"{name}.weight"), (before[f"{name}.weight"].float() + delta).bfloat16())


def test_a_lora_for_another_model_changes_nothing() -> None:
    model = tiny()
    before = weights(model)
    good = random_lora().changes
    for extra, message in (
        ({"blocks.2.attn1.to_q": good["blocks.0.attn1.to_q"]}, r"changes module 'blocks\.2\.attn1\.to_q', which this transformer lacks"),
        (
            {"proj_out": Change(down=torch.ones(2, 9), up=torch.ones(16, 2))},
            r"change of 'proj_out\.weight' has shape \(16, 9\), expected \(16, 24\)",
        ),
        ({"blocks.0.attn1.norm_q": Change(bias=torch.ones(24))}, r"'blocks\.0\.attn1\.norm_q\.bias' has shape \(24,\), expected none"),
    ):
        with pytest.raises(CheckpointError, match=message):
            merge_lora(model, Lora(changes={**good, **extra}))
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_damaged_files_are_told_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    pair = {"transformer.proj_out.lora_A.weight": torch.ones(2, 24), "transformer.proj_out.lora_B.weight": torch.ones(16, 2)}
    for tensors, message in (
        ({"transformer.proj_out.lora_A.weight": torch.ones(2, 24)}, r"lacks tensor 'proj_out\.lora_B' beside its lora_A"),
        ({**pair, "transformer.proj_out.lora_A.weight": torch.ones(3, 24)}, r"lora_A of shape \(3, 24\) and lora_B of shape \(16, 2\)"),
        ({**pair, "transformer.proj_out.weight": torch.ones(1)}, r"tensor 'transformer\.proj_out\.weight', which is no part of a LoRA"),
        ({**pair, "lora_unet_blocks_0_elf_attn_q.alpha": torch.ones(1)}, r"module is not in the Wan graph; did you mean 'self_attn_q'"),
        ({**pair, "transformer_2.proj_out.lora_A.weight": torch.ones(2, 24)}, "two experts"),
    ):
        write_file(file, tensors)
        with pytest.raises(CheckpointError, match=message):
            load_lora(file)
    write_file(file, pair, {"lora_adapter_metadata": json.dumps({"transformer.use_dora": True})})
    with pytest.raises(CheckpointError, match="DoRA"):
        load_lora(file)
    write_file(file, pair, {"lora_adapter_metadata": "{"})
    with pytest.raises(CheckpointError, match="settings of LoRA"):
        load_lora(file)
    write_file(tmp_path / "b.safetensors", pair)
    with pytest.raises(CheckpointError, match="holds 2 safetensors files"):
        load_lora(tmp_path)
    (tmp_path / "c.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_lora(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="is missing"):
        load_lora(tmp_path / "none.safetensors")


def test_a_file_of_both_experts_is_read_one_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "both.safetensors"
    tensors = {
        f"{expert}.proj_out.lora_{part}.weight": torch.full(shape, value)
        for expert, value in (("transformer", 1.0), ("transformer_2", 2.0))
        for part, shape in (("A", (2, 24)), ("B", (16, 2)))
    }
    write_file(file, tensors)
    for expert, value in (("high", 2.0), ("low", 8.0)):
        delta = load_lora(file, expert).changes["proj_out"].delta()  # type: ignore[arg-type]
        assert delta is not None
        assert delta.unique().tolist() == [value]
    with pytest.raises(CheckpointError, match="each of two experts"):
        load_lora(file)
    write_file(file, {key: value for key, value in tensors.items() if "_2" in key})
    assert not load_lora(file, "high").changes
    assert load_lora(file, "low").changes.keys() == load_lora(file).changes.keys() == {"proj_out"}
    write_file(file, {key: value for key, value in tensors.items() if "_2" not in key})
    assert load_lora(file, "low").changes  # a file for one transformer says nothing of experts


def test_our_own_modules_have_no_kohya_name(tmp_path: Path) -> None:
    lora = Lora(changes={"place_embedder": Change(down=torch.ones(1, 2), up=torch.ones(2, 1))})
    with pytest.raises(InputError, match="no name in the Wan graph"):
        save_lora(lora, tmp_path, naming="kohya")
    assert load_lora(save_lora(lora, tmp_path)).changes.keys() == {"place_embedder"}


def test_the_command_lines_words(tmp_path: Path) -> None:
    assert parse_lora("a/b.safetensors") == LoraFile(Path("a/b.safetensors"))
    assert parse_lora("b.safetensors:0.5") == LoraFile(Path("b.safetensors"), 0.5)
    assert parse_lora("b.safetensors:-1") == LoraFile(Path("b.safetensors"), -1.0)
    assert parse_lora("b.safetensors:0.5:low") == LoraFile(Path("b.safetensors"), 0.5, "low")
    assert parse_lora("b.safetensors:high") == LoraFile(Path("b.safetensors"), 1.0, "high")
    assert parse_lora("c:style") == LoraFile(Path("c:style"))
    for name in ("odd:2", "odd:low"):
        odd = tmp_path / name
        odd.mkdir()
        assert parse_lora(str(odd)) == LoraFile(odd)
    for text in ("", ":2", ":high", "a.safetensors:inf"):
        with pytest.raises(InputError, match="write FILE, FILE:scale or"):
            parse_lora(text)
