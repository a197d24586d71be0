"""The compact text encoder: a word-piece vocabulary, factorised embeddings, a few layers, nothing else to install.

It is small enough to travel inside the weights and to load in a moment; ``train/distill.py`` teaches it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diorama.checkpoint import in_bytes, load_into, save_folder
from diorama.config import load_json, to_dict
from diorama.errors import CheckpointError, ConfigError
from diorama.text.states import TextStates
from diorama.text.tokenizer import PromptTokenizer, Tokens

__all__ = ["CompactTextConfig", "CompactTextEncoder", "load_text_encoder"]


@dataclass(frozen=True, kw_only=True)
class CompactTextConfig:
    """Size of the compact encoder."""

    vocabulary_size: int = 8000
    """Word pieces."""
    embedding_size: int = 64
    """Width of the embedding table, before it is widened."""
    hidden_size: int = 192
    """Width D of the states."""
    depth: int = 3
    """Layers."""
    num_heads: int = 3
    """Attention heads; their width is even."""
    ffn_size: int = 640
    """Hidden width of the feed-forward part."""
    max_tokens: int = 96
    """Longest prompt in tokens with the start token; what is beyond is left out and counted."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ConfigError(f"text encoder {field.name} is {getattr(self, field.name)}; give 1 or more")
        if self.hidden_size % (2 * self.num_heads):
            raise ConfigError(f"text encoder hidden_size {self.hidden_size} must be a multiple of 2 x num_heads = {2 * self.num_heads}")


class CompactTextEncoder(nn.Module):
    """Prompts to states: embedding, pre-norm transformer layers with rotary positions, final norm."""

    def __init__(self, config: CompactTextConfig, tokenizer: PromptTokenizer) -> None:
        super().__init__()
        if tokenizer.vocabulary_size != config.vocabulary_size:
            raise CheckpointError(f"the tokenizer has {tokenizer.vocabulary_size} pieces and the text encoder {config.vocabulary_size}; use a pair")
        self.config, self.tokenizer = config, tokenizer
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.widen = nn.Linear(config.embedding_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.pool = nn.Linear(config.hidden_size, config.hidden_size)

    @property
    def width(self) -> int:
        """Width D of the states."""
        return self.config.hidden_size

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode token ids.

        Args:
            ids: ``[B, M]`` int64.
            mask: ``[B, M]`` bool, at least one true a row.

        Returns:
            States ``[B, M, D]``, 0 on padding, and pooled ``[B, D]`` of root mean square 1.
        """
        x = self.widen(self.embedding(ids))
        rotation = _rotation(ids.shape[1], self.config.hidden_size // self.config.num_heads, x)
        for layer in self.layers:
            x = layer(x, mask, rotation)
        states = self.norm(x) * mask[..., None]
        mean = states.sum(1) / mask.sum(1, keepdim=True)
        return states, F.rms_norm(self.pool(mean), (self.config.hidden_size,), eps=1e-6)

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Turn prompts into ids of at most ``max_tokens`` each.

        Raises:
            InputError: there is no prompt.
        """
        return self.tokenizer.encode(prompts, self.config.max_tokens)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Encode prompts; the empty prompt is the unconditional one.

        Raises:
            InputError: there is no prompt.
        """
        tokens = self.tokenize(prompts)
        device = self.embedding.weight.device
        states, pooled = self(tokens.ids.to(device), tokens.mask.to(device))
        return TextStates(
            states=states.float(), mask=tokens.mask.to(device), pooled=pooled.float(), truncated=tokens.truncated, unknown=tokens.unknown
        )

    def save(self, folder: Path) -> None:
        """Write ``text_encoder/`` (matrices as bytes with a scale for each row) and ``tokenizer/`` under a model folder.

        Raises:
            CheckpointError: the disk is full or the place is not writable.
        """
        save_folder(folder / "text_encoder", in_bytes(self.state_dict()), {"_class_name": type(self).__name__, **to_dict(self.config)})
        self.tokenizer.save(folder / "tokenizer")


class _Layer(nn.Module):
    def __init__(self, config: CompactTextConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.to_qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.to_out = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.ffn_norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.ffn_in = nn.Linear(config.hidden_size, config.ffn_size)
        self.ffn_out = nn.Linear(config.ffn_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        b, m, d = x.shape
        q, k, v = self.to_qkv(self.attention_norm(x)).view(b, m, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(_rotate(q, rotation), _rotate(k, rotation), v, attn_mask=mask[:, None, None, :])
        x = x + self.to_out(mixed.transpose(1, 2).reshape(b, m, d))
        added: Tensor = self.ffn_out(F.gelu(self.ffn_in(self.ffn_norm(x)), approximate="tanh"))
        return x + added


def _rotation(length: int, head_size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    frequencies = 1000.0 ** -(torch.arange(0, head_size, 2, device=like.device) / head_size)
    angles = torch.arange(length, device=like.device)[:, None] * frequencies
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def load_text_encoder(folder: Path, *, device: torch.device | str = "cpu") -> CompactTextEncoder:
    """Read the compact encoder of a model folder, float32 and without gradients.

    Args:
        folder: A folder that holds ``text_encoder/`` and ``tokenizer/``.
        device: Where to put it.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        ConfigError: the config does not fit.
    """
    folder = Path(folder)
    config = load_json(CompactTextConfig, folder / "text_encoder" / "config.json")
    tokenizer = PromptTokenizer.load(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):  # a meta device would spare the drawing of weights but takes a second to start
        encoder = CompactTextEncoder(config, tokenizer)
    load_into(encoder, folder / "text_encoder")
    return encoder.to(device).requires_grad_(False).eval()
