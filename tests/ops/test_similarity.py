from __future__ import annotations

import numpy as np
import pytest
import torch

from diorama.ops.similarity import similarity_map, window


def test_ssim_follows_its_definition_at_one_place() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.random((11, 11)), rng.random((11, 11))
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weight = np.outer(bell, bell) / bell.sum() ** 2
    mx, my = (weight * x).sum(), (weight * y).sum()
    vx, vy, cov = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum(), (weight * (x - mx) * (y - my)).sum()
    expected = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    found = similarity_map(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None])
    assert found.shape == (1, 1, 1, 1)
    assert float(found) == pytest.approx(expected)
    np.testing.assert_allclose(window(), bell / bell.sum(), rtol=1e-6)


def test_a_window_that_reaches_over_the_edge_sees_black_there() -> None:
    a = torch.rand(1, 2, 14, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b = a.flip(-1)
    whole = similarity_map(a, b, padding=5)
    assert whole.shape == a.shape
    torch.testing.assert_close(whole[..., 5:-5, 5:-5], similarity_map(a, b))
    torch.testing.assert_close(whole, similarity_map(*(torch.nn.functional.pad(picture, (5, 5, 5, 5)) for picture in (a, b))))


def test_ssim_knows_equal_from_noisy_and_is_differentiable() -> None:
    a = torch.rand(1, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b = a.flip(-1)
    assert float(similarity_map(a, a).mean()) == pytest.approx(1)
    assert float(similarity_map(a, b).mean()) < 0.5
    assert torch.autograd.gradcheck(lambda v: similarity_map(a[..., :12, :12], v).mean(), b[..., :12, :12].clone().requires_grad_())
