from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diorama.geometry.gaussians import Gaussians, View
from diorama.geometry.rasterise_plain import BLUR, MAX_ALPHA, MIN_ALPHA, SH_C0, project, rasterise, rotations


def view(width: int = 40, height: int = 24) -> View:
    return View(world_to_camera=np.eye(4), focal=(50.0, 45.0), center=(width / 2 + 1.5, height / 2 - 0.5), width=width, height=height)


def gaussian(mean: tuple[float, float, float], scale: float, opacity: float, color: tuple[float, float, float]) -> Gaussians:
    return Gaussians(
        means=torch.tensor([mean], dtype=torch.float64),
        log_scales=torch.full((1, 3), math.log(scale), dtype=torch.float64),
        quaternions=torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64),
        logits=torch.tensor([math.log(opacity / (1 - opacity))], dtype=torch.float64),
        sh=((torch.tensor([[color]], dtype=torch.float64) - 0.5) / SH_C0),
    )


def test_one_gaussian_is_the_formula() -> None:
    lens, depth, scale = view(), 4.0, 0.3
    color = (0.8, 0.4, 0.1)
    image, light = rasterise(gaussian((0.1, -0.05, depth), scale, 0.9, color), lens)
    x, y = 50.0 * 0.1 / depth + lens.center[0], 45.0 * -0.05 / depth + lens.center[1]
    # J = [[f / z, 0, -f x / z^2], ...] of a ball: variances and covariance on the picture
    tx, ty = 0.1 / depth, -0.05 / depth
    xx, yy = (50 * scale / depth) ** 2 * (1 + tx * tx) + BLUR, (45 * scale / depth) ** 2 * (1 + ty * ty) + BLUR
    xy = 50 * 45 * (scale / depth) ** 2 * tx * ty
    inverse = np.linalg.inv([[xx, xy], [xy, yy]])
    for row in range(24):
        for column in range(40):
            d = np.array([column + 0.5 - x, row + 0.5 - y])
            alpha = 0.9 * math.exp(-0.5 * d @ inverse @ d)
            alpha = alpha if alpha >= MIN_ALPHA else 0.0
            assert float(light[row, column]) == pytest.approx(1 - alpha, abs=1e-12)
            assert image[row, column].tolist() == pytest.approx([alpha * value for value in color], abs=1e-12)


def test_the_nearer_one_covers_whatever_the_order_in_the_cloud() -> None:
    near, far = gaussian((0, 0, 2), 0.2, 0.8, (1.0, 0, 0)), gaussian((0, 0, 3), 0.4, 0.7, (0, 1.0, 0))
    first, light = rasterise(near.joined(far), view())
    second, _ = rasterise(far.joined(near), view())
    alone_near, light_near = rasterise(near, view())
    alone_far, light_far = rasterise(far, view())
    assert torch.equal(first, second)
    assert torch.allclose(first, alone_near + light_near[..., None] * alone_far)
    assert torch.allclose(light, light_near * light_far)


def test_what_is_behind_the_camera_or_transparent_or_outside_is_not_drawn() -> None:
    unseen = (
        gaussian((0, 0, -2), 0.2, 0.8, (1.0, 1, 1))
        .joined(gaussian((0, 0, 2), 0.2, 0.003, (1.0, 1, 1)))
        .joined(gaussian((9, 0, 2), 0.2, 0.8, (1.0, 1, 1)))
    )
    image, light = rasterise(unseen, view())
    assert torch.equal(image, torch.zeros_like(image))
    assert torch.equal(light, torch.ones_like(light))
    boxes = project(unseen, view()).boxes
    assert bool((boxes[:, 2] < boxes[:, 0]).all())


def test_light_stops_at_a_ten_thousandth() -> None:
    cloud = gaussian((0, 0, 2), 5.0, 0.9, (1.0, 1, 1))
    for depth in (3, 4, 5, 6, 7):
        cloud = cloud.joined(gaussian((0, 0, depth), 5.0, 0.9, (1.0, 1, 1)))
    _, light = rasterise(cloud, view())
    assert float(light.min()) > 1e-4
    assert float(light.max()) < 2e-3


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    clouds = [gaussian((0.3 * math.sin(k), 0.2 * math.cos(2 * k), 2 + 0.3 * k), 0.1 + 0.05 * k, 0.6, (0.2 * k, 0.5, 0.9)) for k in range(2)]
    cloud = clouds[0].joined(clouds[1])
    sh = torch.cat([cloud.sh, 0.3 * torch.randn(2, 3, 3, dtype=torch.float64)], 1)
    quaternions = torch.randn(2, 4, dtype=torch.float64)
    scales = cloud.log_scales + 0.5 * torch.randn(2, 3, dtype=torch.float64)
    weight = torch.randn(16, 30, 3, dtype=torch.float64)

    def total(means: torch.Tensor, log_scales: torch.Tensor, turns: torch.Tensor, logits: torch.Tensor, colors: torch.Tensor) -> torch.Tensor:
        image, light = rasterise(Gaussians(means=means, log_scales=log_scales, quaternions=turns, logits=logits, sh=colors), view(30, 16))
        # where alpha crosses 1 / 255 the picture jumps: those pixels say nothing about gradients
        return (image * weight)[light < 0.9].sum()

    inputs = [tensor.detach().requires_grad_() for tensor in (cloud.means, scales, quaternions, cloud.logits, sh)]
    assert torch.autograd.gradcheck(total, inputs, eps=1e-7, atol=1e-4, rtol=1e-3, nondet_tol=0)


def test_alpha_has_a_maximum() -> None:
    _, light = rasterise(gaussian((0, 0, 2), 5.0, 0.9999, (1.0, 1, 1)), view())
    assert float(light.min()) == pytest.approx(1 - MAX_ALPHA)


def test_rotations_turn() -> None:
    turn = rotations(torch.tensor([[2.0 * math.cos(0.25), 0, 0, 2.0 * math.sin(0.25)]]))[0]
    expected = torch.tensor([[math.cos(0.5), -math.sin(0.5), 0], [math.sin(0.5), math.cos(0.5), 0], [0, 0, 1]])
    assert torch.allclose(turn, expected, atol=1e-6)
