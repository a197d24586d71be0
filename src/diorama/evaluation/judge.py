"""A small network that says what a clip shows, trained on rendered worlds only.

It follows each colour through the clip and answers for it: is there a body of that colour, of which shape, moving how and
where to; and for the whole shot: how many bodies, which camera move, floor and light. ``diorama.train.judge`` trains it.
It knows nothing of captions or of the model it grades.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from diorama.checkpoint import in_bytes, load_into, save_folder, tensors_hash
from diorama.config import load_json, to_dict
from diorama.errors import ConfigError
from diorama.ops.eye import Eye, pick
from diorama.worlds.scene import CAMERA_MOVES, COLORS, FLOORS, LIGHTS, MOTIONS, SHAPES, Direction, Scene

__all__ = [
    "CAMERA_DIRECTIONS",
    "DIRECTIONS",
    "Judge",
    "JudgeConfig",
    "JudgeHeads",
    "Reading",
    "Seen",
    "Verdict",
    "camera_direction",
    "prepare",
    "truth",
]

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
    return pick(frames, config.num_frames, config.area)


class JudgeHeads(nn.Module):
    """What an eye saw to a verdict.

    Args:
        width: Width D of the eye's states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.color_head = nn.Linear(2 * width, 1 + len(SHAPES) + len(MOTIONS) + len(DIRECTIONS))
        self.shot_head = nn.Linear(4 * width, MAX_BODIES + len(CAMERA_MOVES) + len(FLOORS) + len(LIGHTS))

    def forward(self, states: Tensor) -> Verdict:
        """Return logits of states ``[B, 11, 2 D]``: the ten colours in the order of ``COLORS``, then the shot."""
        colors = self.color_head(states[:, :-1]).float()
        shot = self.shot_head(torch.cat([states[:, -1], states[:, :-1].sum(1)], -1)).float()
        present, shape, motion, direction = colors.split([1, len(SHAPES), len(MOTIONS), len(DIRECTIONS)], -1)
        return Verdict(present[..., 0], shape, motion, direction, *shot.split([MAX_BODIES, len(CAMERA_MOVES), len(FLOORS), len(LIGHTS)], -1))


class Judge(nn.Module):
    """Reads clips of one size; see ``Verdict`` for what it answers.

    An eye with a query for each colour and one for the shot, and two linear heads.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.eye = Eye(len(COLOR_NAMES) + 1, config.num_frames, config.widths, config.reach, config.num_heads, config.depth)
        self.heads = JudgeHeads(config.widths[-1])

    def forward(self, video: Tensor) -> Verdict:
        """Judge clips.

        Args:
            video: ``[B, T, 3, H, W]`` float in [-1, 1], T the config's, H and W multiples of 8.

        Returns:
            Logits.
        """
        said: Verdict = self.heads(self.eye(video))
        return said

    @torch.inference_mode()
    def read(self, clips: Sequence[np.ndarray]) -> list[Reading]:
        """Say in words what clips show.

        Args:
            clips: uint8 ``[T, H, W, 3]`` each, any lengths and sizes.
        """
        readings: list[Reading] = []
        for clip in clips:
            video = prepare(clip, self.config).to(self.eye.queries.device).float() / 127.5 - 1.0
            readings.append(_words(self(video[None])))
        return readings

    def identity(self) -> str:
        """Return 16 hex digits that change with the weights."""
        return tensors_hash(self.state_dict())

    def save(self, folder: Path) -> None:
        """Write config and weights, matrices as bytes with a scale for each row.

        Raises:
            CheckpointError: the place cannot be written.
        """
        save_folder(folder, in_bytes(self.state_dict()), to_dict(self.config))

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
