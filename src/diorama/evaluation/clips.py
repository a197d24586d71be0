"""World clips that no training set holds: the ten million seeds from ``EVALUATION_SEED`` up are kept for evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from diorama.worlds.clip import WorldClip, make_clip

__all__ = ["EVALUATION_SEED", "held_out_clips"]

EVALUATION_SEED = 10_000_000
"""Training worlds use seeds below this, and from twice this up."""


def held_out_clips(count: int, *, width: int = 128, height: int = 128, num_frames: int = 33, fps: float = 12.0) -> Iterator[WorldClip]:
    """Render clips of reserved seeds, with seen and held-out pairs of colour and shape in turn.

    Args:
        count: How many.
        width: Pixels.
        height: Pixels.
        num_frames: Frames of each.
        fps: Frames per second.
    """
    for i in range(count):
        yield make_clip(EVALUATION_SEED + i, split="held_out" if i % 2 else "train", width=width, height=height, num_frames=num_frames, fps=fps)
