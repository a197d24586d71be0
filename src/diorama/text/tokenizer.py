"""A small word-piece vocabulary: whole common words, and pieces down to single letters for the rest.

The pieces are a subset of a teacher's, so that both cut most words alike and states can be compared token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from diorama.checkpoint import write_text
from diorama.errors import CheckpointError, InputError

__all__ = ["PromptTokenizer", "Tokens", "build_vocabulary"]

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]")
_CHARACTERS = "".join(chr(code) for code in range(33, 127) if not chr(code).isupper())


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Prompts as numbers, padded with 0."""

    ids: Tensor
    """``[B, M]`` int64."""
    mask: Tensor
    """``[B, M]`` bool."""
    truncated: tuple[int, ...]
    """Tokens left out of each prompt."""
    unknown: tuple[int, ...]
    """Unknown words in each prompt."""


class PromptTokenizer:
    """Text to token ids: lower case, no accents, a start token, then word pieces."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """Make a tokenizer.

        Args:
            vocabulary: Pieces by id, as ``build_vocabulary`` gives them.
        """
        ids = {piece: i for i, piece in enumerate(vocabulary)}
        self._tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()
        self._tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", ids["[CLS]"])])

    @classmethod
    def load(cls, folder: Path) -> PromptTokenizer:
        """Read ``tokenizer.json``.

        Raises:
            CheckpointError: the file is missing or is no tokenizer.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"tokenizer file {path} is missing; copy or download the model folder again")
        made = cls.__new__(cls)
        try:
            made._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"tokenizer file {path} cannot be read ({error}); copy or download the model folder again") from error
        return made

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``.

        Raises:
            CheckpointError: the place is not writable.
        """
        write_text(folder / "tokenizer.json", self._tokenizer.to_str())

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def vocabulary(self) -> list[str]:
        """Pieces by id."""
        ids = self._tokenizer.get_vocab()
        return sorted(ids, key=lambda piece: int(ids[piece]))

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return the character range of every token; the start token's is (0, 0)."""
        return [(int(start), int(end)) for start, end in self._tokenizer.encode(prompt).offsets]

    def pieces(self, prompt: str) -> list[str]:
        """Return the tokens as text."""
        return [str(token) for token in self._tokenizer.encode(prompt).tokens]

    def encode(self, prompts: Sequence[str], max_tokens: int) -> Tokens:
        """Turn prompts into ids; of a longer prompt the first ``max_tokens`` stay and the rest is counted.

        Args:
            prompts: At least one.
            max_tokens: Limit with the start token, at least 1.

        Raises:
            InputError: there is no prompt.
        """
        if not prompts:
            raise InputError("0 prompts cannot be encoded; give at least 1, an empty one for none")
        rows = [[int(i) for i in row.ids] for row in self._tokenizer.encode_batch(list(prompts))]
        unknown_id = self._tokenizer.token_to_id("[UNK]")
        width = min(max_tokens, max(len(row) for row in rows))
        ids = torch.zeros(len(rows), width, dtype=torch.int64)
        for line, row in zip(ids, rows, strict=True):
            line[: len(row[:width])] = torch.tensor(row[:width])
        lengths = torch.tensor([min(len(row), width) for row in rows])
        return Tokens(
            ids=ids,
            mask=torch.arange(width)[None] < lengths[:, None],
            truncated=tuple(max(0, len(row) - max_tokens) for row in rows),
            unknown=tuple(sum(token == unknown_id for token in row) for row in rows),
        )


def build_vocabulary(pieces: Sequence[str], words: Sequence[str], size: int) -> list[str]:
    """Choose a vocabulary out of a larger one.

    Args:
        pieces: The larger word-piece vocabulary, frequent pieces first; continuations begin with ``##``.
        words: Words that must stay as the larger vocabulary cuts them.
        size: Number of pieces to choose.

    Returns:
        Special tokens, every ASCII character whole and as continuation, the pieces of ``words``, frequent
        continuations, then frequent words up to ``size``.

    Raises:
        InputError: ``size`` is too small for the characters and ``words``.
    """
    whole = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=100))
    whole.normalizer, whole.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    chosen = dict.fromkeys(_SPECIAL)
    chosen.update(dict.fromkeys(form for character in _CHARACTERS for form in (character, f"##{character}")))
    chosen.update(dict.fromkeys(piece for word in words for piece in whole.encode(word).tokens))
    if len(chosen) > size:
        raise InputError(f"a vocabulary of {size} pieces is too small: characters and required words alone need {len(chosen)}")
    usable = [piece for piece in pieces if piece.isascii() and not piece.startswith("[")]
    continuations = [piece for piece in usable if piece.startswith("##") and piece[2:].isalpha()]
    chosen.update(dict.fromkeys(continuations[: min(size // 12, size - len(chosen))]))
    for piece in usable:
        if len(chosen) >= size:
            break
        if piece.isalpha():
            chosen[piece] = None
    return list(chosen)
