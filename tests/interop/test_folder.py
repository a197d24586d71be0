"""Folders of diffusers: read, written back, and every fault named with its tensor and shapes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from diorama import Pipeline, runtime
from diorama.autoencoder.config import AutoencoderConfig
from diorama.checkpoint import load_tensors, write_file
from diorama.errors import CheckpointError, ConfigError
from diorama.interop.folder import check_parts, defaults_of, open_folder
from diorama.interop.scheduler import SchedulerConfig
from diorama.transformer.config import TransformerConfig

pytestmark = pytest.mark.filterwarnings("ignore")
CPU = torch.device("cpu")
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def broken(checkpoint: Any, tmp_path: Path) -> Path:
    """Return a copy of a folder, to be broken."""
    copy = tmp_path / "model"
    shutil.copytree(checkpoint("t2v")[1], copy)
    return copy


@pytest.mark.parametrize("kind", ["t2v", "i2v", "a14b t2v", "a14b i2v", "ti2v"])
def test_written_back_it_opens_in_diffusers(kind: str, checkpoint: Any, diffusers: Any, tmp_path: Path) -> None:
    pipe, folder = checkpoint(kind)
    Pipeline.load(folder, "cpu", torch.float32).save(tmp_path / "ours")
    back = type(pipe).from_pretrained(tmp_path / "ours")
    assert {name for name, part in back.components.items() if part is not None} == {
        name for name, part in pipe.components.items() if part is not None
    }
    assert back.config.boundary_ratio == pipe.config.boundary_ratio
    assert back.config.expand_timesteps == pipe.config.expand_timesteps
    assert type(back.scheduler) is type(pipe.scheduler)
    assert back.scheduler.config.flow_shift == 3.0
    for name in ("transformer", "transformer_2", "vae", "text_encoder", "image_encoder"):
        part = getattr(pipe, name, None)
        if part is not None:
            assert all(torch.equal(value, getattr(back, name).state_dict()[key]) for key, value in part.state_dict().items())


@pytest.mark.parametrize("fast", [torch.bfloat16, torch.float32])
def test_a_model_is_read_in_the_format_asked_for(checkpoint: Any, fast: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "fast_dtype", lambda device: fast)  # a CPU that is fast at bf16, and one that is not
    folder = checkpoint("t2v")[1]
    half = open_folder(folder, CPU, torch.bfloat16)
    assert half.transformer.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16
    assert half.transformer.scale_shift_table.dtype == torch.float32
    assert half.autoencoder.decoder.conv_in.weight.dtype == torch.bfloat16
    assert half.autoencoder.latents_std.flatten().tolist() == pytest.approx([0.8, 1.5, 1.2, 0.9])
    clip = Pipeline.load(folder, "cpu", torch.bfloat16).generate("a red ball", size=(32, 32), num_frames=5, steps=2)
    assert clip.frames.shape == (5, 32, 32, 3)


def test_a_lost_tensor_is_named(broken: Path) -> None:
    tensors = load_tensors(broken / "transformer", stem="diffusion_pytorch_model")
    del tensors["blocks.1.attn2.to_k.bias"]
    write_file(broken / WEIGHTS, tensors)
    with pytest.raises(CheckpointError, match=r"lacks tensor 'blocks\.1\.attn2\.to_k\.bias' of shape \(24,\)"):
        open_folder(broken, CPU)


def test_a_tensor_of_another_shape_is_named(broken: Path) -> None:
    tensors = load_tensors(broken / "transformer", stem="diffusion_pytorch_model")
    write_file(broken / WEIGHTS, tensors | {"proj_out.weight": torch.zeros(4, 24)})
    with pytest.raises(CheckpointError, match=r"'proj_out\.weight' has shape \(4, 24\), expected \(16, 24\)"):
        open_folder(broken, CPU)


def test_a_truncated_file_names_the_tensor(broken: Path) -> None:
    path = broken / "vae/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"truncated: tensor '.+' of shape \(.*\) ends at byte \d+ and the file has \d+"):
        open_folder(broken, CPU)


def test_lost_parts_and_foreign_models_are_named(broken: Path) -> None:
    index = json.loads((broken / "model_index.json").read_text())
    for change, message in (
        ({"transformer": ["diffusers", "CogVideoXTransformer3DModel"]}, "a transformer of kind CogVideoXTransformer3DModel; allowed is Wan"),
        ({"vae": ["diffusers", "AutoencoderKLMochi"]}, "a vae of kind AutoencoderKLMochi"),
        ({"transformer_2": ["diffusers", "WanTransformer3DModel"]}, "lacks transformer_2"),
    ):
        (broken / "model_index.json").write_text(json.dumps(index | change))
        with pytest.raises(CheckpointError, match=message):
            Pipeline.load(broken, "cpu")
    (broken / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": 0.9}))
    with pytest.raises(ConfigError, match="both transformer_2 and boundary_ratio, or neither"):
        Pipeline.load(broken, "cpu")
    (broken / "model_index.json").write_text(json.dumps(index))
    shutil.rmtree(broken / "tokenizer")
    with pytest.raises(CheckpointError, match="lacks tokenizer"):
        Pipeline.load(broken, "cpu")
    (broken / "model_index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="one JSON object"):
        Pipeline.load(broken, "cpu")


def test_parts_of_two_checkpoints_are_told_apart(checkpoint: Any, broken: Path) -> None:
    ti2v, i2v = checkpoint("ti2v")[1], checkpoint("i2v")[1]
    shutil.rmtree(broken / "vae")
    shutil.copytree(ti2v / "vae", broken / "vae")
    config = json.loads((broken / "vae/config.json").read_text())
    assert open_folder(broken, CPU).autoencoder.config.is_residual, "as many channels: nothing tells them apart"
    assert config["z_dim"] == 4
    parts = open_folder(i2v, CPU)
    with pytest.raises(ConfigError, match="looks at pictures through an image_encoder"):
        check_parts(dataclasses.replace(parts, image_encoder=None), i2v)
    other = open_folder(broken, CPU).transformer
    with pytest.raises(ConfigError, match="take different latents"):
        check_parts(dataclasses.replace(parts, transformer_2=other, boundary=0.9), i2v)
    shutil.rmtree(broken / "transformer")
    shutil.copytree(i2v / "transformer", broken / "transformer")
    config = json.loads((broken / "transformer/config.json").read_text())
    tensors = load_tensors(broken / "transformer", stem="diffusion_pytorch_model")
    tensors["patch_embedding.weight"] = tensors["patch_embedding.weight"][:, :7]
    write_file(broken / WEIGHTS, tensors)
    (broken / "transformer/config.json").write_text(json.dumps(config | {"in_channels": 7}))
    with pytest.raises(ConfigError, match="7 channels in and 4 out, the autoencoder 4; allowed in are 4, or 12"):
        open_folder(broken, CPU)


def test_defaults_follow_the_checkpoint() -> None:
    wan = TransformerConfig(in_channels=16, out_channels=16, pooled_dim=None, coordinates="index", place=False)
    pictures = dataclasses.replace(wan, in_channels=36)
    unipc = SchedulerConfig(shift=5.0, shift_tokens=None, times="unipc")
    plain = defaults_of(wan, AutoencoderConfig.wan21(), unipc, experts=False)
    assert plain == {"size": (832, 480), "num_frames": 81, "fps": 16.0, "steps": 50, "guidance_scale": 5.0, "solver": "unipc"}
    assert defaults_of(pictures, AutoencoderConfig.wan21(), unipc, experts=True)["guidance_scale"] == 3.5
    two = defaults_of(wan, AutoencoderConfig.wan21(), unipc, experts=True)
    assert (two["guidance_scale"], two["guidance_scale_2"]) == (4.0, 3.0)
    small = defaults_of(wan, AutoencoderConfig.wan22(), unipc, experts=False)
    assert (small["size"], small["num_frames"], small["fps"]) == ((1280, 704), 121, 24.0)
