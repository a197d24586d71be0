"""Tokens: every ASCII text can be spelled, what is lost is counted, and a saved tokenizer is the same one."""

import string
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.errors import CheckpointError, InputError
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary

PIECES = [
    "[PAD]",
    "[UNK]",
    "the",
    "ball",
    "red",
    "roll",
    "##s",
    "##ing",
    "mirror",
    "caf",
    "##e",
    *string.ascii_lowercase,
    *(f"##{c}" for c in string.ascii_lowercase),
]
WORDS = ["red ball", "rolling"]


SPELLER = PromptTokenizer(build_vocabulary(PIECES, WORDS, 160))


@pytest.fixture
def tokenizer() -> PromptTokenizer:
    return SPELLER


def test_required_words_keep_their_pieces(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.pieces("A red ball rolling") == ["[CLS]", "a", "red", "ball", "roll", "##ing"]


def test_unlisted_words_are_spelled_by_letters(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.pieces("zq") == ["[CLS]", "z", "##q"]


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet=string.printable, max_size=40))
def test_ascii_text_has_no_unknown_word(text: str) -> None:
    assert SPELLER.encode([text], 96).unknown == (0,)


def test_spans_point_at_the_text(tokenizer: PromptTokenizer) -> None:
    text = "The red  ball."
    assert [text[a:b] for a, b in tokenizer.spans(text)] == ["", "The", "red", "ball", "."]


def test_what_does_not_fit_is_counted(tokenizer: PromptTokenizer) -> None:
    tokens = tokenizer.encode(["red " * 10, "ball", "", "日本 ball"], 6)
    assert tokens.ids.shape == (4, 6)
    assert tokens.truncated == (5, 0, 0, 0)
    assert tokens.mask.sum(1).tolist() == [6, 2, 1, 4]
    assert tokens.unknown == (0, 0, 0, 2)
    assert torch.equal(tokens.ids[1, 2:], torch.zeros(4, dtype=torch.int64))


def test_no_prompt_is_refused(tokenizer: PromptTokenizer) -> None:
    with pytest.raises(InputError, match="0 prompts"):
        tokenizer.encode([], 8)


def test_saving_and_loading_gives_the_same_tokens(tokenizer: PromptTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = PromptTokenizer.load(tmp_path)
    assert again.vocabulary == tokenizer.vocabulary
    assert (
        again.pieces("Réd balls, rolling!") == tokenizer.pieces("Réd balls, rolling!") == ["[CLS]", "red", "ball", "##s", ",", "roll", "##ing", "!"]
    )


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        PromptTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read"):
        PromptTokenizer.load(tmp_path)


def test_a_vocabulary_has_its_size_and_no_piece_twice() -> None:
    vocabulary = build_vocabulary(PIECES, WORDS, 150)
    assert len(vocabulary) == len(set(vocabulary)) <= 150
    assert vocabulary[:3] == ["[PAD]", "[UNK]", "[CLS]"]
    with pytest.raises(InputError, match="too small"):
        build_vocabulary(PIECES, WORDS, 20)
