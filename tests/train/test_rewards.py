"""Rewards: what is drawn, what a look makes of it, where its gradient goes, and the real loop at a toy size."""

from __future__ import annotations

import math
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.captioners import tiny_captioner
from tests.train.conftest import MODEL
from tests.train.test_transformer import config, losses, task

from diorama.autoencoder import Autoencoder
from diorama.autoencoder.config import AutoencoderConfig
from diorama.data import Sample, Text, write_shard
from diorama.errors import ConfigError, DataError
from diorama.flow import Guidance, combine, sample, schedule
from diorama.ops.eye import shrink
from diorama.runtime import generator
from diorama.text.captioner import Captioner
from diorama.train.judge import spoil
from diorama.train.lora import LoraConfig
from diorama.train.rewards import Critic, RewardBatch, RewardConfig, RewardTask, expected, reward_loss
from diorama.train.transformer import TransformerTrainConfig, train_transformer
from diorama.transformer import Transformer
from diorama.worlds.words import SYNONYMS

CPU = torch.device("cpu")
LESSON = RewardConfig(weight=1.0, tokens=12, steps=3)


def model(seed: int = 1) -> Transformer:
    transformer = Transformer(MODEL)
    chance = generator(seed)
    for parameter in transformer.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=chance))
    return transformer


def text(seed: int) -> Text:
    chance = generator(seed)
    return Text(states=torch.randn(3 + seed, 24, generator=chance), pooled=torch.randn(24, generator=chance))


def critic() -> Critic:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = Autoencoder(AutoencoderConfig(z_dim=4, widths=(8, 8, 8))).eval().requires_grad_(False)
    return Critic(autoencoder, tiny_captioner(), SYNONYMS)


def batch(frames: int = 1, steps: int = 1) -> RewardBatch:
    """Return two stills, or clips, that stop after some steps of three."""
    return RewardBatch(
        latents=torch.randn(2, 4, frames, 2, 3, generator=generator(7)),
        texts=[text(1), text(2)],
        captions=[(0, "red ball"), (1, "blue cube")],
        fps=[8.0, 12.0],
        visited=schedule(3).tolist()[: 1 + steps],
        looks=[[0], [0]] if frames == 1 else [[1, 3], [2, 8]],
        seed=11,
    )


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("steps", [1, 2])
def test_data_are_expected_where_a_user_s_clip_would_pass(frames: int, steps: int) -> None:
    transformer, drawn, empty, guidance = model(), batch(frames, steps), text(3), Guidance(scale=3.0)
    found = expected(transformer, drawn, empty, generator(5), guidance)
    noise = torch.randn(drawn.latents.shape, generator=generator(5))
    start = torch.ones(frames, 1, 1)
    start[: frames > 1] = 0
    for i, heard in enumerate(drawn.texts):
        texts = [transformer.encode_text(one.states[None], None, one.pooled[None]) for one in (heard, empty)]
        velocities = list[torch.Tensor]()

        def velocity(
            x: torch.Tensor, times: torch.Tensor, texts: list[object] = texts, i: int = i, kept: list[torch.Tensor] = velocities
        ) -> torch.Tensor:
            pack = transformer.pack([x], [times.flatten()], fps=drawn.fps[i])
            one, other = (transformer(pack, said).unflatten(0, x.shape[1:]).permute(3, 0, 1, 2) for said in texts)  # type: ignore[arg-type]
            kept.append(combine(one, other, guidance))
            return kept[-1]

        points = [torch.where(start == 0, drawn.latents[i], noise[i])]
        sample(velocity, points[0], start, schedule(3), passed=points.append)
        # The sampler's own next velocity is that of the point where the batch stops.
        torch.testing.assert_close(found[i], points[steps] - start * drawn.visited[-1] * velocities[steps], atol=1e-4, rtol=1e-3)
    if frames > 1:
        assert torch.equal(found[:, :, 0], drawn.latents[:, :, 0])


def test_gradients_reach_the_velocity_with_captions_alone() -> None:
    transformer = model()
    found = expected(transformer, batch(), text(3), generator(5), Guidance(scale=3.0))
    whole = torch.autograd.grad(found.sum(), list(transformer.parameters()))
    assert all(float(part.abs().sum()) > 0 for part in whole)
    drawn, empty = batch(steps=2), text(3)
    for one in (*drawn.texts, empty):
        one.states.requires_grad_()
    found = expected(transformer, drawn, empty, generator(5), Guidance(scale=3.0))
    *heard, unheard = torch.autograd.grad(found.sum(), [*(one.states for one in drawn.texts), empty.states], allow_unused=True)
    assert all(gradient is not None and float(gradient.abs().sum()) > 0 for gradient in heard)
    assert unheard is None


def test_a_look_tells_a_caption_from_those_with_other_shapes() -> None:
    looking, drawn = critic(), batch(frames=3)
    likely = looking(drawn.latents, drawn)
    captioner = looking.captioner
    video = looking.autoencoder.decode(drawn.latents)
    frames = torch.stack([video[0, :, 1], video[0, :, 3], video[1, :, 2], video[1, :, 8]])
    seen = captioner.watch(spoil(shrink(frames, 1024)[:, None], random.Random(11), generator(11)))
    said = [
        ["red ball", "red cube", "red cylinder", "red cone", "red capsule"],
        ["blue cube", "blue ball", "blue cylinder", "blue cone", "blue capsule"],
    ]
    for place, (owner, kind) in enumerate([(0, "dense"), (0, "dense"), (1, "short"), (1, "short")]):
        scores = torch.stack([captioner.likelihood(seen[place : place + 1], words, kind).sum() for words in said[owner]])  # type: ignore[arg-type]
        assert float(likely[place]) == pytest.approx(float(scores.log_softmax(0)[0]), abs=1e-4)
    unnamed = replace(drawn, captions=[(0, "red"), (0, "red ball")])
    assert looking(drawn.latents, unnamed)[:2].tolist() == [0, 0]


@pytest.mark.parametrize("frames", [1, 3])
def test_what_is_drawn_comes_to_fit_its_captions(frames: int) -> None:
    transformer, looking = model(), critic()
    optimizer = torch.optim.SGD(transformer.parameters(), lr=0.0)

    def loss() -> torch.Tensor:
        return reward_loss(transformer, looking, batch(frames), text(3), generator(5), 3.0)[0]

    first = loss()
    assert float(first.detach()) > 0
    first.backward()
    slope = sum(float(parameter.grad.square().sum()) for parameter in transformer.parameters() if parameter.grad is not None)
    optimizer.param_groups[0]["lr"] = 1e-3 / math.sqrt(slope)
    optimizer.step()
    # The gradient leaves out how earlier steps and the velocity without captions would change, so the fall is near its slope, not equal to it.
    fallen = float(first.detach() - loss().detach())
    assert fallen > 0.2e-3 * math.sqrt(slope)


def test_where_the_sample_itself_leaves_doubt_nothing_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    looking, answers = critic(), [torch.tensor([0.0, -200.0]), torch.tensor([-1.0, -2.0], requires_grad=True)]
    monkeypatch.setattr(looking, "forward", lambda latents, drawn: answers.pop(0))
    loss, figures = reward_loss(model(), looking, batch(steps=2), text(3), generator(5), 3.0)
    assert float(loss.detach()) == pytest.approx(1.0 / 2 / (1 / 3 * 3.0))
    assert figures == {"reward_stills": pytest.approx(-0.5), "reward_stills_right": 0.0}


def rewarded(home: Path, folder: Path, *, steps: int = 4, **lesson: object) -> TransformerTrainConfig:
    """Return a run from a transformer in ``folder``, whose captioner lies beside the text encoder there."""
    if not (folder / "text").exists():
        shutil.copytree(home / "text", folder / "text")
        tiny_captioner().save(folder / "text" / "captioner")
        model().save(folder / "init")
    plain = config(home, steps=steps)
    return replace(plain, init=folder / "init", text_encoder=folder / "text", reward=replace(LESSON, **lesson))  # type: ignore[arg-type]


def test_it_learns_and_resumes_bit_equal(home: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_transformer(rewarded(home, tmp_path), whole, CPU)
    log = (whole / "log.jsonl").read_text()
    assert "reward_stills_right" in log
    assert "reward_clips" in log
    train_transformer(rewarded(home, tmp_path, steps=2), parts, CPU)
    train_transformer(rewarded(home, tmp_path), parts, CPU)
    assert losses(whole) == losses(parts)
    train_transformer(replace(rewarded(home, tmp_path), reward=RewardConfig()), tmp_path / "plain", CPU)
    assert losses(tmp_path / "plain")[-1] != losses(whole)[-1]


def test_the_second_captioner_is_asked_where_there_is_one(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    load = Captioner.load
    monkeypatch.setattr(Captioner, "load", lambda folder, **options: (asked.append(Path(folder).name), load(folder, **options))[1])
    looked = list[Captioner]()
    forward = Critic.forward
    monkeypatch.setattr(Critic, "forward", lambda self, *given: (looked.append(self.captioner), forward(self, *given))[1])
    wanted = rewarded(home, tmp_path, steps=1)
    second = tiny_captioner()
    second.table.weight.data += 1
    second.save(tmp_path / "text" / "captioner_2")
    train_transformer(wanted, tmp_path / "run", CPU)
    assert "captioner_2" in asked
    assert float((looked[0].table.weight - second.table.weight).abs().max()) < 0.1


def test_batches_are_of_one_size_and_hold_as_many_as_they_have_room_for(home: Path) -> None:
    plain, wanted = task(home), replace(LESSON, tokens=20)
    lesson = RewardTask(plain, plain.transformer, plain.cache, critic(), plain.empty, lambda steps, tokens: schedule(steps), wanted)
    drawn = [lesson.batch(index).drawn for index in range(60)]
    shapes = Counter(tuple(one.latents.shape) for one in drawn)
    assert set(shapes) == {(1, 4, 1, 3, 2), (2, 4, 2, 2, 2), (1, 4, 3, 2, 3)}  # the one still; clips of 8 tokens and of 18
    assert 20 <= shapes[1, 4, 1, 3, 2] <= 50
    assert {len(one.visited) for one in drawn} == {2, 3}
    for one in drawn:
        last = 1 + 4 * (one.latents.shape[2] - 1)
        assert all(looks == [0] if last == 1 else len(set(looks)) == 2 and last // 4 <= min(looks) < max(looks) < last for looks in one.looks)
    assert {caption for one in drawn for caption in one.captions} >= {
        (1, "red ball"),
        (0, "a red ball moves left 1"),
        (0, "a red ball moves right 1"),
    }
    again = lesson.batch(3).drawn
    assert torch.equal(again.latents, drawn[3].latents)
    assert again.looks == drawn[3].looks
    alone = RewardTask(
        plain, plain.transformer, plain.cache, critic(), plain.empty, lambda steps, tokens: schedule(steps), replace(wanted, still_share=1.0)
    )
    assert {alone.batch(index).drawn.latents.shape[2] for index in range(8)} == {1}
    many = RewardTask(
        plain,
        plain.transformer,
        plain.cache,
        critic(),
        plain.empty,
        lambda steps, tokens: schedule(steps),
        replace(wanted, looks=99, still_share=0.0),
    )
    assert {tuple(looks) for index in range(20) for looks in many.batch(index).drawn.looks} == {(1, 2, 3, 4), tuple(range(2, 9))}
    assert lesson.describe().endswith("looks at what it draws of the captions of 1 stills and 3 clips")


def test_what_cannot_be_is_refused(home: Path, tmp_path: Path) -> None:
    for wrong in ({"tokens": 0}, {"steps": 1}, {"looks": 0}, {"weight": -1.0}, {"weight": math.inf}, {"still_share": 1.5}):
        with pytest.raises(ConfigError, match=rf"{next(iter(wrong))}"):
            RewardConfig(**wrong)  # type: ignore[arg-type]
    wanted = rewarded(home, tmp_path)
    with pytest.raises(ConfigError, match="trains the whole transformer and lora"):
        replace(wanted, lora=LoraConfig())
    with pytest.raises(ConfigError, match="random weights; give init or base"):
        replace(wanted, init=None)
    with pytest.raises(ConfigError, match="needs a captioner"):
        train_transformer(replace(wanted, text_encoder=home / "text"), tmp_path / "none", CPU)
    Transformer(replace(MODEL, patch_size=(2, 1, 1))).save(tmp_path / "pairs")
    captions = {"captions": {"dense": ["a red ball"], "short": []}}
    write_shard(tmp_path / "even", 0, [Sample(key="one", frames=np.zeros((13, 32, 32, 3), np.uint8), fps=12.0, record=captions)])
    even = replace(wanted.data, shards=(tmp_path / "even",))
    with pytest.raises(ConfigError, match="goes on from a frame in its own latent"):
        train_transformer(replace(wanted, init=tmp_path / "pairs", data=even), tmp_path / "none", CPU)
    plain = task(home)
    foreign = Critic(critic().autoencoder, tiny_captioner(), {"shape": {"dog": ("dog",), "cat": ("cat",)}})
    with pytest.raises(DataError, match="none of these names a shape"):
        RewardTask(plain, plain.transformer, plain.cache, foreign, plain.empty, lambda steps, tokens: schedule(steps), LESSON)
