"""Frames count once, whatever their size; clean frames not at all."""

from __future__ import annotations

import pytest
import torch

from diorama import flow


def test_frames_of_any_size_weigh_the_same() -> None:
    predicted = torch.cat([torch.ones(2, 3), 3 * torch.ones(6, 3)])
    target = torch.zeros(8, 3)
    sizes = torch.tensor([2, 6])
    torch.testing.assert_close(flow.frame_losses(predicted, target, sizes), torch.tensor([1.0, 9.0]))
    assert float(flow.velocity_loss(predicted, target, sizes, torch.tensor([True, True]))) == pytest.approx(5.0)


def test_weights_count_within_a_frame() -> None:
    predicted, target = torch.tensor([[1.0], [3.0], [2.0]]), torch.zeros(3, 1)
    losses = flow.frame_losses(predicted, target, torch.tensor([2, 1]), torch.tensor([3.0, 1.0, 5.0]))
    torch.testing.assert_close(losses, torch.tensor([(3 * 1 + 1 * 9) / 4, 4.0]))
    torch.testing.assert_close(flow.frame_losses(predicted, target, torch.tensor([2, 1]), torch.ones(3)), torch.tensor([5.0, 4.0]))


def test_masked_frames_have_no_gradient() -> None:
    predicted = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = flow.velocity_loss(predicted, torch.zeros(8, 3), torch.tensor([2, 6]), torch.tensor([False, True]))
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad[:2].eq(0).all()
    assert predicted.grad[2:].ne(0).all()
    torch.testing.assert_close(loss.detach(), predicted.detach()[2:].square().mean())


def test_nothing_to_count_is_zero() -> None:
    ones = torch.ones(4, 2)
    assert float(flow.velocity_loss(ones, 0 * ones, torch.tensor([4]), torch.tensor([False]))) == 0
