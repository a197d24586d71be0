"""Reserved seeds give clips of the asked size, with and without new pairs."""

from __future__ import annotations

from diorama.evaluation.clips import EVALUATION_SEED, held_out_clips
from diorama.worlds.scene import held_out


def test_reserved_seeds_in_both_splits() -> None:
    first, second = held_out_clips(2, width=32, height=32, num_frames=1)
    assert (first.scene.seed, second.scene.seed) == (EVALUATION_SEED, EVALUATION_SEED + 1)
    assert first.frames.shape == (1, 32, 32, 3)
    assert not any(held_out(body.color, body.shape) for body in first.scene.bodies)
    assert any(held_out(body.color, body.shape) for body in second.scene.bodies)
