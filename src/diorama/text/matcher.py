"""The matcher: does this picture show what these words say? It chooses among pictures that were drawn for one prompt.

Every word of the prompt, as the model's text encoder states it in its sentence, looks into the picture and says whether
something there contradicts it; the picture matches if no word objects. ``diorama.train.matcher`` trains it on rendered worlds.

Source: choosing among samples by a second network is as in https://arxiv.org/abs/2102.12092 (there CLIP), matching by
cross-attention as in https://arxiv.org/abs/2107.07651; that all words must agree is a noisy-and.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diorama.checkpoint import in_bytes, load_into, save_folder
from diorama.config import load_json, to_dict
from diorama.errors import ConfigError
from diorama.ops.eye import pick

__all__ = ["Matcher", "MatcherConfig"]

_RARE = -4.0
"""Logit of an objection before any training: forty words together then hold half of all pictures to match."""


@dataclass(frozen=True, kw_only=True)
class MatcherConfig:
    """Size of the matcher."""

    area: int = 16384
    """Pixels a picture is resized to, its aspect ratio kept to the next multiple of 8."""
    widths: tuple[int, int, int] = (24, 48, 96)
    """Channels at a half, a quarter and an eighth of the picture; the last is the width E of cells and words."""
    blocks: int = 2
    """Residual blocks at an eighth of the picture."""
    text_width: int = 192
    """Width D of the text encoder's states."""
    num_heads: int = 4
    """Attention heads."""
    depth: int = 3
    """How often the words look into the picture."""

    def __post_init__(self) -> None:
        if self.area < 1024 or min(self.blocks, self.text_width, self.depth) < 1:
            raise ConfigError(f"a matcher of {self.area} pixels, {self.blocks} blocks and depth {self.depth} is too small: at least 1024, 1 and 1")
        if self.widths[-1] % self.num_heads or self.widths[-1] % 8:
            raise ConfigError(f"width {self.widths[-1]} must be a multiple of 8 and of {self.num_heads} heads; change one of them")


class Matcher(nn.Module):
    """Pictures and words to the probability that every word is true."""

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.widths
        self.stem = nn.Conv2d(12, half, 3, padding=1)
        self.down = nn.Conv2d(half, quarter, 3, stride=2, padding=1)
        self.join = nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(_Block(eighth) for _ in range(config.blocks))
        self.place = nn.Linear(6, eighth)
        self.cells = nn.LayerNorm(eighth)
        self.words = nn.Linear(config.text_width, eighth)
        self.layers = nn.ModuleList(_Layer(eighth, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(eighth)
        self.objection = nn.Linear(eighth, 1)
        nn.init.zeros_(self.objection.weight)
        nn.init.constant_(self.objection.bias, _RARE)

    def watch(self, pictures: Tensor) -> Tensor:
        """Return the cells of pictures of one size.

        Args:
            pictures: ``[B, 3, H, W]`` float in [-1, 1], H and W multiples of 8.

        Returns:
            ``[B, L, E]``, L cells of 8 x 8 pixels.
        """
        x = F.pixel_unshuffle(pictures, 2).contiguous(memory_format=torch.channels_last)
        x = F.silu(self.join(F.silu(self.down(F.silu(self.stem(x))))))
        for block in self.blocks:
            x = block(x)
        y, x_ = (torch.linspace(-1, 1, n, device=x.device) for n in x.shape[-2:])
        grid = torch.stack(torch.meshgrid(y, x_, indexing="ij"), -1).flatten(0, 1)  # [L, 2]
        places = self.place(torch.cat([grid, grid.square(), (math.pi * grid).cos()], -1))
        return torch.as_tensor(self.cells(x.flatten(2).transpose(1, 2) + places))

    def forward(self, cells: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Return how far each word holds.

        Args:
            cells: Of pictures, ``[B, L, E]``.
            states: Of the words of K texts for each picture ``[B, K, M, D]``.
            mask: Which words are there ``[B, K, M]``.

        Returns:
            Log-probability that nothing contradicts a word ``[B, K, M]`` float32, 0 on padding; their sum is that of a match.
        """
        x = self.words(states)
        for layer in self.layers:
            x = layer(x, cells, mask)
        objections = self.objection(self.norm(x)).float().squeeze(-1)
        return F.logsigmoid(-objections).masked_fill(~mask, 0.0)

    @torch.inference_mode()
    def score(self, pictures: Sequence[np.ndarray], states: Tensor, mask: Tensor) -> Tensor:
        """Compare pictures with one prompt.

        Args:
            pictures: uint8 ``[H, W, 3]`` each, any sizes.
            states: The prompt's states ``[M, D]``.
            mask: Which words are there ``[M]``.

        Returns:
            Log-probability of a match for each picture, ``[N]`` float32 on the CPU.
        """
        device = self.objection.weight.device
        scores = []
        for picture in pictures:
            seen = self.watch(pick(picture[None], 1, self.config.area).to(device).float() / 127.5 - 1.0)
            scores.append(self(seen, states[None, None].to(device), mask[None, None].to(device)).sum())
        return torch.stack(scores).cpu()

    def save(self, folder: Path) -> None:
        """Write config and weights, matrices as bytes with a scale for each row.

        Raises:
            CheckpointError: the place cannot be written.
        """
        save_folder(folder, in_bytes(self.state_dict()), {"_class_name": type(self).__name__, **to_dict(self.config)})

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str = "cpu") -> Matcher:
        """Read a saved matcher, ready to compare.

        Raises:
            CheckpointError: weights are missing, damaged or of another size.
            ConfigError: the config is missing or damaged.
        """
        with torch.random.fork_rng(devices=[]):
            matcher = cls(load_json(MatcherConfig, folder / "config.json"))
        load_into(matcher, folder)
        return matcher.to(device).requires_grad_(False).eval()


class _Block(nn.Module):
    """Two convolutions with a residual each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = x + convolution(F.silu(norm(x)))
        return x


class _Layer(nn.Module):
    """A pre-norm layer: words look into the picture, tell each other what they saw, and think."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.told = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.SiLU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor, cells: Tensor, mask: Tensor) -> Tensor:
        """Return words ``[B, K, M, E]`` that have seen cells ``[B, L, E]`` and the words of their text, which ``mask`` ``[B, K, M]`` shows."""
        texts = x.shape[1:3]
        q = torch.unflatten(self.query(self.norms[0](x)).flatten(1, 2), -1, (self.num_heads, -1)).transpose(1, 2)
        k, v = torch.unflatten(self.memory(cells), -1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + torch.unflatten(self.out(seen), 1, texts)
        q, k, v = torch.unflatten(self.qkv(self.norms[1](x)).flatten(0, 1), -1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        said = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.flatten(0, 1)[:, None, None]).transpose(1, 2).flatten(2)
        x = x + torch.unflatten(self.told(said), 0, (-1, texts[0]))
        return torch.as_tensor(x + self.mlp(self.norms[2](x)))
