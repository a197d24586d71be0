"""UMT5 and T5 encoders of large models behind the same interface, through transformers (extra ``hub``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diorama.errors import CheckpointError, InputError, MissingExtraError
from diorama.text.states import TextStates

__all__ = ["Umt5TextEncoder", "load_umt5"]


class Umt5TextEncoder:
    """An encoder-only UMT5 or T5 with its tokenizer.

    States are the last hidden ones with padding set to 0, as Wan feeds them; pooled is their masked mean.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 512) -> None:
        """Wrap a ``UMT5EncoderModel`` or ``T5EncoderModel``.

        Args:
            model: The transformers model.
            tokenizer: Its tokenizer.
            max_tokens: Longest prompt; what is beyond is left out and counted. Wan uses 512.
        """
        self.model, self.tokenizer, self.max_tokens = model.eval(), tokenizer, max_tokens

    @property
    def width(self) -> int:
        """Width D of the states."""
        return int(self.model.config.d_model)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Encode prompts; the empty prompt is one end token.

        Raises:
            InputError: there is no prompt.
        """
        if not prompts:
            raise InputError("0 prompts cannot be encoded; give at least 1, an empty one for none")
        whole = self.tokenizer(list(prompts), add_special_tokens=True)["input_ids"]
        batch = self.tokenizer(
            list(prompts), padding="longest", truncation=True, max_length=self.max_tokens, add_special_tokens=True, return_tensors="pt"
        )
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
        )


def load_umt5(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16, max_tokens: int = 512) -> Umt5TextEncoder:
    """Read ``text_encoder/`` and ``tokenizer/`` of a diffusers folder.

    Args:
        folder: The model folder.
        device: Where to put the encoder.
        dtype: Number format of its weights.
        max_tokens: Longest prompt.

    Raises:
        MissingExtraError: transformers is not installed.
        CheckpointError: the folder holds no UMT5 or T5 encoder.
    """
    try:
        from transformers import AutoConfig, AutoTokenizer, T5EncoderModel, UMT5EncoderModel
    except ImportError as error:
        raise MissingExtraError("transformers", "hub", "a UMT5 or T5 text encoder") from error
    kinds = {"umt5": UMT5EncoderModel, "t5": T5EncoderModel}
    try:
        kind = AutoConfig.from_pretrained(folder / "text_encoder", local_files_only=True).model_type
        if kind not in kinds:
            raise CheckpointError(f"{folder / 'text_encoder'} holds a {kind} model; allowed: {', '.join(kinds)}")
        model = kinds[kind].from_pretrained(folder / "text_encoder", local_files_only=True, dtype=dtype).to(device)
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"text encoder of {folder} cannot be read: {' '.join(str(error).split())}; export or download the folder again"
        ) from error
    return Umt5TextEncoder(model, tokenizer, max_tokens)
