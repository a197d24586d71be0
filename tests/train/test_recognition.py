"""The third lesson: what is predicted must be read as what is there, by a net that learns from the truth alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from diorama.data.coverage import KINDS
from diorama.errors import ConfigError
from diorama.runtime import generator
from diorama.train.recognition import RECOGNISED, Lesson, Recogniser, RecognitionConfig, learn_ahead, reading_loss, recognition_loss

GRIDS = [(2, 3, 4), (1, 3, 4), (1, 2, 2)]
LENGTH = 2 * 12 + 12 + 4


def tokens(seed: int) -> torch.Tensor:
    return torch.randn(LENGTH, 6, generator=generator(seed))


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


def lesson(clean: torch.Tensor, *, kinds: torch.Tensor | None = None, weights: torch.Tensor | None = None) -> Lesson:
    known = torch.randint(0, 4, (LENGTH, len(KINDS)), generator=generator(3)) if kinds is None else kinds
    return Lesson(clean=clean, grids=GRIDS, kinds=known, weights=torch.ones(LENGTH) if weights is None else weights)


def test_the_transformer_hears_of_predictions_and_the_net_of_the_truth() -> None:
    net, predicted, truth = Recogniser(6, 8), tokens(1).requires_grad_(), lesson(tokens(0))
    recognised, heard = recognition_loss(net, predicted, truth)
    recognised.backward()
    assert predicted.grad is not None
    assert float(predicted.grad.abs().min(1).values.max()) > 0
    assert all(parameter.grad is None for parameter in net.parameters())
    read, known = reading_loss(net, truth)
    read.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert set(heard) == {f"recognised_{name}" for name in RECOGNISED}
    assert set(known) == {f"read_{name}" for name in RECOGNISED}
    expected = sum(functional.cross_entropy(logits, truth.kinds[:, i]) for i, logits in enumerate(net(truth.clean, GRIDS))) / 2
    torch.testing.assert_close(read, torch.as_tensor(expected))
    torch.testing.assert_close(recognition_loss(net, truth.clean, truth)[0], read)


def test_what_is_not_known_or_was_not_to_be_predicted_does_not_count() -> None:
    net, clean = Recogniser(6, 8), tokens(0)
    loss, figures = reading_loss(net, lesson(clean, kinds=torch.full((LENGTH, len(KINDS)), -1)))
    assert (loss.item(), figures) == (0.0, {})
    weights = (torch.arange(LENGTH) < 24).float()
    one = lesson(clean, weights=weights)
    other = one.kinds.clone()
    other[24:] = 1
    torch.testing.assert_close(reading_loss(net, one)[0], reading_loss(net, lesson(clean, weights=weights, kinds=other))[0])


def test_clips_are_blurred_each_to_its_own_degree() -> None:
    clear = lesson(tokens(0))
    assert torch.equal(clear.blurred(0.0, generator(0)).clean, clear.clean)
    # What is left of each clip: the regression on the clear one is 1 minus its flow time.
    left = [
        float((a * b).mean() / (b * b).mean())
        for a, b in zip(
            torch.split(lesson(100 * tokens(0)).blurred(0.5, generator(0)).clean, [24, 12, 4]), torch.split(100 * tokens(0), [24, 12, 4]), strict=True
        )
    ]
    assert all(0.49 < share < 1.01 for share in left)
    assert len({round(share, 2) for share in left}) == 3


def test_a_net_that_learned_ahead_pulls_a_prediction_between_two_answers_to_the_one_that_is_there() -> None:
    """Two kinds whose clean tokens differ: a prediction half way moves towards the kind of its place, which a net at random would not do."""
    net = Recogniser(6, 16)
    signs = torch.where(torch.rand(64, generator=generator(5)) < 0.5, -1.0, 1.0)
    truth = (1.5 + signs / 2).long()[:, None].expand(-1, len(KINDS))
    known = Lesson(clean=signs[:, None] * torch.ones(64, 6), grids=[(64, 1, 1)], kinds=truth, weights=torch.ones(64))
    assert learn_ahead(net, [], 0) == {}
    figures = learn_ahead(net, [known] * 40, 40)
    assert figures == {"read_shape": 1.0, "read_color": 1.0}
    predicted = torch.zeros(64, 6, requires_grad=True)
    recognition_loss(net, predicted, known)[0].backward()
    assert predicted.grad is not None
    assert bool((-predicted.grad.mean(1) * signs > 0).all())


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"weight": float("inf")}, {"width": 0}, {"blur": 1.0}, {"ahead": -1}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"recognition\.{next(iter(wrong))} is"):
        RecognitionConfig(**wrong)  # type: ignore[arg-type]
