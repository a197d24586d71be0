"""Known losses are measured as known; a leak in streaming is found."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from diorama.errors import DataError
from diorama.evaluation.reconstruction import StreamReport, evaluate_autoencoder, measure_streaming


def clips(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(60, 190, (5, 16, 16, 3), dtype=np.uint8) for _ in range(count)]


def test_a_lossless_pair_is_perfect() -> None:
    report = evaluate_autoencoder(lambda video: video, lambda latent: latent, clips(2))
    assert report.clips == 2
    assert report.psnr > 100
    assert report.ssim == pytest.approx(1.0, abs=1e-5)
    assert report.flicker == pytest.approx(report.flicker_original, rel=1e-4)
    assert report.flicker > 1


def test_a_known_error_is_measured() -> None:
    report = evaluate_autoencoder(lambda video: video, lambda latent: latent + 2 * 10 / 255, clips(3))
    assert report.psnr == pytest.approx(20 * np.log10(255 / 10), abs=0.05)
    assert report.psnr_worst <= report.psnr
    assert "28.1" in report.text()


def test_time_smearing_lowers_flicker() -> None:
    report = evaluate_autoencoder(lambda video: video, lambda latent: latent.mean(2, keepdim=True).expand_as(latent), clips(1))
    assert report.flicker == pytest.approx(0.0, abs=1e-3)
    assert report.flicker_original > 1


def test_frames_that_move_in_groups_judder() -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(60, 190, (16, 64, 3), dtype=np.uint8).repeat(4, 1)
    pan = np.stack([wide[:, i : i + 32] for i in range(13)])
    report = evaluate_autoencoder(lambda video: video[:, :, ::4], lambda latent: latent.repeat_interleave(4, 2)[:, :, 3:], [pan])
    assert report.judder_original == pytest.approx(1.0, abs=0.1)
    assert np.isnan(report.judder)  # nothing moves within a group
    mixed = evaluate_autoencoder(
        lambda video: video[:, :, ::4],
        lambda latent: 0.5 * latent.repeat_interleave(4, 2)[:, :, 3:] + 0.5 * (torch.from_numpy(pan).permute(3, 0, 1, 2)[None] / 127.5 - 1),
        [pan],
    )
    assert mixed.judder > 1.5
    assert f"{mixed.judder:.2f}" in mixed.text()


def test_no_clips() -> None:
    with pytest.raises(DataError, match="0 clips"):
        evaluate_autoencoder(lambda video: video, lambda latent: latent, [])


def passing(chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    for chunk in chunks:
        assert chunk.shape[:2] == (1, 3)
        yield chunk + 1


def test_streaming_counts_frames_and_stays_bounded() -> None:
    report = measure_streaming(passing, width=64, height=48, seconds=(1.0, 4.0))
    assert report.bounded
    assert "bounded" in report.text()
    with pytest.raises(DataError, match="frames"):
        measure_streaming(lambda chunks: iter([next(chunks)]), width=16, height=16, seconds=(4.0, 4.0))


def test_a_round_trip_that_keeps_everything_grows() -> None:
    def hoard(chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        kept, rooms = [], []
        for chunk in chunks:
            kept.append(chunk)
            rooms.append(mmap.mmap(-1, 8 << 20))  # not of the heap, which earlier tests may have left large and empty
            rooms[-1].write(bytes(8 << 20))
        yield torch.cat(kept, 2)

    report = measure_streaming(hoard, width=64, height=64, seconds=(0.5, 16.0))
    assert report.long_peak > report.short_peak + 30 * 2**20


def test_growth_is_judged() -> None:
    report = StreamReport(short_seconds=4, long_seconds=60, before=100 * 2**20, short_peak=200 * 2**20, long_peak=221 * 2**20)
    assert not report.bounded
    assert "NOT bounded" in report.text()
