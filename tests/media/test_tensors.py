from __future__ import annotations

import numpy as np
import pytest
import torch

from diorama.media import Clip, from_tensor, to_tensor


def test_round_trip_is_exact() -> None:
    frames = np.arange(2 * 8 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 8, 16, 3)
    video = to_tensor(Clip(frames, 12.0))
    assert video.shape == (1, 3, 2, 8, 16)
    assert video.dtype == torch.float32
    assert video.min() == -1.0
    assert video.max() == 1.0
    back = from_tensor(video, 12.0, {"a": "b"})
    np.testing.assert_array_equal(back.frames, frames)
    assert back.metadata == {"a": "b"}


def test_values_outside_are_clamped() -> None:
    clip = from_tensor(torch.tensor([-5.0, 0.0, 5.0]).reshape(3, 1, 1, 1), 1.0)
    assert clip.frames.reshape(-1).tolist() == [0, 128, 255]


def test_the_clip_does_not_share_memory() -> None:
    clip = Clip(np.zeros((1, 2, 2, 3), np.uint8), 1.0)
    to_tensor(clip).fill_(1.0)
    assert clip.frames.max() == 0


@pytest.mark.parametrize("shape", [(2, 3, 1, 4, 4), (1, 1, 4, 4), (3, 4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a clip needs"):
        from_tensor(torch.zeros(shape), 12.0)
