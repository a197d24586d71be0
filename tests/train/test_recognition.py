"""The third lesson: what is predicted must be read as what is there, by a net that learns from the truth alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from diorama.data.coverage import KINDS
from diorama.errors import ConfigError
from diorama.runtime import generator
from diorama.train.recognition import RECOGNISED, Recogniser, RecognitionConfig, recognition_loss

GRIDS = [(2, 3, 4), (1, 3, 4), (1, 2, 2)]
LENGTH = 2 * 12 + 12 + 4


def tokens(seed: int) -> torch.Tensor:
    return torch.randn(LENGTH, 6, generator=generator(seed))


def kinds() -> torch.Tensor:
    return torch.randint(0, 4, (LENGTH, len(KINDS)), generator=generator(3))


def test_clips_and_frames_are_read_by_themselves_and_neighbours_are_seen() -> None:
    net, whole = Recogniser(6, 8), tokens(0)
    answers = net(whole, GRIDS)
    assert [logits.shape for logits in answers] == [(LENGTH, 1 + len(KINDS[name])) for name in RECOGNISED]
    parts = ((0, (1, 3, 4)), (12, (1, 3, 4)), (24, (1, 3, 4)), (36, (1, 2, 2)))
    alone = torch.cat([net(whole[begin : begin + h * w], [(f, h, w)])[0] for begin, (f, h, w) in parts])
    torch.testing.assert_close(answers[0], alone)
    moved = whole.clone()
    moved[0] += 1  # the upper left corner of the first frame
    changed = (net(moved, GRIDS)[0] != answers[0]).any(1)
    assert changed[:12].reshape(3, 4)[0, 2]
    assert not changed[12:].any()


def test_the_transformer_hears_of_predictions_and_the_net_of_the_truth() -> None:
    net, clean, predicted = Recogniser(6, 8), tokens(0), tokens(1).requires_grad_()
    weights = torch.ones(LENGTH)
    recognised, read, figures = recognition_loss(net, clean, predicted, GRIDS, kinds(), weights)
    recognised.backward(retain_graph=True)
    assert predicted.grad is not None
    assert float(predicted.grad.abs().min(1).values.max()) > 0
    assert all(parameter.grad is None for parameter in net.parameters())
    before = predicted.grad.clone()
    read.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    torch.testing.assert_close(predicted.grad, before)
    assert set(figures) == {f"{verb}_{name}" for verb in ("recognised", "read") for name in RECOGNISED}
    expected = sum(functional.cross_entropy(logits, kinds()[:, i]) for i, logits in enumerate(net(clean, GRIDS))) / 2
    torch.testing.assert_close(read, torch.as_tensor(expected))


def test_what_is_not_known_or_was_not_to_be_predicted_does_not_count() -> None:
    net, clean, predicted = Recogniser(6, 8), tokens(0), tokens(1)
    unknown = torch.full((LENGTH, len(KINDS)), -1)
    recognised, read, figures = recognition_loss(net, clean, predicted, GRIDS, unknown, torch.ones(LENGTH))
    assert (recognised.item(), read.item(), figures) == (0.0, 0.0, {})
    weights = (torch.arange(LENGTH) < 24).float()
    other = kinds()
    other[24:] = 1
    torch.testing.assert_close(
        recognition_loss(net, clean, predicted, GRIDS, kinds(), weights)[:2], recognition_loss(net, clean, predicted, GRIDS, other, weights)[:2]
    )


def test_it_pulls_a_prediction_between_two_answers_to_the_one_that_is_there() -> None:
    """Two kinds whose clean tokens differ: a prediction half way moves towards the kind of its place, which a net at random would not do."""
    net = Recogniser(6, 16)
    signs = torch.where(torch.rand(64, generator=generator(5)) < 0.5, -1.0, 1.0)
    clean = signs[:, None] * torch.ones(64, 6)
    truth = (1.5 + signs / 2).long()[:, None].expand(-1, len(KINDS))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        recognition_loss(net, clean, clean, [(64, 1, 1)], truth, torch.ones(64))[1].backward()
        optimizer.step()
    predicted = torch.zeros(64, 6, requires_grad=True)
    recognition_loss(net, clean, predicted, [(64, 1, 1)], truth, torch.ones(64))[0].backward()
    assert predicted.grad is not None
    assert bool((-predicted.grad.mean(1) * signs > 0).all())


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"weight": float("inf")}, {"width": 0}, {"blur": 1.0}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"recognition\.{next(iter(wrong))} is"):
        RecognitionConfig(**wrong)  # type: ignore[arg-type]
