"""Preferences: which stills make pairs, what the loss moves, and the real loop with real stills at a toy size."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.captioners import tiny_captioner
from tests.train.conftest import MODEL
from tests.train.test_transformer import config, losses

from diorama.data import Text
from diorama.errors import ConfigError, DataError
from diorama.runtime import generator
from diorama.train import preferences
from diorama.train.lora import LoraConfig
from diorama.train.preferences import Drawn, PairBatch, PreferenceConfig, PreferenceTask, StillPair, pairs_of, preference_loss
from diorama.train.transformer import TransformerTrainConfig, train_transformer
from diorama.transformer import Transformer

CPU = torch.device("cpu")
LESSON = PreferenceConfig(weight=1.0, prompts=3, drawn=4, steps=2, margin=0.0, pairs=2)


def drawn(scores: list[float], seed: int = 0, size: tuple[int, int] = (2, 3)) -> Drawn:
    random = generator(seed)
    text = Text(states=torch.randn(5, 24, generator=random), pooled=torch.randn(24, generator=random))
    return Drawn(text=text, latents=torch.randn(len(scores), 4, 1, *size, generator=random).half(), scores=torch.tensor(scores))


def model(seed: int = 1) -> Transformer:
    transformer = Transformer(MODEL)
    random = generator(seed)
    for parameter in transformer.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=random))
    return transformer


def batch() -> PairBatch:
    """Return three pairs of stills of two sizes."""
    wide, tall = drawn([2.0, 0.0, 1.0]), drawn([0.0, 3.0], seed=1, size=(4, 2))
    return PairBatch(pairs=[StillPair(wide, 0, 1), StillPair(tall, 1, 0), StillPair(wide, 2, 1)], times=torch.tensor([0.3, 0.6, 0.9]))


def test_the_best_is_paired_with_the_worst_where_they_differ_clearly() -> None:
    one, other = drawn([0.0, 9.0, 4.0, 5.0, -3.0]), drawn([1.0, 1.5])
    assert [(pair.drawn is one, pair.better, pair.worse) for pair in pairs_of([one, other], 2.0)] == [(True, 1, 4), (True, 3, 0)]
    assert [(pair.better, pair.worse) for pair in pairs_of([one, other], 5.5)] == [(1, 4)]
    assert [(pair.better, pair.worse) for pair in pairs_of([other], 0.1)] == [(1, 0)]
    assert not pairs_of([drawn([1.0, 1.0])], 0.0)


def test_the_loss_is_the_one_of_its_source() -> None:
    now, before, beta = model(1), model(2), 3.0
    errors = {}
    for transformer in (now, before):
        random, found = generator(5), []
        for pair, time in zip(batch().pairs, batch().times, strict=True):
            latents = pair.drawn.latents[[pair.better, pair.worse]].float()
            noise = torch.randn(latents[0].shape, generator=random)
            text = transformer.encode_text(pair.drawn.text.states[None], None, pair.drawn.text.pooled[None])
            for data in latents:
                point = (1 - time) * data + time * noise
                velocity = transformer(transformer.pack([point], [time.expand(1)]), text)
                found.append((velocity - (noise - data).permute(1, 2, 3, 0).flatten(0, 2)).square().mean())
        errors[transformer] = torch.stack(found).view(-1, 2)
    gained = errors[before] - errors[now]
    preferred = gained[:, 0] - gained[:, 1]
    loss, shown = preference_loss(now, before, batch(), generator(5), beta)
    torch.testing.assert_close(shown, preferred, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loss, (4 / beta * torch.log(1 + torch.exp(-beta / 2 * preferred))).mean(), atol=1e-5, rtol=1e-4)
    assert float(shown.abs().min()) > 1e-3


def test_at_the_reference_it_pulls_at_the_difference_of_both_errors_and_better_stills_come_out_preferred() -> None:
    now, before = model(), model()
    loss, preferred = preference_loss(now, before, batch(), generator(0), 100.0)
    assert loss.item() == pytest.approx(4 / 100 * math.log(2), rel=1e-3)
    assert float(preferred.abs().max()) < 1e-5  # other kernels with gradients than without
    optimizer = torch.optim.SGD(now.parameters(), lr=0.01)
    slope = sum(float(gradient.square().sum()) for gradient in torch.autograd.grad(loss, list(now.parameters())))
    optimizer.zero_grad()
    preference_loss(now, before, batch(), generator(0), 100.0)[0].backward()
    step = 1e-2 / math.sqrt(slope)
    for parameter in now.parameters():
        parameter.data -= step * parameter.grad
    _, preferred = preference_loss(now, before, batch(), generator(0), 100.0)
    assert float(preferred.mean()) == pytest.approx(step * slope, rel=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        preference_loss(now, before, batch(), generator(0), 100.0)[0].backward()
        optimizer.step()
    _, preferred = preference_loss(now, before, batch(), generator(0), 100.0)
    assert bool((preferred > 0).all())


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bright stills fit best: a captioner that was taught nothing tells none apart."""
    monkeypatch.setattr(
        preferences, "fitness", lambda models, clips, cues: torch.tensor([float(clip.mean()) + 100 * len(cues[0].prompt) for clip in clips])
    )


def preferring(home: Path, folder: Path, *, steps: int = 4, **lesson: object) -> TransformerTrainConfig:
    """Return a run from a transformer in ``folder``, whose captioner lies beside the text encoder there."""
    if not (folder / "text").exists():
        shutil.copytree(home / "text", folder / "text")
        tiny_captioner().save(folder / "text" / "captioner")
        model().save(folder / "init")
    plain = config(home, steps=steps)
    return replace(plain, init=folder / "init", text_encoder=folder / "text", preference=replace(LESSON, **lesson))  # type: ignore[arg-type]


def test_it_draws_learns_and_resumes_bit_equal(home: Path, tmp_path: Path, bright: None) -> None:
    told: list[tuple[str, int, int]] = []
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_transformer(preferring(home, tmp_path), whole, CPU, progress=lambda *stage: told.append(stage))
    assert ("drawing", 0, 3) in told
    assert "preferred_share" in (whole / "log.jsonl").read_text()
    train_transformer(preferring(home, tmp_path, steps=2), parts, CPU)
    written = {path.name: path.read_bytes() for path in (parts / "drawn").iterdir()}
    assert len(written) == 2
    (parts / "drawn" / "000000.safetensors").unlink()
    train_transformer(preferring(home, tmp_path), parts, CPU)
    assert {path.name: path.read_bytes() for path in (parts / "drawn").iterdir()} == written
    assert losses(whole) == losses(parts)
    plain = replace(preferring(home, tmp_path), preference=PreferenceConfig())
    train_transformer(plain, tmp_path / "plain", CPU)
    assert losses(tmp_path / "plain")[0] < losses(whole)[0]


class Beside:
    """A task that counts."""

    def batch(self, index: int) -> int:
        return index


def test_every_pair_is_shown_once_before_any_is_shown_again() -> None:
    many = [drawn([1.0, 0.0], seed=seed) for seed in range(5)]
    lesson = PreferenceTask(Beside(), model(), many, LESSON, lambda random, tokens: torch.rand(1, generator=random) + tokens)  # type: ignore[arg-type]
    batches = [lesson.batch(index) for index in range(5)]
    assert [batch.inner for batch in batches] == list(range(5))
    assert Counter(Counter(id(pair.drawn) for batch in batches for pair in batch.pairs.pairs).values()) == {2: 5}
    assert all(6 <= time < 7 for batch in batches for time in batch.pairs.times.tolist())
    assert len({time for batch in batches for time in batch.pairs.times.tolist()}) == 10
    assert torch.equal(lesson.batch(3).pairs.times, batches[3].pairs.times)


def test_what_cannot_be_is_refused(home: Path, tmp_path: Path) -> None:
    for wrong in ({"prompts": 0}, {"steps": 0}, {"pairs": 0}, {"drawn": 1}, {"weight": -1.0}, {"margin": math.inf}, {"beta": 0.0}):
        with pytest.raises(ConfigError, match=rf"{next(iter(wrong))}"):
            PreferenceConfig(**wrong)  # type: ignore[arg-type]
    wanted = preferring(home, tmp_path)
    with pytest.raises(ConfigError, match="lora freezes it"):
        replace(wanted, lora=LoraConfig())
    with pytest.raises(ConfigError, match="random weights; give init or base"):
        replace(wanted, init=None)
    with pytest.raises(ConfigError, match="needs a captioner"):
        train_transformer(replace(wanted, text_encoder=home / "text"), tmp_path / "none", CPU)
    with pytest.raises(DataError, match=r"no two stills of 3 captions differ by preference.margin 1e\+06"):
        train_transformer(preferring(home, tmp_path, margin=1e6), tmp_path / "run", CPU)
    with pytest.raises(ConfigError, match="holds stills drawn by another model"):
        train_transformer(preferring(home, tmp_path, steps=1, drawn=5), tmp_path / "run", CPU)
