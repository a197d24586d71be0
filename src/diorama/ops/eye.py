"""A small network that watches a clip: what a few learned queries see of it, over time.

The judge and the captioner look through it; what they make of the states is theirs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Eye", "matches", "matches_plain", "pick", "shrink"]


def pick(frames: np.ndarray, num_frames: int, area: int) -> Tensor:
    """Pick and resize the frames that an eye reads.

    Args:
        frames: uint8 ``[T, H, W, 3]``, any length and size.
        num_frames: Frames to pick, evenly spaced, the first and the last among them; of a still the same one each time.
        area: Pixels of a resized frame, about; its aspect ratio is kept to the next multiple of 8.

    Returns:
        uint8 ``[num_frames, 3, h, w]`` with h and w multiples of 8.
    """
    picked = np.linspace(0, len(frames) - 1, num_frames).round().astype(int)
    video = torch.from_numpy(np.ascontiguousarray(frames[picked])).permute(0, 3, 1, 2).float()
    return shrink(video, area).round().clamp(0, 255).to(torch.uint8)


def shrink(video: Tensor, area: int) -> Tensor:
    """Resize frames ``[N, 3, H, W]`` to the size at which an eye reads them, of about ``area`` pixels; gradients pass."""
    scale = math.sqrt(area / math.prod(video.shape[2:]))
    size = [max(16, round(side * scale / 8) * 8) for side in video.shape[2:]]
    return functional.interpolate(video, size=size, mode="bilinear", antialias=True, align_corners=False)


class Eye(nn.Module):
    """Clips of one size to states of its queries.

    Per-frame convolutions with the match of each quarter-size feature in the next frame (motion) beside them, time
    convolutions, queries that look into each frame, and a transformer over the frames of each query.

    Args:
        num_queries: Learned queries Q.
        num_frames: Frames T of a clip.
        widths: Channels at a half, a quarter and an eighth of the frame; the last is the width D of the states.
        reach: How far a feature is looked for in the next frame, in quarter-size cells.
        num_heads: Attention heads.
        depth: Transformer layers.
    """

    def __init__(self, num_queries: int, num_frames: int, widths: tuple[int, int, int], reach: int, num_heads: int, depth: int) -> None:
        super().__init__()
        self.reach, self.num_heads = reach, num_heads
        half, quarter, eighth = widths
        self.stem = nn.Conv2d(12, half, 3, padding=1)
        self.down = nn.Conv2d(half, quarter, 3, stride=2, padding=1)
        self.trace = nn.Conv2d(quarter, 32, 1)
        self.match = nn.Conv2d((2 * reach + 1) ** 2, 32, 1)
        self.join = nn.Conv2d(quarter + 32, eighth, 3, stride=2, padding=1)
        self.block = _Block(eighth)
        self.place = nn.Linear(6, eighth)
        self.look = nn.LayerNorm(eighth)
        self.keys = nn.Linear(eighth, 2 * eighth)
        self.queries = nn.Parameter(torch.randn(num_queries, eighth) * 0.5)
        self.where = nn.Linear(3 * num_heads + eighth, eighth)
        self.times = nn.Parameter(torch.zeros(num_frames, eighth))
        self.layers = nn.ModuleList(_Layer(eighth, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(eighth)

    def forward(self, video: Tensor) -> Tensor:
        """Watch clips.

        Args:
            video: ``[B, T, 3, H, W]`` float in [-1, 1], H and W multiples of 8; one frame alone stands for a clip that does not move.

        Returns:
            Mean and maximum over the frames of what each query saw, ``[B, Q, 2 D]``.
        """
        whole = len(self.times)
        is_still = video.shape[1] == 1
        if is_still:  # frames in the middle of what stands still look alike, so one of them is enough
            video = video.expand(-1, min(3, whole), -1, -1, -1)
        batch, length = video.shape[:2]
        x = functional.pixel_unshuffle(video.flatten(0, 1), 2).contiguous(memory_format=torch.channels_last)
        x = functional.silu(self.down(functional.silu(self.stem(x))))
        motion = functional.silu(self.match(matches(self.trace(x), length, self.reach)))
        x = functional.silu(self.join(torch.cat([x, motion], 1)))
        x = self.block(x, length)
        seen = self._look(x)  # [B*T, Q, D]
        seen = torch.unflatten(seen, 0, (batch, length))
        if is_still and whole > 3:
            seen = torch.cat([seen[:, :1], seen[:, 1:2].expand(-1, whole - 2, -1, -1), seen[:, 2:]], 1)
        seen = seen.transpose(1, 2) + self.times  # [B, Q, T, D]
        num_queries = seen.shape[1]
        seen = seen.flatten(0, 1)
        for layer in self.layers:
            seen = layer(seen)
        seen = torch.unflatten(self.norm(seen), 0, (batch, num_queries))
        return torch.cat([seen.mean(2), seen.amax(2)], -1)

    def _look(self, x: Tensor) -> Tensor:
        """Let every query attend into each frame; return what it saw and where, ``[B*T, Q, D]``."""
        width, height_cells, width_cells = x.shape[1:]
        heads = self.num_heads
        y, x_ = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in (height_cells, width_cells))
        grid = torch.stack(torch.meshgrid(y, x_, indexing="ij"), -1).flatten(0, 1)  # [L, 2]
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.look(tokens + self.place(torch.cat([grid, grid.square(), (math.pi * grid).cos()], -1)))
        keys, values = torch.unflatten(self.keys(tokens), -1, (2, heads, width // heads)).unbind(2)  # [N, L, heads, K]
        queries = torch.unflatten(self.queries.to(keys.dtype), -1, (heads, -1))  # [Q, heads, K]
        scores = torch.einsum("qhk,nlhk->nhql", queries, keys) / math.sqrt(width // heads)
        weights = scores.float().softmax(-1)
        mass = scores.float().logsumexp(-1, keepdim=True) - math.log(scores.shape[-1])  # how much there is of it
        spot = torch.cat([weights @ grid.float(), mass], -1).permute(0, 2, 1, 3).flatten(2)  # [N, Q, 3*heads]
        seen = torch.einsum("nhql,nlhk->nqhk", weights.to(values.dtype), values).flatten(2)
        return torch.as_tensor(self.where(torch.cat([seen, spot.to(seen.dtype)], -1)))


class _Block(nn.Module):
    """Space and time convolutions with residuals at an eighth of the frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(3))
        self.space = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.time = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor, length: int) -> Tensor:
        x = x + self.space[0](functional.silu(self.norms[0](x)))
        cells = x.shape[-2:]
        y = torch.unflatten(functional.silu(self.norms[1](x)), 0, (-1, length)).permute(0, 3, 4, 2, 1).flatten(0, 2)  # [B*H*W, C, T]
        y = torch.unflatten(self.time(y), 0, (-1, *cells)).permute(0, 4, 3, 1, 2).flatten(0, 1)  # [B*T, C, H, W]
        x = x + y
        return torch.as_tensor(x + self.space[1](functional.silu(self.norms[2](x))))


class _Layer(nn.Module):
    """A pre-norm transformer layer over the frames of each query."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.SiLU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = torch.unflatten(self.qkv(self.norms[0](x)), -1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return torch.as_tensor(x + self.mlp(self.norms[1](x)))


def _unit_and_next(x: Tensor, length: int, reach: int) -> tuple[Tensor, Tensor]:
    """Return features of length 1 and, with a border of zeros, those of each one's next frame; a last frame is its own next."""
    unit = functional.normalize(x - x.mean((2, 3), keepdim=True), dim=1)
    clips = torch.unflatten(unit, 0, (-1, length))
    ahead = torch.cat([clips[:, 1:], clips[:, -1:]], 1).flatten(0, 1)
    return unit, functional.pad(ahead, (reach, reach, reach, reach))


def matches(x: Tensor, length: int, reach: int) -> Tensor:
    """Return how well each cell matches the next frame's cells around it.

    All pairs of cells in one product, of which a strided view takes each cell's window: forth and back it is 6 times as fast as
    gathering the windows by index and 7 to 9 times as fast as ``matches_plain`` (docs/log.md, 2026-11-21).

    Args:
        x: ``[B*T, C, H, W]`` features, H and W at least 2.
        length: T; the last frame of a clip is matched with itself.
        reach: Cells to each side.

    Returns:
        ``[B*T, (2 reach + 1)^2, H, W]`` cosine similarities, 0 beyond the frame.
    """
    unit, ahead = _unit_and_next(x, length, reach)
    height, width = x.shape[-2:]
    side, row = 2 * reach + 1, width + 2 * reach
    cells = row * (height + 2 * reach)
    similarity = unit.flatten(2).transpose(1, 2) @ ahead.flatten(2)  # [B*T, H*W, cells]
    # Cell (y, x) of a row of `similarity` sees offset (dy, dx) at column (y + dy) * row + x + dx.
    windows = similarity.as_strided(
        (len(x), side, side, height, width), (height * width * cells, row, 1, width * cells + row, cells + 1), similarity.storage_offset()
    )
    return windows.reshape(len(x), side * side, height, width)


def matches_plain(x: Tensor, length: int, reach: int) -> Tensor:
    """Return the same as ``matches``, one offset after the other."""
    unit, ahead = _unit_and_next(x, length, reach)
    height, width = x.shape[-2:]
    offsets = [(dy, dx) for dy in range(2 * reach + 1) for dx in range(2 * reach + 1)]
    return torch.stack([(unit * ahead[:, :, dy : dy + height, dx : dx + width]).sum(1) for dy, dx in offsets], 1)
