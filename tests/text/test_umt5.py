"""The UMT5 adapter, on tiny random models."""

from pathlib import Path

import pytest
import torch

from diorama.errors import CheckpointError, InputError, MissingExtraError
from diorama.text.states import TextEncoder
from diorama.text.umt5 import Umt5TextEncoder, load_umt5

transformers = pytest.importorskip("transformers", reason="the extra 'hub' is not installed")


def make_encoder(max_tokens: int = 8) -> Umt5TextEncoder:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "red", "blue", "ball", "cube"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    torch.manual_seed(0)
    config = transformers.UMT5Config(vocab_size=7, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return Umt5TextEncoder(transformers.UMT5EncoderModel(config), fast, max_tokens)


def test_it_gives_the_same_kind_of_states() -> None:
    encoder: TextEncoder = make_encoder()
    found = encoder.encode(["red ball", "a blue cube ball", ""])
    assert found.states.shape == (3, 5, encoder.width) == (3, 5, 16)
    assert found.mask.sum(1).tolist() == [3, 5, 1]
    assert not found.states[0, 3:].any()
    assert found.unknown == (0, 1, 0)
    alone = encoder.encode(["red ball"])
    torch.testing.assert_close(alone.states, found.states[:1, :3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone.pooled[0], alone.states[0].mean(0))


def test_long_prompts_say_what_was_left_out() -> None:
    found = make_encoder(4).encode(["red blue ball cube red", "red"])
    assert found.truncated == (2, 0)
    assert found.mask.sum(1).tolist() == [4, 2]


def test_no_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="0 prompts"):
        make_encoder().encode([])


def test_a_folder_is_read_back(tmp_path: Path) -> None:
    encoder = make_encoder()
    encoder.model.save_pretrained(tmp_path / "text_encoder")
    encoder.tokenizer.save_pretrained(tmp_path / "tokenizer")
    again = load_umt5(tmp_path, dtype=torch.float32, max_tokens=8)
    torch.testing.assert_close(again.encode(["red cube"]).states, encoder.encode(["red cube"]).states)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_umt5(tmp_path)


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"diorama\[hub\]"):
        load_umt5(tmp_path)
