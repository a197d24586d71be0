"""Whole clips: shapes, types and equal bytes."""

from __future__ import annotations

import pytest
import torch

from diorama.worlds.clip import film, make_clip
from diorama.worlds.sample import sample_world


@pytest.mark.parametrize(("width", "height"), [(48, 48), (64, 32), (32, 64)])
def test_a_clip_holds_everything_known(width: int, height: int) -> None:
    clip = make_clip(4, width=width, height=height, num_frames=9, fps=12.0)
    assert clip.frames.shape == (9, height, width, 3)
    assert clip.frames.dtype == torch.uint8
    assert clip.depth.shape == clip.instances.shape == (9, height, width)
    assert clip.depth.dtype == torch.float32
    assert clip.instances.dtype == torch.uint8
    assert clip.cameras.world_to_camera.shape == (9, 4, 4)
    assert clip.trajectory.positions.shape == (9, len(clip.scene.bodies), 3)
    assert clip.captions.dense
    assert clip.captions.short


def test_a_seed_gives_one_clip() -> None:
    first, second = (make_clip(7, width=48, height=48, num_frames=5) for _ in range(2))
    assert torch.equal(first.frames, second.frames)
    assert first.captions == second.captions


def test_clips_change_with_time() -> None:
    frames = make_clip(8, width=48, height=48, num_frames=17).frames.float()
    assert float((frames[-1] - frames[0]).abs().mean()) > 1


def test_a_still_is_the_first_frame_of_the_clip() -> None:
    drawn = sample_world(3, width=48, height=32, num_frames=17)
    clip, still = film(*drawn), film(*drawn, num_frames=1)
    assert still.frames.shape == (1, 32, 48, 3)
    assert torch.equal(still.instances, clip.instances[:1])
    assert still.scene == clip.scene
    assert still.captions == clip.captions
