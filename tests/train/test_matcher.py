"""Wrong captions are wrong in one thing and show no held-out pair; the matcher learns what it can see; runs from shards."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.config import to_dict
from diorama.data import Sample, write_shard
from diorama.data.shards import ShardSet
from diorama.errors import ConfigError, DataError
from diorama.text.encoder import CompactTextConfig, CompactTextEncoder
from diorama.text.matcher import Matcher, MatcherConfig
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary
from diorama.train.loop import LoopConfig
from diorama.train.matcher import CHANGES, Album, MatcherTask, MatcherTraining, accuracy, altered, match_loss, train
from diorama.train.optim import OptimConfig
from diorama.worlds.captions import caption
from diorama.worlds.sample import sample_scene
from diorama.worlds.scene import COLORS, Scene, held_out

CPU = torch.device("cpu")
TINY = MatcherConfig(area=1024, widths=(8, 8, 16), blocks=1, text_width=24, num_heads=2, depth=1)


def scene(color: str, seed: int) -> Scene:
    drawn = sample_scene(seed, split="train", width=32, height=32, num_frames=1, fps=12.0, num_bodies=1)
    body = dataclasses.replace(drawn.bodies[0], shape="sphere", color=color, motion="rest", direction="none")
    camera = dataclasses.replace(drawn.camera, move="static")
    return dataclasses.replace(drawn, bodies=(body,), floor="grass", light="day", backdrop="open", camera=camera)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with stills of one colour each, a clip that is to be passed over, and a text encoder."""
    folder = tmp_path_factory.mktemp("matcher")
    samples = []
    for i, color in enumerate(["red", "green", "blue", "yellow", "white", "black"] * 4):
        frames = np.broadcast_to((np.array(COLORS[color]) * 255).astype(np.uint8), (1, 32, 32, 3)).copy()
        record = {"scene": to_dict(scene(color, i))}
        if i % 2:
            record["coverage"] = {"cell": 16, "percent": [[[100, 100], [100, 100]]], "body": [[[1, 1], [1, 1]]]}
        samples.append(Sample(key=f"{i}", frames=frames, fps=12.0, record=record))
    samples.append(Sample(key="clip", frames=np.zeros((5, 32, 32, 3), np.uint8), fps=12.0, record={"scene": to_dict(scene("red", 99))}))
    write_shard(folder / "shards", 0, samples)
    vocabulary = build_vocabulary(["[UNK]", *COLORS], list(COLORS), 180)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = CompactTextConfig(vocabulary_size=len(vocabulary), embedding_size=16, hidden_size=24, depth=1, num_heads=2, ffn_size=32)
        CompactTextEncoder(text, PromptTokenizer(vocabulary)).save(folder / "text")
    return folder


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_changed_scene_differs_as_named_and_shows_no_held_out_pair(change: str) -> None:
    rng, found = random.Random(0), 0
    for seed in range(24):
        true = sample_scene(seed, split="train", width=64, height=64, num_frames=1, fps=12.0)
        untrue = altered(true, rng, change)
        if untrue is None:
            assert change in ("swap", "fewer")
            continue
        found += 1
        assert not any(held_out(body.color, body.shape) for body in untrue.bodies)
        assert all(body.partner is None or body.partner < len(untrue.bodies) for body in untrue.bodies)
        assert caption(untrue, 1).dense
        colors, shapes = ([getattr(body, name) for body in untrue.bodies] for name in ("color", "shape"))
        was = [body.color for body in true.bodies], [body.shape for body in true.bodies]
        assert len(untrue.bodies) - len(true.bodies) == {"more": 1, "fewer": -1}.get(change, 0)
        if change == "shape":
            assert colors == was[0]
            assert sum(a != b for a, b in zip(shapes, was[1], strict=True)) == 1
        if change == "swap":
            assert sorted(shapes) == sorted(was[1])
            assert shapes != was[1]
        if change == "colour":
            assert shapes == was[1]
            assert sum(a != b for a, b in zip(colors, was[0], strict=True)) == 1
        if change in ("floor", "light"):
            assert dataclasses.replace(untrue, **{change: getattr(true, change)}) == true
    assert found >= 3


def test_the_loss_is_small_where_true_words_hold_and_untrue_ones_do_not() -> None:
    true = torch.tensor([[1.0, 0.0]])
    sure = torch.tensor([[[-0.001, -0.001], [-0.001, -9.0]]])
    assert float(match_loss(sure, true)) < 0.01
    assert float(match_loss(sure.flip(1), true)) > 3
    unsure = torch.zeros(1, 2, 2, requires_grad=True)
    match_loss(unsure, true).backward()
    assert unsure.grad is not None
    assert bool(unsure.grad.isfinite().all())


def test_training_names_cells_ever_better_and_goes_on_from_its_weights(home: Path, tmp_path: Path) -> None:
    config = MatcherTraining(
        data=(home / "shards",),
        text_encoder=home / "text",
        held_out=4,
        batch_size=6,
        matcher=TINY,
        train=LoopConfig(steps=40, warmup=2, ema_decay=0.9, sample_steps=40, log_steps=10),
        optim=OptimConfig(adamw_lr=1e-2, adamw_names=("stem", "objection", "place", "naming_head")),
    )
    result = train(config, tmp_path / "run", CPU)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["named_color"] > max(0.5, rows[0]["named_color"])
    told = json.loads((tmp_path / "run" / "accuracy.json").read_text())
    assert told["stills"] == 6
    assert 0 <= told["colour"] <= 1
    before = Matcher.load(result.folder)
    train(dataclasses.replace(config, init=result.folder, naming=0.0, train=dataclasses.replace(config.train, steps=1)), tmp_path / "more", CPU)
    after = Matcher.load(tmp_path / "more" / "export")
    torch.testing.assert_close(before.words.weight, after.words.weight, atol=0.1, rtol=0)


def test_a_batch_is_a_function_of_the_index(home: Path) -> None:
    from diorama.text.encoder import load_text_encoder

    config = MatcherTraining(data=(home / "shards",), matcher=TINY, batch_size=4, wrong=2)
    album = Album.gather(ShardSet(home / "shards"), range(12), TINY.area)
    task = MatcherTask(Matcher(TINY), load_text_encoder(home / "text"), album, album, config)
    one, two, other = task.batch(3), task.batch(3), task.batch(4)
    assert torch.equal(one.states, two.states)
    assert torch.equal(one.pictures, two.pictures)
    assert not torch.equal(one.pictures, other.pictures)
    assert one.mask.shape[:2] == (4, 3)
    assert one.kinds.shape == (4 * 16, 3)
    assert {int(kind) for index in range(4) for kind in task.batch(index).kinds[:, 0]} == {1, -1}
    assert task.work(one).samples == 4
    assert set(accuracy(task.matcher, task.encoder, album)) == {"shape", "colour", "more", "floor", "light"}


def test_what_cannot_be_trained_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        MatcherTraining(data=(tmp_path,), batch_size=0)
    with pytest.raises(ConfigError, match="text_width"):
        train(MatcherTraining(data=(home / "shards",), text_encoder=home / "text", matcher=MatcherConfig(text_width=8)), tmp_path, CPU)
    with pytest.raises(DataError, match="0 stills"):
        Album.gather(ShardSet(home / "shards"), [], 1024)
