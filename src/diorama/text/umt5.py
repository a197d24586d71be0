"""UMT5 and T5 encoders of large models behind the same interface, through transformers (extra ``hub``).

Prompts are cleaned and cut as Wan's own pipeline does it, and `TextStates.padded_to` says how many tokens they are filled up to:
Wan's transformer was trained with the zeros of the padding in sight. An encoder of 11 GB need not stay: `OnDemandTextEncoder` reads
it when a prompt comes and lets it go before the transformer starts.
"""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diorama.errors import CheckpointError, InputError, MissingExtraError
from diorama.text.states import TextEncoder, TextStates

__all__ = ["MAX_TOKENS", "OnDemandTextEncoder", "Umt5TextEncoder", "clean_prompt", "load_umt5"]

MAX_TOKENS = 512
"""Tokens of a prompt that Wan was trained on, padding included."""
_PURPOSE = "a UMT5 or T5 text encoder"


def clean_prompt(prompt: str) -> str:
    """Return a prompt as Wan's pipeline feeds it: broken Unicode mended, HTML escapes resolved twice, white space single.

    Source: ``prompt_clean`` of diffusers' Wan pipeline.

    Raises:
        MissingExtraError: ftfy is not installed.
    """
    try:
        import ftfy
    except ImportError as error:
        raise MissingExtraError("ftfy", "hub", _PURPOSE) from error
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


class Umt5TextEncoder:
    """An encoder-only UMT5 or T5 with its tokenizer.

    States are the last hidden ones with padding set to 0; pooled is their mean over the tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = MAX_TOKENS) -> None:
        """Wrap a ``UMT5EncoderModel`` or ``T5EncoderModel``.

        Args:
            model: The transformers model.
            tokenizer: Its tokenizer.
            max_tokens: Longest prompt; what is beyond is left out and counted.
        """
        self.model, self.tokenizer, self.max_tokens = model.eval(), tokenizer, max_tokens

    @property
    def width(self) -> int:
        """Width D of the states."""
        return int(self.model.config.d_model)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        weights: dict[str, Tensor] = self.model.state_dict()
        return weights

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Encode prompts; the empty prompt is one end token.

        Raises:
            InputError: there is no prompt.
            MissingExtraError: ftfy is not installed.
        """
        if not prompts:
            raise InputError("0 prompts cannot be encoded; give at least 1, an empty one for none")
        cleaned = [clean_prompt(prompt) for prompt in prompts]
        whole = self.tokenizer(cleaned, add_special_tokens=True)["input_ids"]
        batch = self.tokenizer(cleaned, padding="longest", truncation=True, max_length=self.max_tokens, add_special_tokens=True, return_tensors="pt")
        device = self.model.device
        ids, attention = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        mask = attention.bool()
        hidden = self.model(input_ids=ids, attention_mask=attention).last_hidden_state.float() * mask[..., None]
        unknown_id = self.tokenizer.unk_token_id
        return TextStates(
            states=hidden,
            mask=mask,
            pooled=hidden.sum(1) / mask.sum(1, keepdim=True),
            truncated=tuple(max(0, len(row) - self.max_tokens) for row in whole),
            unknown=tuple(sum(token == unknown_id for token in row) for row in whole),
            padded_to=self.max_tokens,
        )


class OnDemandTextEncoder:
    """A text encoder that is read when prompts come and released when they are encoded.

    The states of the last call are kept: the same prompts asked again, as variations do, read nothing.

    Args:
        folder: A folder that holds ``text_encoder/`` and ``tokenizer/``.
        load: Reads the encoder; called for every new set of prompts.
        device: Where the states go; they stay where the encoder left them if None.
    """

    def __init__(self, folder: Path, load: Callable[[], TextEncoder], device: torch.device | str | None = None) -> None:
        self.folder, self._load, self._device = Path(folder), load, device
        self._last: tuple[tuple[str, ...], TextStates] | None = None
        self._keeps = False
        self._kept: TextEncoder | None = None

    @cached_property
    def width(self) -> int:
        """Width D of the states, from the config alone.

        Raises:
            CheckpointError: the config cannot be read.
        """
        path = self.folder / "text_encoder" / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return int(values.get("d_model") or values["hidden_size"])
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); export or download the folder again") from error

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the encoder from the first prompts on until the context ends, for many sets of them."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps, self._kept = False, None

    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Encode prompts.

        Raises:
            InputError: there is no prompt.
            CheckpointError: the encoder cannot be read.
        """
        key = tuple(prompts)
        if self._last is None or self._last[0] != key:
            encoder = self._kept or self._load()
            self._kept = encoder if self._keeps else None
            found = encoder.encode(prompts)
            self._last = key, found if self._device is None else _moved(found, self._device)
        return self._last[1]


def _moved(texts: TextStates, device: torch.device | str) -> TextStates:
    return dataclasses.replace(texts, states=texts.states.to(device), mask=texts.mask.to(device), pooled=texts.pooled.to(device))


def load_umt5(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16, max_tokens: int = MAX_TOKENS
) -> Umt5TextEncoder:
    """Read ``text_encoder/`` and ``tokenizer/`` of a diffusers folder.

    Args:
        folder: The model folder.
        device: Where to put the encoder.
        dtype: Number format of its weights.
        max_tokens: Longest prompt.

    Raises:
        MissingExtraError: transformers is not installed.
        CheckpointError: the folder holds no UMT5 or T5 encoder, or a tensor is missing or of another shape.
    """
    try:
        from transformers import AutoConfig, AutoTokenizer, T5EncoderModel, UMT5EncoderModel
    except ImportError as error:
        raise MissingExtraError("transformers", "hub", _PURPOSE) from error
    kinds = {"umt5": UMT5EncoderModel, "t5": T5EncoderModel}
    place = folder / "text_encoder"
    try:
        kind = AutoConfig.from_pretrained(place, local_files_only=True).model_type
        if kind not in kinds:
            raise CheckpointError(f"{place} holds a {kind} model; allowed: {', '.join(kinds)}")
        model, found = kinds[kind].from_pretrained(place, local_files_only=True, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a truncated file is a SafetensorError, a wrong one anything
        raise CheckpointError(f"text encoder of {folder} cannot be read: {' '.join(str(error).split())}; download or export it again") from error
    for name, got, expected in sorted(found["mismatched_keys"]):
        raise CheckpointError(f"{place}: tensor '{name}' has shape {tuple(got)}, expected {tuple(expected)}; the weights are of another model")
    weights = model.state_dict()
    for name in sorted(found["missing_keys"]):
        raise CheckpointError(f"{place} lacks tensor '{name}' of shape {tuple(weights[name].shape)}; download or export it again")
    return Umt5TextEncoder(model.to(device), tokenizer, max_tokens)
