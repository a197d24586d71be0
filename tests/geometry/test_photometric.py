from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diorama.geometry import photometric
from diorama.geometry.image_metrics import ssim_map


def pictures(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height)
    image = torch.rand(height, width, 3, generator=generator)
    target = (image + 0.2 * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)
    target[:3, :3] = image[:3, :3]
    weight = torch.rand(height, width, 3, generator=generator) / image.numel()
    return image.requires_grad_(), target, weight


@pytest.mark.parametrize("size", [(20, 33), (11, 11), (5, 40)])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_compiled_equals_plain(size: tuple[int, int], share: float) -> None:
    image, target, weight = pictures(*size)
    results = []
    for measure in (photometric.plain, photometric.compiled):
        image.grad = None
        loss = measure(image, target, weight, share)
        (3 * loss).backward()
        assert image.grad is not None
        results.append((loss.item(), image.grad.clone()))
    (plain, gradient), (value, compiled) = results
    assert value == pytest.approx(plain, rel=1e-5, abs=1e-7)
    assert float((compiled - gradient).norm()) <= 2e-5 * float(gradient.norm())


def test_far_from_the_border_it_is_the_metric() -> None:
    image, target, _ = pictures(24, 30)
    weight = torch.zeros(24, 30, 3)
    weight[5:-5, 5:-5] = 1 / (14 * 20 * 3)
    metric = ssim_map(*(picture.detach().permute(2, 0, 1)[None].double() for picture in (image, target))).mean()
    assert photometric.compiled(image, target, weight, 1.0).item() == pytest.approx(1 - float(metric), abs=1e-5)


def test_equal_pictures_cost_nothing_and_pull_nothing() -> None:
    image, _, weight = pictures(16, 16)
    loss = photometric.compiled(image, image.detach().clone(), weight, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert image.grad is not None
    assert float(image.grad.abs().max()) < 1e-5


def test_pixels_of_no_weight_do_not_count_in_the_difference() -> None:
    image, target, weight = pictures(16, 16)
    weight[4:9] = 0
    other = target.clone()
    other[4:9] = 0.123
    assert photometric.compiled(image, target, weight, 0.0).item() == photometric.compiled(image, other, weight, 0.0).item()
