"""What is drawn anew at a join is handed over; what moves, fades or changes as ever stays what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.views import SIDE, view

from diorama.autoencoder import Autoencoder, AutoencoderConfig, decode_evenly, even_joins
from diorama.evaluation.frames import psnr
from diorama.evaluation.motion import photometric_steps
from diorama.media import Pixels


def redrawn(clip: Pixels, time: int = 4, ring: bool = False) -> Pixels:
    """Return a clip with fine detail of every latent frame's own, as an autoencoder leaves it."""
    groups = (np.arange(len(clip)) + (0 if ring else time - 1)) // time
    detail = np.random.default_rng(0).normal(0, 5, (groups.max() + 1, SIDE, SIDE, 3))
    return (clip + detail[groups]).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("speed", [(0, 0), (1, 0), (2, -1)])
def test_steps_are_even_and_the_clip_is_nearer_to_its_original(speed: tuple[int, int]) -> None:
    original = view([(speed[0] * k, speed[1] * k) for k in range(13)])
    coded = redrawn(original)
    even = coded.copy()
    even_joins(even, 4)
    assert float(psnr(original, even)) > float(psnr(original, coded)) + 0.5
    steps, before = photometric_steps(even)[[5, 9]], photometric_steps(coded)[[5, 9]]
    truth = photometric_steps(original)[[5, 9]]
    assert bool((steps - truth < 0.7 * (before - truth)).all())


def test_a_ring_has_a_join_between_its_end_and_its_beginning() -> None:
    coded = redrawn(view([(0, 0)] * 8), ring=True)
    even = coded.copy()
    even_joins(even, 4, ring=True)
    before, behind = (photometric_steps(clip, ring=True) for clip in (coded, even))
    assert bool((behind[[0, 4]] < 0.5 * before[[0, 4]]).all())
    turned = np.roll(coded, 4, 0)
    even_joins(turned, 4, ring=True)
    np.testing.assert_array_equal(turned, np.roll(even, 4, 0))


def test_a_fade_keeps_its_brightness() -> None:
    light = np.linspace(1, 0.3, 13)[:, None, None, None]
    fade = (view([(0, 0)] * 13) * light).round().astype(np.uint8)
    even = fade.copy()
    even_joins(even, 4)
    steps, before = photometric_steps(even)[1:], photometric_steps(fade)[1:]
    assert bool(((steps - before).abs() < 0.2 * before).all())


def test_a_cut_at_a_join_stays_a_cut() -> None:
    clip = np.concatenate([view([(0, 0)] * 5) // 2, np.full((4, SIDE, SIDE, 3), 255, np.uint8)])
    even = clip.copy()
    even_joins(even, 4)
    np.testing.assert_array_equal(even[3:], clip[3:])


def test_only_frames_beside_joins_change_and_short_clips_are_left() -> None:
    coded = redrawn(view([(k, 0) for k in range(17)], seed=1), time=8)
    even = coded.copy()
    even_joins(even, 8)
    assert [k for k in range(17) if not np.array_equal(even[k], coded[k])] == [0, 1, 2, 7, 8, 9, 10]
    for count, time in ((1, 4), (9, 2)):
        same = coded[:count].copy()
        even_joins(same, time)
        np.testing.assert_array_equal(same, coded[:count])
    pair = redrawn(view([(0, 0)] * 2))
    even_joins(pair, 4)  # no step beside the only one


def test_decoding_as_shown_evens_where_the_config_says_so() -> None:
    torch.manual_seed(0)
    plain = Autoencoder(AutoencoderConfig(widths=(8, 12, 16), z_dim=4, even_joins=False)).eval().requires_grad_(False)
    even = Autoencoder(AutoencoderConfig(widths=(8, 12, 16), z_dim=4)).eval().requires_grad_(False)
    even.load_state_dict(plain.state_dict())
    latent = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    decoded = plain.decode(latent)
    torch.testing.assert_close(decode_evenly(plain, latent), decoded, rtol=0, atol=1 / 255 + 1e-6)
    shown = decode_evenly(even, latent)
    assert shown.shape == decoded.shape
    assert not torch.equal(shown, decode_evenly(plain, latent))
    torch.testing.assert_close(shown[1:], decode_evenly(even, latent[1:]), rtol=0, atol=2 / 127.5)
