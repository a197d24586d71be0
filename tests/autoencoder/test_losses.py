from __future__ import annotations

import pytest
import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.losses import LossConfig, gradient_loss, kl_loss, reconstruction_loss, structure_loss
from diorama.autoencoder.model import Autoencoder
from diorama.errors import ConfigError
from diorama.evaluation.frames import ssim

TINY = AutoencoderConfig(widths=(8, 8, 8), z_dim=4)


def test_gradient_loss_sees_edges_and_no_shift() -> None:
    video = torch.rand(1, 3, 5, 16, 16)
    assert gradient_loss(video, video + 0.5, 3) < 1e-6
    edge = video.clone()
    edge[..., 8:] += 0.5
    # one of 15 columns steps by 0.5, and so on at half and quarter size; three axes
    assert gradient_loss(edge, video, 3) == pytest.approx(0.5 / 9 * (1 / 15 + 1 / 7 + 1 / 3), rel=1e-4)


def test_gradient_loss_of_a_still() -> None:
    assert torch.isfinite(gradient_loss(torch.rand(1, 3, 1, 16, 16), torch.rand(1, 3, 1, 16, 16), 3))


def test_structure_is_one_less_the_similarity_that_clips_are_graded_by() -> None:
    a, b = (torch.rand(1, 3, 5, 16, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in (0, 1))
    assert structure_loss(a, a).item() == pytest.approx(0.0, abs=1e-6)
    assert 1 - structure_loss(a, b).item() == pytest.approx(float(ssim(a, b)[0]), abs=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # 16 bits would drown the variances
        assert 1 - structure_loss(a, b).item() == pytest.approx(float(ssim(a, b)[0]), abs=1e-5)
    model = Autoencoder(TINY)
    plain, weighted = (reconstruction_loss(model, a[..., :16], LossConfig(structure=s), torch.Generator().manual_seed(0)) for s in (0.0, 0.5))
    assert weighted[0].item() == pytest.approx(plain[0].item() + 0.5 * (1 - weighted[1]["ssim"]), rel=1e-5)


def test_joins_are_the_steps_between_latent_frames() -> None:
    model, video = Autoencoder(TINY), torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain, weighted = (reconstruction_loss(model, video, LossConfig(joins=w), torch.Generator().manual_seed(0)) for w in (0.0, 2.0))
    assert weighted[0].item() == pytest.approx(plain[0].item() + 2 * weighted[1]["joins"], rel=1e-5)
    with torch.no_grad():
        exact = LossConfig(noise=0.0, kl=0.0, joins=1.0)
        moments = model.moments(video)
        generator = torch.Generator().manual_seed(3)
        _, figures = reconstruction_loss(model, video, exact, generator)
        generator = torch.Generator().manual_seed(3)
        torch.rand(1, 1, 1, 1, 1, generator=generator)
        decoded = model.reconstruct(moments[0] + torch.randn(moments[0].shape, generator=generator) * (0.5 * moments[1]).exp())
        wrong = (decoded - video)[:, :, 1:] - (decoded - video)[:, :, :-1]
    assert figures["joins"] == pytest.approx(float(wrong[:, :, [0, 4]].abs().mean()), rel=1e-4)
    assert "joins" not in reconstruction_loss(model, video[:, :, :1], exact, generator)[1]  # a still has none


def test_kl_is_zero_for_the_standard_normal_only() -> None:
    zeros = torch.zeros(2, 4)
    assert kl_loss(zeros, zeros) == 0
    assert kl_loss(zeros + 2, zeros) == pytest.approx(2.0)
    assert kl_loss(zeros, zeros - 1) > 0


def test_loss_depends_on_the_generator_alone() -> None:
    torch.manual_seed(0)
    model, video = Autoencoder(TINY), torch.rand(2, 3, 5, 32, 32) * 2 - 1

    def value(seed: int) -> float:
        return reconstruction_loss(model, video, LossConfig(), torch.Generator().manual_seed(seed))[0].item()

    assert value(1) == value(1) != value(2)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    model = Autoencoder(TINY)
    loss, figures = reconstruction_loss(model, torch.rand(2, 3, 9, 32, 32) * 2 - 1, LossConfig(), torch.Generator().manual_seed(0))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert set(figures) == {"l1", "gradient", "kl", "psnr"}


def test_faults() -> None:
    with pytest.raises(ConfigError, match=r"loss\.noise is -1"):
        LossConfig(noise=-1)
    with pytest.raises(ConfigError, match="scales"):
        LossConfig(scales=0)
