"""The compact encoder: padding does not matter, the empty prompt is valid, files round-trip."""

import json
from pathlib import Path

import pytest
import torch

from diorama.errors import CheckpointError, ConfigError
from diorama.text.encoder import CompactTextConfig, CompactTextEncoder, load_text_encoder
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary

VOCABULARY = build_vocabulary(["[UNK]", "red", "blue", "ball", "cube", "rolls", *"abcdefghijklmnopqrstuvwxyz"], ["red blue ball cube rolls"], 170)
CONFIG = CompactTextConfig(vocabulary_size=len(VOCABULARY), embedding_size=8, hidden_size=24, depth=2, num_heads=2, ffn_size=32, max_tokens=12)


@pytest.fixture(scope="module")
def encoder() -> CompactTextEncoder:
    torch.manual_seed(0)
    return CompactTextEncoder(CONFIG, PromptTokenizer(VOCABULARY)).requires_grad_(False)


def test_shapes_types_and_mask(encoder: CompactTextEncoder) -> None:
    found = encoder.encode(["red ball", "a blue cube rolls"])
    assert found.states.shape == (2, 5, encoder.width)
    assert found.pooled.shape == (2, encoder.width)
    assert found.states.dtype == found.pooled.dtype == torch.float32
    assert found.mask.tolist() == [[True, True, True, False, False], [True] * 5]
    assert not found.states[0, 3:].any()
    assert not found.states.requires_grad


def test_a_prompt_is_encoded_alike_alone_and_beside_a_longer_one(encoder: CompactTextEncoder) -> None:
    alone, beside = encoder.encode(["red ball"]), encoder.encode(["red ball", "blue cube rolls red ball rolls"])
    torch.testing.assert_close(beside.states[:1, :3], alone.states)
    torch.testing.assert_close(beside.pooled[:1], alone.pooled)


def test_the_empty_prompt_has_a_state(encoder: CompactTextEncoder) -> None:
    found = encoder.encode([""])
    assert found.mask.tolist() == [[True]]
    assert found.states.isfinite().all()
    torch.testing.assert_close(found.pooled.square().mean(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_word_order_matters(encoder: CompactTextEncoder) -> None:
    one, other = encoder.encode(["red ball blue cube"]), encoder.encode(["blue ball red cube"])
    assert (one.pooled - other.pooled).abs().max() > 1e-3
    assert (one.states[0, 2] - other.states[0, 2]).abs().max() > 1e-3


def test_long_prompts_keep_their_start_and_say_what_was_left_out(encoder: CompactTextEncoder) -> None:
    long = encoder.encode(["red " * 30])
    assert long.truncated == (19,)
    assert torch.equal(long.states, encoder.encode(["red " * 11]).states)


def test_saving_and_loading_gives_the_same_states_and_leaves_the_random_state(encoder: CompactTextEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    before = torch.random.get_rng_state()
    again = load_text_encoder(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert again.config == CONFIG
    torch.testing.assert_close(again.encode(["red cube"]).states, encoder.encode(["red cube"]).states, atol=2e-2, rtol=0)
    assert again.embedding.weight.dtype == torch.float32
    assert json.loads((tmp_path / "text_encoder" / "config.json").read_text())["hidden_size"] == 24


def test_a_tokenizer_of_another_model_is_refused(encoder: CompactTextEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    PromptTokenizer(VOCABULARY[:-1]).save(tmp_path / "tokenizer")
    with pytest.raises(CheckpointError, match="use a pair"):
        load_text_encoder(tmp_path)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 2 x num_heads"):
        CompactTextConfig(hidden_size=30, num_heads=4)
    with pytest.raises(ConfigError, match="depth is 0"):
        CompactTextConfig(depth=0)


def test_it_can_be_trained(encoder: CompactTextEncoder) -> None:
    student = CompactTextEncoder(CONFIG, encoder.tokenizer)
    tokens = student.tokenize(["red ball", "blue cube rolls"])
    states, pooled = student(tokens.ids, tokens.mask)
    (states.square().sum() * 0.1 + pooled.sum()).backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
