"""A whole model folder with random weights, small enough for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.pipeline.load import Models, SchedulerConfig, load_models, save_models
from diorama.text import Grammar
from diorama.text.encoder import CompactTextConfig, CompactTextEncoder
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary
from diorama.transformer.config import TransformerConfig
from diorama.transformer.model import Transformer

WORDS = {
    "size": {"small": ("small",)},
    "finish": {"shiny": ("shiny",)},
    "color": {"red": ("red",), "blue": ("blue",)},
    "shape": {"sphere": ("ball",), "box": ("cube",)},
    "motion": {motion: (f"{motion}s",) for motion in ("roll", "slide", "rest", "bounce")},
    "direction": {"left": ("to the left",), "right": ("to the right",)},
    "floor": {"wood": ("on a wooden floor",)},
    "light": {"day": ("by day",)},
    "camera": {"static": ("the camera stands still",)},
}


def tiny_models() -> Models:
    """Return a model of the default graph at a toy size; its output layer is not zero, so that every input matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vocabulary = build_vocabulary(["[UNK]", "red", "blue", "ball", "cube"], ["red blue ball cube"], 170)
        text = CompactTextConfig(vocabulary_size=len(vocabulary), embedding_size=8, hidden_size=24, depth=1, num_heads=2, ffn_size=32, max_tokens=12)
        transformer = Transformer(
            TransformerConfig(
                num_attention_heads=2,
                attention_head_dim=16,
                in_channels=4,
                out_channels=4,
                text_dim=24,
                freq_dim=16,
                ffn_dim=48,
                num_layers=2,
                pooled_dim=24,
            )
        )
        for parameter in transformer.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        return Models(
            transformer=transformer.eval().requires_grad_(False),
            autoencoder=Autoencoder(AutoencoderConfig(z_dim=4, widths=(8, 8, 8))).eval().requires_grad_(False),
            text_encoder=CompactTextEncoder(text, PromptTokenizer(vocabulary)).eval().requires_grad_(False),
            scheduler=SchedulerConfig(shift=2.0),
            device=torch.device("cpu"),
            grammar=Grammar(words=WORDS, paraphrases={"color": {"red": ("crimson",)}, "shape": {"sphere": ("orb",)}}),
        )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny model."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    save_models(tiny_models(), path)
    return path


@pytest.fixture(scope="session")
def models(folder: Path) -> Models:
    """Return the tiny model as read from its folder."""
    return load_models(folder, "cpu")
