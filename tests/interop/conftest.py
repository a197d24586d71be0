"""Tiny Wan models of every published kind, with random weights, as diffusers' own pipelines write them."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = ["a", "red", "ball", "bounces", "past", "blue", "cube", "the", "camera", "orbits", "left", "slowly", "and"]
TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 40,
    "num_layers": 2,
}
VAE: dict[str, Any] = {"base_dim": 4, "z_dim": 4, "latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [0.8, 1.5, 1.2, 0.9]}
VAE_22: dict[str, Any] = VAE | {
    "decoder_base_dim": 6,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}
PICTURES = {"in_channels": 12}
CLIP = {"image_dim": 10, "added_kv_proj_dim": 24}
KINDS: dict[str, dict[str, Any]] = {
    "t2v": {},
    "i2v": {"transformer": PICTURES | CLIP},
    "flf2v": {"transformer": PICTURES | CLIP | {"pos_embed_seq_len": 10}},
    "a14b t2v": {"experts": True, "boundary_ratio": 0.875},
    "a14b i2v": {"transformer": PICTURES, "experts": True, "boundary_ratio": 0.9},
    "ti2v": {"vae": VAE_22, "expand_timesteps": True},
}
"""What tells the published checkpoints apart."""


@pytest.fixture(scope="session")
def diffusers() -> Any:
    """Return the package, or skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("diffusers", reason="diffusers is not installed (extra dev)")


def tokenizer() -> Any:
    """Return a tokenizer of a few words, as transformers wraps it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def shaken(model: torch.nn.Module, seed: int, std: float = 0.15) -> Any:
    """Return a model with every parameter random, so that nothing hides behind a zero."""
    g = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" not in name and not name.endswith("gamma"):
            parameter.data.add_(std * torch.randn(parameter.shape, generator=g))
    return model.eval().requires_grad_(False)


def make_pipeline(diffusers: Any, kind: str, scheduler: str = "UniPCMultistepScheduler", **changes: Any) -> Any:
    """Return diffusers' pipeline of a tiny checkpoint of a published kind."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    what = KINDS[kind]
    config = TRANSFORMER | what.get("transformer", {}) | changes
    torch.manual_seed(0)
    text = UMT5Config(vocab_size=len(WORDS) + 3, d_model=config["text_dim"], d_kv=8, d_ff=20, num_layers=2, num_heads=2, dropout_rate=0.0)
    flow: dict[str, Any] = {"flow_shift": 3.0, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    parts: dict[str, Any] = {
        "tokenizer": tokenizer(),
        "text_encoder": UMT5EncoderModel(text).eval(),
        "vae": shaken(diffusers.AutoencoderKLWan(**what.get("vae", VAE)), 1, 0.05),
        "scheduler": getattr(diffusers, scheduler)(**(flow if scheduler.startswith("UniPC") else {"shift": 3.0})),
        "transformer": shaken(diffusers.WanTransformer3DModel(**config), 2),
    }
    if what.get("experts"):
        parts |= {"transformer_2": shaken(diffusers.WanTransformer3DModel(**config), 3), "boundary_ratio": what["boundary_ratio"]}
    if config["in_channels"] == config["out_channels"]:
        return diffusers.WanPipeline(**parts, expand_timesteps=what.get("expand_timesteps", False))
    if "image_dim" in config:
        vision = CLIPVisionConfig(
            hidden_size=10, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2, patch_size=4, image_size=8, hidden_act="gelu"
        )
        parts |= {
            "image_encoder": shaken(CLIPVisionModel(vision), 4),
            "image_processor": CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}),
        }
    return diffusers.WanImageToVideoPipeline(**parts)


@pytest.fixture(scope="session")
def original_names() -> Any:
    """Return the module that names weights as the Wan repositories do."""
    spec = importlib.util.spec_from_file_location("original_names", Path(__file__).with_name("original_names.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> dict[str, dict[str, Any]]:
    """Return the configs of a tiny transformer and of both tiny autoencoders."""
    return {"transformer": TRANSFORMER, "vae": VAE, "vae 2.2": VAE_22}


Maker = Callable[..., tuple[Any, Path]]


@pytest.fixture(scope="session")
def checkpoint(diffusers: Any, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Return a function from a kind to diffusers' pipeline and the folder it wrote; each is made once."""
    made: dict[tuple[str, str], tuple[Any, Path]] = {}

    def make(kind: str, scheduler: str = "UniPCMultistepScheduler") -> tuple[Any, Path]:
        if (kind, scheduler) not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pipe = make_pipeline(diffusers, kind, scheduler)
                folder = tmp_path_factory.mktemp("wan")
                pipe.save_pretrained(folder)
            pipe.set_progress_bar_config(disable=True)
            made[kind, scheduler] = pipe, folder
        return made[kind, scheduler]

    return make
