"""A small network that says what a clip shows, trained on rendered worlds only.

It follows each colour through the clip and answers for it: is there a body of that colour, of which shape, moving how and
where to; and for the whole shot: how many bodies, which camera move, floor and light. ``diorama.train.judge`` trains it.
It knows nothing of captions or of the model it grades.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diorama.checkpoint import load_into, save_folder
from diorama.config import load_json, to_dict
from diorama.errors import ConfigError
from diorama.worlds.scene import CAMERA_MOVES, COLORS, FLOORS, LIGHTS, MOTIONS, SHAPES, Direction, Scene

__all__ = ["CAMERA_DIRECTIONS", "DIRECTIONS", "Judge", "JudgeConfig", "Reading", "Seen", "Verdict", "camera_direction", "prepare", "truth"]

DIRECTIONS: tuple[str, ...] = get_args(Direction)
CAMERA_DIRECTIONS: dict[str, str] = {move: move.partition("_")[2] or "none" for move in CAMERA_MOVES}
"""Each camera move to where it goes: none, left, right, in, out, up or down."""
COLOR_NAMES: tuple[str, ...] = tuple(COLORS)
MAX_BODIES = 4


def camera_direction(move: str) -> str:
    """Return where a camera move goes: none, left, right, in, out, up or down."""
    return CAMERA_DIRECTIONS[move]


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Size of the judge."""

    num_frames: int = 9
    """Frames read, evenly spaced over the clip."""
    area: int = 5184
    """Pixels a frame is resized to, its aspect ratio kept to the next multiple of 8."""
    widths: tuple[int, int, int] = (24, 48, 96)
    """Channels at a half, a quarter and an eighth of the frame."""
    reach: int = 3
    """How far a feature is looked for in the next frame, in quarter-size cells."""
    num_heads: int = 4
    """Attention heads."""
    depth: int = 2
    """Transformer layers over the frames of one query."""

    def __post_init__(self) -> None:
        if self.num_frames < 2 or self.area < 1024:
            raise ConfigError(f"a judge of {self.num_frames} frames of {self.area} pixels is too small; give at least 2 and 1024")
        if self.widths[-1] % self.num_heads:
            raise ConfigError(f"width {self.widths[-1]} is not a multiple of {self.num_heads} heads; change one of them")


@dataclass(frozen=True)
class Verdict:
    """What the judge says, as logits, or the truth, as classes.

    Logits have the sizes below; the truth has no last axis except for ``present``.
    """

    present: Tensor
    """``[B, 10]``: is there a body of this colour; logits, or 0 and 1."""
    shape: Tensor
    """``[B, 10, 5]`` over ``SHAPES``; truth -1 where the colour is absent."""
    motion: Tensor
    """``[B, 10, 8]`` over ``MOTIONS``; truth -1 where absent."""
    direction: Tensor
    """``[B, 10, 5]`` over ``DIRECTIONS``; truth -1 where absent."""
    count: Tensor
    """``[B, 4]``: 1 to 4 bodies, counted from 0."""
    camera: Tensor
    """``[B, 11]`` over ``CAMERA_MOVES``."""
    floor: Tensor
    """``[B, 6]`` over ``FLOORS``."""
    light: Tensor
    """``[B, 3]`` over ``LIGHTS``."""

    def map(self, function: Any) -> Verdict:
        """Return a verdict with ``function`` applied to every tensor."""
        return Verdict(**{field.name: function(getattr(self, field.name)) for field in dataclasses.fields(self)})


@dataclass(frozen=True)
class Seen:
    """One body as the judge sees it."""

    color: str
    shape: str
    motion: str
    direction: str


@dataclass(frozen=True)
class Reading:
    """A verdict in words."""

    bodies: tuple[Seen, ...]
    """Every colour held to be present."""
    asked: tuple[Seen, ...]
    """What the judge would say of each of the ten colours if it were there, in the order of ``COLORS``."""
    count: int
    camera: str
    floor: str
    light: str


def truth(scenes: Sequence[Scene]) -> Verdict:
    """Return the classes that a perfect judge would give to scenes whose bodies differ in colour.

    Of two bodies of one colour the first counts.
    """
    size = (len(scenes), len(COLOR_NAMES))
    present = torch.zeros(size)
    shape, motion, direction = (torch.full(size, -1, dtype=torch.long) for _ in range(3))
    for i, scene in enumerate(scenes):
        for body in reversed(scene.bodies):
            c = COLOR_NAMES.index(body.color)
            present[i, c] = 1.0
            shape[i, c] = SHAPES.index(body.shape)
            motion[i, c] = MOTIONS.index(body.motion)
            direction[i, c] = DIRECTIONS.index(body.direction)
    return Verdict(
        present,
        shape,
        motion,
        direction,
        torch.tensor([min(len(scene.bodies), MAX_BODIES) - 1 for scene in scenes]),
        torch.tensor([CAMERA_MOVES.index(scene.camera.move) for scene in scenes]),
        torch.tensor([FLOORS.index(scene.floor) for scene in scenes]),
        torch.tensor([LIGHTS.index(scene.light) for scene in scenes]),
    )


def prepare(frames: np.ndarray, config: JudgeConfig) -> Tensor:
    """Pick and resize the frames that the judge reads.

    Args:
        frames: uint8 ``[T, H, W, 3]``, any length and size.
        config: Gives the number of frames and the area.

    Returns:
        uint8 ``[num_frames, 3, h, w]`` with h and w multiples of 8 near the area.
    """
    picked = np.linspace(0, len(frames) - 1, config.num_frames).round().astype(int)
    height, width = frames.shape[1:3]
    scale = math.sqrt(config.area / (height * width))
    size = [max(16, round(side * scale / 8) * 8) for side in (height, width)]
    video = torch.from_numpy(np.ascontiguousarray(frames[picked])).permute(0, 3, 1, 2).float()
    video = functional.interpolate(video, size=size, mode="bilinear", antialias=True, align_corners=False)
    return video.round().clamp(0, 255).to(torch.uint8)


class Judge(nn.Module):
    """Reads clips of one size; see ``Verdict`` for what it answers.

    Per-frame convolutions with the match of each quarter-size feature in the next frame (motion) beside them, time
    convolutions, ten colour queries and one query for the shot that look into each frame, and a transformer over
    the frames of each query.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.widths
        self.stem = nn.Conv2d(12, half, 3, padding=1)
        self.down = nn.Conv2d(half, quarter, 3, stride=2, padding=1)
        self.trace = nn.Conv2d(quarter, 32, 1)
        self.match = nn.Conv2d((2 * config.reach + 1) ** 2, 32, 1)
        self.join = nn.Conv2d(quarter + 32, eighth, 3, stride=2, padding=1)
        self.block = _Block(eighth)
        self.place = nn.Linear(6, eighth)
        self.look = nn.LayerNorm(eighth)
        self.keys = nn.Linear(eighth, 2 * eighth)
        self.queries = nn.Parameter(torch.randn(len(COLOR_NAMES) + 1, eighth) * 0.5)
        self.where = nn.Linear(3 * config.num_heads + eighth, eighth)
        self.times = nn.Parameter(torch.zeros(config.num_frames, eighth))
        self.layers = nn.ModuleList(_Layer(eighth, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(eighth)
        self.color_head = nn.Linear(2 * eighth, 1 + len(SHAPES) + len(MOTIONS) + len(DIRECTIONS))
        self.shot_head = nn.Linear(4 * eighth, MAX_BODIES + len(CAMERA_MOVES) + len(FLOORS) + len(LIGHTS))

    def forward(self, video: Tensor) -> Verdict:
        """Judge clips.

        Args:
            video: ``[B, T, 3, H, W]`` float in [-1, 1], T the config's, H and W multiples of 8.

        Returns:
            Logits.
        """
        batch, length = video.shape[:2]
        x = functional.pixel_unshuffle(video.flatten(0, 1), 2).contiguous(memory_format=torch.channels_last)
        x = functional.silu(self.down(functional.silu(self.stem(x))))
        motion = functional.silu(self.match(_matches(self.trace(x), length, self.config.reach)))
        x = functional.silu(self.join(torch.cat([x, motion], 1)))
        x = self.block(x, length)
        seen = self._look(x)  # [B*T, Q, D]
        seen = torch.unflatten(seen, 0, (batch, length)).transpose(1, 2) + self.times  # [B, Q, T, D]
        q = seen.shape[1]
        seen = seen.flatten(0, 1)
        for layer in self.layers:
            seen = layer(seen)
        seen = torch.unflatten(self.norm(seen), 0, (batch, q))
        pooled = torch.cat([seen.mean(2), seen.amax(2)], -1)  # [B, Q, 2D]
        colors = self.color_head(pooled[:, :-1]).float()
        shot = self.shot_head(torch.cat([pooled[:, -1], pooled[:, :-1].sum(1)], -1)).float()
        present, shape, motion_, direction = colors.split([1, len(SHAPES), len(MOTIONS), len(DIRECTIONS)], -1)
        return Verdict(present[..., 0], shape, motion_, direction, *shot.split([MAX_BODIES, len(CAMERA_MOVES), len(FLOORS), len(LIGHTS)], -1))

    def _look(self, x: Tensor) -> Tensor:
        """Let every query attend into each frame; return what it saw and where, ``[B*T, Q, D]``."""
        width, height_cells, width_cells = x.shape[1:]
        heads = self.config.num_heads
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

    @torch.inference_mode()
    def read(self, clips: Sequence[np.ndarray]) -> list[Reading]:
        """Say in words what clips show.

        Args:
            clips: uint8 ``[T, H, W, 3]`` each, any lengths and sizes.
        """
        readings: list[Reading] = []
        for clip in clips:
            video = prepare(clip, self.config).to(self.queries.device).float() / 127.5 - 1.0
            readings.append(_words(self(video[None])))
        return readings

    def save(self, folder: Path) -> None:
        """Write config and half-precision weights.

        Raises:
            CheckpointError: the place cannot be written.
        """
        save_folder(folder, {name: value.half() for name, value in self.state_dict().items()}, to_dict(self.config))

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Read a saved judge, ready to read clips.

        Raises:
            CheckpointError: weights are missing, damaged or of another size.
            ConfigError: the config is missing or damaged.
        """
        judge = cls(load_json(JudgeConfig, folder / "config.json"))
        load_into(judge, folder)
        return judge.eval()


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


def _matches(x: Tensor, length: int, reach: int) -> Tensor:
    """Return how well each cell matches the next frame's cells around it.

    Args:
        x: ``[B*T, C, H, W]`` features.
        length: T; the last frame of a clip is matched with itself.
        reach: Cells to each side.

    Returns:
        ``[B*T, (2 reach + 1)^2, H, W]`` cosine similarities.
    """
    unit = functional.normalize(x - x.mean((2, 3), keepdim=True), dim=1)
    clips = torch.unflatten(unit, 0, (-1, length))
    ahead = torch.cat([clips[:, 1:], clips[:, -1:]], 1).flatten(0, 1)
    ahead = functional.pad(ahead, (reach, reach, reach, reach))
    height, width = x.shape[-2:]
    similarity = unit.flatten(2).transpose(1, 2) @ ahead.flatten(2)  # all pairs in one product: faster than 49 shifted ones
    side = torch.arange(2 * reach + 1, device=x.device)
    window = (side[:, None] * (width + 2 * reach) + side).flatten()
    corner = (torch.arange(height, device=x.device)[:, None] * (width + 2 * reach) + torch.arange(width, device=x.device)).flatten()
    index = (corner[:, None] + window).expand(len(x), -1, -1)
    return torch.unflatten(similarity.gather(2, index).transpose(1, 2), 2, (height, width))


def _words(verdict: Verdict) -> Reading:
    said = [
        Seen(color, SHAPES[shape], MOTIONS[motion], DIRECTIONS[direction])
        for color, shape, motion, direction in zip(
            COLOR_NAMES, *(logits[0].argmax(-1).tolist() for logits in (verdict.shape, verdict.motion, verdict.direction)), strict=True
        )
    ]
    present = (verdict.present[0] > 0).tolist()
    count, camera, floor, light = (int(logits[0].argmax()) for logits in (verdict.count, verdict.camera, verdict.floor, verdict.light))
    bodies = tuple(seen for seen, there in zip(said, present, strict=True) if there)
    return Reading(bodies, tuple(said), count + 1, CAMERA_MOVES[camera], FLOORS[floor], LIGHTS[light])
