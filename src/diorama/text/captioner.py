"""The captioner: frames to a sentence, dense or short, word piece by word piece.

An eye watches the clip; a small decoder reads what its queries saw and writes in the vocabulary that it was trained with.
It is so small that it travels in the package; ``diorama.train.captioner`` trains it on any shards with captions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diorama.checkpoint import in_bytes, load_into, save_folder
from diorama.config import load_json, to_dict
from diorama.errors import CheckpointError, ConfigError
from diorama.ops.eye import Eye, pick
from diorama.text.tokenizer import PromptTokenizer

__all__ = ["KINDS", "Captioner", "CaptionerConfig", "Kind", "sentence"]

Kind = Literal["dense", "short"]
KINDS: tuple[Kind, ...] = ("dense", "short")
"""Captions that name all that is visible, and those that name the bodies and what they do."""
MARK = 2
"""The start token ``[CLS]`` of the vocabulary; it also ends a caption."""


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """Size of the captioner."""

    vocabulary_size: int = 512
    """Word pieces that it can write."""
    max_tokens: int = 128
    """Longest caption in tokens, with the start token."""
    num_frames: int = 9
    """Frames read, evenly spaced over the clip."""
    area: int = 9216
    """Pixels a frame is resized to, its aspect ratio kept to the next multiple of 8."""
    widths: tuple[int, int, int] = (24, 48, 96)
    """Channels at a half, a quarter and an eighth of the frame; the last is the width E of the eye's states."""
    reach: int = 3
    """How far a feature is looked for in the next frame, in quarter-size cells."""
    num_queries: int = 11
    """What the eye looks for in each frame."""
    num_heads: int = 4
    """Attention heads."""
    depth: int = 2
    """Layers over the frames of each query."""
    decoder_width: int = 64
    """Width D of the decoder."""
    decoder_depth: int = 2
    """Layers of the decoder."""

    def __post_init__(self) -> None:
        if self.num_frames < 2 or self.area < 1024:
            raise ConfigError(f"a captioner of {self.num_frames} frames of {self.area} pixels is too small; give at least 2 and 1024")
        if self.widths[-1] % self.num_heads or self.decoder_width % self.num_heads or self.widths[-1] % 8:
            raise ConfigError(
                f"widths {self.widths[-1]} and {self.decoder_width} must be multiples of {self.num_heads} heads, the first also of 8; change one"
            )
        if min(self.vocabulary_size, self.max_tokens, self.num_queries, self.depth, self.decoder_depth) < 1:
            raise ConfigError("a captioner's vocabulary_size, max_tokens, num_queries, depth and decoder_depth must all be at least 1")


class Captioner(nn.Module):
    """Watches clips and writes captions; see the module's docstring.

    Args:
        config: Its size.
        tokenizer: Its vocabulary, of the config's size.

    Raises:
        CheckpointError: the vocabulary is of another size.
    """

    def __init__(self, config: CaptionerConfig, tokenizer: PromptTokenizer) -> None:
        super().__init__()
        if tokenizer.vocabulary_size != config.vocabulary_size:
            raise CheckpointError(f"the tokenizer has {tokenizer.vocabulary_size} pieces and the captioner {config.vocabulary_size}; use a pair")
        self.config, self.tokenizer = config, tokenizer
        width = config.decoder_width
        self.eye = Eye(config.num_queries, config.num_frames, config.widths, config.reach, config.num_heads, config.depth)
        self.seen = nn.Linear(2 * config.widths[-1], width)
        self.seen_names = nn.Parameter(0.5 * torch.randn(config.num_queries, width))
        self.table = nn.Embedding(config.vocabulary_size, width)
        self.position_table = nn.Parameter(0.02 * torch.randn(config.max_tokens, width))
        self.kind_table = nn.Parameter(0.02 * torch.randn(len(KINDS), width))
        self.layers = nn.ModuleList(_Layer(width, config.num_heads) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.table.weight, std=0.1)

    def watch(self, video: Tensor) -> Tensor:
        """Return what the eye's queries saw of clips.

        Args:
            video: ``[B, T, 3, H, W]`` float in [-1, 1], T the config's, or 1 of stills, H and W multiples of 8.

        Returns:
            ``[B, Q, 2 E]``.
        """
        return torch.as_tensor(self.eye(video))

    def forward(self, states: Tensor, ids: Tensor, kinds: Tensor) -> Tensor:
        """Score every next piece of captions.

        Args:
            states: What was seen of each caption's clip ``[N, Q, 2 E]``.
            ids: Pieces ``[N, M]`` int64, the start token first, padding at the end.
            kinds: Places in ``KINDS``, ``[N]`` int64.

        Returns:
            Logits of the piece after each one, ``[N, M, V]``; those at one place depend on the pieces up to it.
        """
        memory = self.seen(states) + self.seen_names
        x = self.table(ids) + self.position_table[: ids.shape[1]] + self.kind_table[kinds][:, None]
        for layer in self.layers:
            x = layer(x, memory)
        return torch.as_tensor(F.linear(self.norm(x), self.table.weight))

    @torch.inference_mode()
    def see(self, clips: Sequence[np.ndarray]) -> Tensor:
        """Return what `write` and `likelihood` go by.

        Args:
            clips: uint8 ``[T, H, W, 3]`` each, any lengths and sizes.

        Returns:
            What the eye's queries saw of each, ``[N, Q, 2 E]``.
        """
        size, device = self.config, self.table.weight.device
        picked = [pick(clip, 1 if len(clip) == 1 else size.num_frames, size.area)[None] for clip in clips]
        seen = [self.watch(video.to(device).float() / 127.5 - 1.0) for video in picked]
        return torch.cat(seen) if seen else torch.zeros(0, size.num_queries, 2 * size.widths[-1], device=device)

    @torch.inference_mode()
    def write(self, seen: Tensor, kind: Kind = "dense") -> list[str]:
        """Describe clips, each time with the likeliest next piece.

        Args:
            seen: Of `see`, ``[N, Q, 2 E]``.
            kind: How much to say.

        Returns:
            A caption for each clip, of one sentence or more.
        """
        kinds = torch.full((len(seen),), KINDS.index(kind), device=seen.device)
        ids = torch.full((len(seen), 1), MARK, device=seen.device)
        done = torch.zeros(len(seen), dtype=torch.bool, device=seen.device)
        while ids.shape[1] < self.config.max_tokens and not bool(done.all()):
            following = self(seen, ids, kinds)[:, -1].argmax(-1)
            done = done | (following == MARK)
            ids = torch.cat([ids, torch.where(done, MARK, following)[:, None]], 1)
        pieces = self.tokenizer.vocabulary
        return [sentence([pieces[i] for i in row if i != MARK]) for row in ids[:, 1:].tolist()]

    @torch.inference_mode()
    def likelihood(self, seen: Tensor, text: str, kind: Kind = "dense") -> Tensor:
        """Return how likely each piece of a text is as the next word of a caption of each clip.

        Args:
            seen: Of `see`, ``[N, Q, 2 E]``.
            text: The caption; what is beyond ``max_tokens`` is left out.
            kind: Which kind of caption it is.

        Returns:
            Log-probabilities ``[N, M]`` float32 on the CPU, of the M pieces of the text.
        """
        kinds = torch.full((len(seen),), KINDS.index(kind), device=seen.device)
        return self._pieces(seen, [text] * len(seen), kinds).cpu()

    def totals(self, seen: Tensor, texts: Sequence[str], kinds: Tensor | None = None) -> Tensor:
        """Return how likely texts are as captions of clips, each of one; gradients pass to what was seen.

        Args:
            seen: Of `see` or `watch`, ``[N, Q, 2 E]``.
            texts: N captions; what is beyond ``max_tokens`` is left out.
            kinds: Places in ``KINDS``, ``[N]``; None for dense ones.

        Returns:
            Log-probabilities ``[N]`` float32.
        """
        kinds = torch.zeros(len(texts), dtype=torch.int64, device=seen.device) if kinds is None else kinds
        return self._pieces(seen, texts, kinds).sum(1)

    def _pieces(self, seen: Tensor, texts: Sequence[str], kinds: Tensor) -> Tensor:
        """Return the log-probability of each piece of a text for each clip ``[N, M]`` float32, 0 behind the end of a shorter one."""
        ids = self.tokenizer.encode(texts, self.config.max_tokens).ids.to(seen.device)
        logits = self(seen, ids[:, :-1], kinds).float()
        return -F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none", ignore_index=0).view(len(ids), -1)

    def save(self, folder: Path) -> None:
        """Write config, vocabulary and weights, matrices as bytes with a scale for each row.

        Raises:
            CheckpointError: the place cannot be written.
        """
        save_folder(folder, in_bytes(self.state_dict()), {"_class_name": type(self).__name__, **to_dict(self.config)})
        self.tokenizer.save(folder)

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str = "cpu") -> Captioner:
        """Read a saved captioner, ready to write.

        Raises:
            CheckpointError: weights or vocabulary are missing, damaged or of another size.
            ConfigError: the config is missing or damaged.
        """
        folder = Path(folder)
        with torch.random.fork_rng(devices=[]):
            captioner = cls(load_json(CaptionerConfig, folder / "config.json"), PromptTokenizer.load(folder))
        load_into(captioner, folder)
        return captioner.to(device).requires_grad_(False).eval()


class _Layer(nn.Module):
    """A pre-norm decoder layer: pieces look back, then at what was seen."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)
        self.told = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = torch.unflatten(self.qkv(self.norms[0](x)), -1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        q = torch.unflatten(self.query(self.norms[1](x)), -1, (self.num_heads, -1)).transpose(1, 2)
        k, v = torch.unflatten(self.memory(memory), -1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.told(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return torch.as_tensor(x + self.mlp(self.norms[2](x)))


def sentence(pieces: Sequence[str]) -> str:
    """Join word pieces of a lower-case vocabulary into sentences as people type them.

    Args:
        pieces: Such as ``["a", "mirror", "-", "like", "ball", "."]``; continuations begin with ``##``.

    Returns:
        Such as ``"A mirror-like ball."``
    """
    text = re.sub(r" ##", "", " ".join(pieces))
    text = re.sub(r" ([.,;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    text = re.sub(r"(?<=\w) ([-'/]) (?=\w)", r"\1", text)
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)
