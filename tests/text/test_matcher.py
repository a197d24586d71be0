"""The matcher's form: words hold or do not, padding says nothing, files round-trip; its skill is measured by training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.errors import CheckpointError, ConfigError
from diorama.text.matcher import Matcher, MatcherConfig

TINY = MatcherConfig(area=1024, widths=(8, 8, 16), blocks=1, text_width=12, num_heads=2, depth=2)


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Matcher(TINY).eval()
        made.objection.weight.data.normal_()
    return made


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((32, 32), (24, 48), (96, 48))]


def test_before_training_a_sentence_holds_as_often_as_not() -> None:
    mask = torch.ones(1, 1, 40, dtype=torch.bool)
    words = Matcher(TINY)(torch.randn(1, 9, 16), torch.randn(1, 1, 40, 12), mask)
    assert float(words.detach().sum().exp()) == pytest.approx(0.48, abs=0.02)


def test_texts_of_a_picture_do_not_see_each_other_nor_padding(matcher: Matcher) -> None:
    cells = matcher.watch(torch.rand(2, 3, 32, 48) * 2 - 1)
    assert cells.shape == (2, 24, 16)
    states, mask = torch.randn(2, 3, 5, 12), torch.ones(2, 3, 5, dtype=torch.bool)
    mask[:, 1, 3:] = False
    words = matcher(cells, states, mask)
    assert words.shape == (2, 3, 5)
    assert bool((words <= 0).all())
    assert bool((words[:, 1, 3:] == 0).all())
    alone = matcher(cells[1:], states[1:, 1:2, :3], mask[1:, 1:2, :3])
    torch.testing.assert_close(alone[0, 0], words[1, 1, :3])


def test_a_score_is_that_of_each_picture_alone_at_its_own_size(matcher: Matcher) -> None:
    states, mask = torch.randn(6, 12), torch.tensor([True] * 4 + [False] * 2)
    scores = matcher.score(pictures(), states, mask)
    assert scores.shape == (3,)
    assert len(set(scores.tolist())) == 3
    torch.testing.assert_close(matcher.score(pictures()[1:2], states, mask), scores[1:2])
    torch.testing.assert_close(matcher.score(pictures(), states[:4], mask[:4]), scores)


def test_it_learns_which_words_belong_to_which_picture() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        learner, states = Matcher(TINY), torch.randn(1, 2, 3, 12).expand(2, 2, 3, 12)
    shown = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])[:, :, None, None].expand(2, 3, 32, 32)
    mask, optimizer = torch.ones(2, 2, 3, dtype=torch.bool), torch.optim.Adam(learner.parameters(), 3e-3)
    for _ in range(60):
        match = learner(learner.watch(shown), states, mask).sum(-1)
        loss = torch.nn.functional.cross_entropy(match, torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    red, blue = (np.broadcast_to(np.array(color, np.uint8), (32, 32, 3)) for color in ((255, 0, 0), (0, 0, 255)))
    assert learner.score([red, blue], states[0, 0], mask[0, 0]).argmax() == 0
    assert learner.score([red, blue], states[0, 1], mask[0, 1]).argmax() == 1


def test_a_saved_matcher_reads_back_within_a_byte(matcher: Matcher, tmp_path: Path) -> None:
    matcher.save(tmp_path / "m")
    again = Matcher.load(tmp_path / "m")
    assert again.config == TINY
    for one, two in zip(matcher.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.detach(), two, atol=float(one.detach().abs().max()) / 120, rtol=1e-3)


def test_what_cannot_be_a_matcher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too small"):
        MatcherConfig(depth=0)
    with pytest.raises(ConfigError, match="heads"):
        MatcherConfig(widths=(8, 8, 20))
    with pytest.raises((CheckpointError, ConfigError), match="config"):
        Matcher.load(tmp_path)
