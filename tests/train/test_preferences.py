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

from diorama.checkpoint import load_file
from diorama.data import Sample, ShardSet, Text, write_shard
from diorama.errors import ConfigError, DataError
from diorama.runtime import generator
from diorama.train import preferences
from diorama.train.lora import LoraConfig
from diorama.train.preferences import Drawn, Pair, PairBatch, PreferenceConfig, PreferenceTask, pairs_of, preference_loss
from diorama.train.transformer import TransformerTrainConfig, train_transformer
from diorama.transformer import Transformer

CPU = torch.device("cpu")
LESSON = PreferenceConfig(weight=1.0, prompts=3, drawn=4, takes=2, steps=2, margin=0.0, tokens=40)


def drawn(scores: list[float], seed: int = 0, size: tuple[int, int, int] = (1, 2, 3)) -> Drawn:
    random = generator(seed)
    text = Text(states=torch.randn(5, 24, generator=random), pooled=torch.randn(24, generator=random))
    return Drawn(text=text, latents=torch.randn(len(scores), 4, *size, generator=random).half(), scores=torch.tensor(scores), fps=8.0)


def model(seed: int = 1) -> Transformer:
    transformer = Transformer(MODEL)
    random = generator(seed)
    for parameter in transformer.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=random))
    return transformer


def batch() -> PairBatch:
    """Return two pairs of stills, and one of takes between them."""
    wide, tall = drawn([2.0, 0.0, 1.0]), drawn([0.0, 3.0], seed=1, size=(3, 4, 2))
    return PairBatch(pairs=[Pair(wide, 0, 1), Pair(tall, 1, 0), Pair(wide, 2, 1)], times=torch.tensor([0.3, 0.6, 0.9]))


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
            times = torch.tensor([0.0, time, time])[-latents.shape[2] :] if latents.shape[2] > 1 else time[None]
            text = transformer.encode_text(pair.drawn.text.states[None], None, pair.drawn.text.pooled[None])
            for data in latents:
                point = torch.lerp(data, noise, times[:, None, None])
                velocity = transformer(transformer.pack([point], [times], fps=8.0), text)
                wrong = (velocity - (noise - data).permute(1, 2, 3, 0).flatten(0, 2)).square().unflatten(0, (len(times), -1))
                found.append(wrong[times > 0].mean())  # a given frame does not count
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
    assert ("drawing", 3, 3) in told
    assert "preferred_share" in (whole / "log.jsonl").read_text()
    train_transformer(preferring(home, tmp_path, steps=2), parts, CPU)
    first = load_file(parts / "drawn" / "000000-000003.safetensors")[0]
    clips = [number for number in range(3) if f"{number}.takes" in first]
    assert clips
    for number in clips:  # takes have the best still in common, and nothing else
        best = first[f"{number}.stills"][int(first[f"{number}.stills_scores"].argmax())]
        takes = first[f"{number}.takes"]
        assert takes.shape[0] == 2
        assert takes.shape[2] > 1
        assert all(torch.equal(take[:, :1], best) for take in takes)
        assert not torch.equal(takes[0], takes[1])
    written = {path.name: path.read_bytes() for path in (parts / "drawn").iterdir()}
    assert len(written) == 2
    (parts / "drawn" / "000000-000003.safetensors").unlink()
    train_transformer(preferring(home, tmp_path), parts, CPU)
    assert {path.name: path.read_bytes() for path in (parts / "drawn").iterdir()} == written
    assert losses(whole) == losses(parts)
    train_transformer(preferring(home, tmp_path, prompts=2, steps=5), parts, CPU)
    assert {path.name for path in (parts / "drawn").iterdir()} == {*written, "000000-000002.safetensors"}
    plain = replace(preferring(home, tmp_path), preference=PreferenceConfig())
    train_transformer(plain, tmp_path / "plain", CPU)
    assert losses(tmp_path / "plain")[0] < losses(whole)[0]


def sample(home: Path, index: int) -> Sample:
    shards = ShardSet(home / "shards")
    frames, record = shards.read(index)
    return Sample(key=shards.info(index).key, frames=frames, fps=12.0, record=record)


class Beside:
    """A task that counts."""

    def batch(self, index: int) -> int:
        return index


def test_batches_hold_as_many_pairs_as_they_have_room_for() -> None:
    many = [drawn([1.0, 0.0], seed=seed) for seed in range(5)] + [drawn([0.0, 1.0], size=(3, 4, 4))]
    lesson = PreferenceTask(Beside(), model(), many, LESSON, lambda random, tokens: torch.rand(1, generator=random) + tokens)  # type: ignore[arg-type]
    batches = [lesson.batch(index) for index in range(40)]
    assert [batch.inner for batch in batches] == list(range(40))
    sizes = [[math.prod(pair.drawn.latents.shape[2:]) for pair in batch.pairs.pairs] for batch in batches]
    assert {tuple(size) for size in sizes} == {(6, 6, 6), (6, 6), (6,), (48,)}  # 48 do not fit in, and are shown alone
    assert all([int(time) for time in batch.pairs.times.tolist()] == size for batch, size in zip(batches, sizes, strict=True))
    shown = Counter(id(pair.drawn) for batch in batches for pair in batch.pairs.pairs)
    assert len(shown) == 6
    again = lesson.batch(3)
    assert [id(pair) for pair in again.pairs.pairs] == [id(pair) for pair in batches[3].pairs.pairs]
    assert torch.equal(again.pairs.times, batches[3].pairs.times)


def test_what_cannot_be_is_refused(home: Path, tmp_path: Path) -> None:
    for wrong in ({"prompts": 0}, {"steps": 0}, {"tokens": 0}, {"drawn": 1}, {"takes": 1}, {"weight": -1.0}, {"margin": math.inf}, {"beta": 0.0}):
        with pytest.raises(ConfigError, match=rf"{next(iter(wrong))}"):
            PreferenceConfig(**wrong)  # type: ignore[arg-type]
    wanted = preferring(home, tmp_path)
    with pytest.raises(ConfigError, match="lora freezes it"):
        replace(wanted, lora=LoraConfig())
    with pytest.raises(ConfigError, match="random weights; give init or base"):
        replace(wanted, init=None)
    with pytest.raises(ConfigError, match="needs a captioner"):
        train_transformer(replace(wanted, text_encoder=home / "text"), tmp_path / "none", CPU)
    with pytest.raises(DataError, match=r"of 3 captions no two stills differ by preference.margin 1e\+06"):
        train_transformer(preferring(home, tmp_path, margin=1e6), tmp_path / "run", CPU)
    with pytest.raises(ConfigError, match="holds what another model drew"):
        train_transformer(preferring(home, tmp_path, steps=1, drawn=5), tmp_path / "run", CPU)
    same = preferring(home, tmp_path, margin=1e6)
    write_shard(tmp_path / "others", 0, [replace(sample(home, index), key=f"other{index}") for index in range(4)])
    with pytest.raises(ConfigError, match="of other captions"):
        train_transformer(replace(same, data=replace(same.data, shards=(tmp_path / "others",))), tmp_path / "run", CPU)
