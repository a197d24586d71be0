"""What a transformer is trained on, at a toy size: shards, an autoencoder and a text encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.data import Sample, write_shard
from diorama.data.coverage import coverage_record
from diorama.text.encoder import CompactTextConfig, CompactTextEncoder
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary
from diorama.transformer import TransformerConfig

MODEL = TransformerConfig(
    num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=24, freq_dim=16, ffn_dim=48, num_layers=2, pooled_dim=24
)
SIZES = ((5, 32, 32), (9, 32, 48), (1, 48, 32), (5, 32, 32))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with shards, an autoencoder and a text encoder."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    samples = []
    for i, (frames, height, width) in enumerate(SIZES):
        pixels = np.broadcast_to(rng.integers(0, 255, (1, height, width, 3), dtype=np.uint8), (frames, height, width, 3))
        instances = torch.zeros(frames, height, width, dtype=torch.uint8)
        instances[:, 16:, :16] = 1
        record = {
            "captions": {"dense": [f"a red ball moves left {i}"], "short": ["red ball"]},
            "coverage": coverage_record(instances),
            "scene": {"bodies": [{"shape": "sphere", "color": "red", "motion": "roll"}], "camera": {"move": "pan_left"}},
        }
        samples.append(Sample(key=f"clip{i}", frames=np.ascontiguousarray(pixels), fps=12.0, record=record))
    write_shard(folder / "shards", 0, samples)
    torch.manual_seed(0)
    Autoencoder(AutoencoderConfig(z_dim=4, widths=(8, 8, 8))).save(folder / "vae")
    vocabulary = build_vocabulary(["[UNK]", "red", "ball", "left", "right"], ["red ball left right"], 170)
    text = CompactTextConfig(vocabulary_size=len(vocabulary), embedding_size=8, hidden_size=24, depth=1, num_heads=2, ffn_size=32, max_tokens=12)
    CompactTextEncoder(text, PromptTokenizer(vocabulary)).save(folder / "text")
    (folder / "text" / "text_encoder" / "note.json").write_text("{}")
    return folder
