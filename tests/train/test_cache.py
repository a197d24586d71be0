"""Encoding with the frozen parts: identity, defaults, and what is copied into a model folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.captioners import tiny_captioner

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.data import CacheConfig as KeptConfig
from diorama.data import Sample, write_shard
from diorama.errors import CheckpointError, DataError
from diorama.text.encoder import CompactTextConfig, CompactTextEncoder
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary
from diorama.train.cache import CacheConfig, load_encoders, open_cache, write_cache

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a shard of one clip, two autoencoders and a text encoder."""
    folder = tmp_path_factory.mktemp("home")
    pixels = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)
    record = {"captions": {"dense": ["a red ball moves left"], "short": ["red ball"]}}
    write_shard(folder / "shards", 0, [Sample(key="clip", frames=pixels, fps=12.0, record=record)])
    for seed in (0, 1):
        torch.manual_seed(seed)
        Autoencoder(AutoencoderConfig(z_dim=4, widths=(8, 8, 8))).save(folder / f"vae{seed}")
    vocabulary = build_vocabulary(["[UNK]", "red", "ball", "left", "right"], ["red ball left right"], 170)
    text = CompactTextConfig(vocabulary_size=len(vocabulary), embedding_size=8, hidden_size=24, depth=1, num_heads=2, ffn_size=32, max_tokens=12)
    CompactTextEncoder(text, PromptTokenizer(vocabulary)).save(folder / "text")
    return folder


def test_the_cache_holds_what_the_encoders_give(home: Path, tmp_path: Path) -> None:
    encoders = load_encoders(home / "vae0", home / "text", CPU)
    cache = open_cache([home / "shards"], tmp_path, encoders, KeptConfig())
    assert cache.shape(0) == (4, 2, 2, 3)
    for variant, caption in ((0, "a red ball moves left"), (1, "a red ball moves right")):
        expected = encoders.text.encode([caption])
        kept = cache.text(0, variant, 0)
        torch.testing.assert_close(kept.states, expected.states[0][expected.mask[0]], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(kept.pooled, expected.pooled[0], rtol=1e-3, atol=1e-3)


def test_another_autoencoder_has_another_cache(home: Path, tmp_path: Path) -> None:
    first, second = (load_encoders(home / name, home / "text", CPU).functions().identity for name in ("vae0", "vae1"))
    assert first != second
    assert first == load_encoders(home / "vae0", home / "text", CPU).functions().identity


def test_another_decoder_keeps_the_cache(home: Path, tmp_path: Path) -> None:
    autoencoder = Autoencoder.load(home / "vae0")
    for name, changed in (("decoder", False), ("encoder", True)):
        weight = next(value for key, value in autoencoder.named_parameters() if key.startswith(f"{name}.") and value.ndim > 1)
        weight.data.mul_(0.5)
        autoencoder.save(tmp_path / name)
        first, second = (load_encoders(vae, home / "text", CPU).functions().identity for vae in (home / "vae0", tmp_path / name))
        assert (first != second) == changed


def test_the_parts_are_copied_byte_by_byte(home: Path, tmp_path: Path) -> None:
    load_encoders(home / "vae0", home / "text", CPU).export(tmp_path)
    for name, source in (("vae", home / "vae0"), ("text_encoder", home / "text" / "text_encoder"), ("tokenizer", home / "text" / "tokenizer")):
        for path in source.iterdir():
            assert (tmp_path / name / path.name).read_bytes() == path.read_bytes()


def test_a_place_that_cannot_be_written_is_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        load_encoders(home / "vae0", home / "text", CPU).export(tmp_path / "model")


def test_it_can_be_written_ahead_and_an_empty_set_is_refused(home: Path, tmp_path: Path) -> None:
    wanted = CacheConfig(shards=(home / "shards",), encode=KeptConfig(mirrored=False), autoencoder=home / "vae0", text_encoder=home / "text")
    assert write_cache(wanted, tmp_path, CPU).startswith("1 clips encoded in")
    empty = CacheConfig(shards=(tmp_path / "none",), autoencoder=home / "vae0", text_encoder=home / "text")
    with pytest.raises(DataError, match="empty"):
        write_cache(empty, tmp_path, CPU)


def test_captioners_beside_the_text_encoder_are_copied_with_it(home: Path, tmp_path: Path) -> None:
    load_encoders(home / "vae0", home / "text", CPU).export(tmp_path / "without")
    assert not list((tmp_path / "without").glob("captioner*"))
    shutil.copytree(home / "text", tmp_path / "text")
    for name in ("captioner", "captioner_2"):
        tiny_captioner().save(tmp_path / "text" / name)
    load_encoders(home / "vae0", tmp_path / "text", CPU).export(tmp_path / "with")
    assert {path.name for path in (tmp_path / "with").glob("captioner*")} == {"captioner", "captioner_2"}
