"""Nothing moves where nothing moves, noise or not, and long stretches of it are pieces of their own."""

from __future__ import annotations

import numpy as np
from tests.curation.conftest import pan
from tests.curation.test_scores import shot_of

from diorama.curation.still import divide_still, static_share, still_steps
from diorama.media import Pixels


def noisy(frames: Pixels, deviation: float = 2.0) -> Pixels:
    noise = np.random.default_rng(0).normal(0, deviation, frames.shape)
    return np.clip(frames + noise, 0, 255).round().astype(np.uint8)


def test_the_noise_of_a_camera_is_no_motion() -> None:
    still = np.repeat(pan(0, 1, size=(192, 256)), 6, axis=0)
    assert static_share(noisy(still)[..., 1]) == 1.0
    assert static_share(noisy(pan(0, 6, size=(192, 256)))[..., 1]) == 0.0
    assert static_share(still[:1, :, :, 1]) is None


def test_a_small_thing_before_a_noisy_wall_is_motion() -> None:
    still = noisy(np.repeat(pan(0, 1, size=(192, 256)), 6, axis=0))[..., 1]
    for i in range(6):
        still[i, 90:102, 30 * i : 30 * i + 12] = 255
    assert still_steps(still) == [False] * 5


def test_long_stretches_are_divided_off_and_every_frame_stays() -> None:
    moving = pan(0, 48)
    shot = shot_of(np.concatenate([np.repeat(moving[:1], 96, axis=0), moving, np.repeat(moving[-1:], 120, axis=0)]))
    parts = divide_still(shot, 3.0)
    assert [(part.begins, part.ends) for part in parts] == [("start", "still"), ("still", "still"), ("still", "end")]
    assert [time for part in parts for time in part.times] == shot.times
    assert [part.first for part in parts] == [0, *np.cumsum([part.num_frames for part in parts])[:-1]]
    assert parts[0].end_time == parts[1].times[0]
    assert abs(parts[1].times[0] - 4.0) <= 0.5
    assert abs(parts[2].times[0] - 6.0) <= 0.5
    assert [round(sum(still_steps(np.stack([f[..., 1] for f in part.medium]))) / (len(part.medium) - 1)) for part in parts] == [1, 0, 1]
    assert divide_still(shot, 6.0) == [shot]


def test_a_shot_that_moves_or_is_short_stays_whole() -> None:
    for frames in (pan(0, 100), np.repeat(pan(0, 1), 60, axis=0)):
        shot = shot_of(frames)
        assert divide_still(shot, 3.0) == [shot]
