"""The captioner's lessons: batches are functions of the index, mirrored captions fit mirrored clips, and it learns to say what it sees."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.config import to_dict
from diorama.data.shards import Sample, ShardSet, write_shard
from diorama.errors import ConfigError, DataError
from diorama.evaluation.judge import Judge, JudgeConfig, JudgeHeads
from diorama.text.captioner import MARK, Captioner, CaptionerConfig
from diorama.train.cache import packaged_model
from diorama.train.captioner import (
    CaptionerTask,
    CaptionerTraining,
    Exercise,
    choose_vocabulary,
    coder,
    gather,
    look_ahead,
    packaged_pieces,
    train,
)
from diorama.train.lessons import described_scene
from diorama.train.loop import LoopConfig
from diorama.train.optim import OptimConfig
from diorama.worlds.scene import COLORS

TINY = CaptionerConfig(
    vocabulary_size=160,
    max_tokens=16,
    num_frames=2,
    area=1024,
    widths=(8, 8, 16),
    reach=1,
    num_heads=2,
    depth=1,
    decoder_width=32,
    decoder_depth=1,
)
NAMES = ("red", "green", "blue", "yellow")


def clip(color: str, *, width: int = 32) -> np.ndarray:
    """Return a clip whose left half is of a colour."""
    frames = np.full((3, 32, width, 3), 127, np.uint8)
    frames[:, :, : width // 2] = (np.array(COLORS[color]) * 255).astype(np.uint8)
    return frames


def record(color: str, *, scene: bool = True) -> dict[str, object]:
    captions = {"dense": [f"A {color} half lies at the left."], "short": [f"{color} half"]}
    body = dataclasses.replace(described_scene(0).bodies[0], color=color, motion="rest", direction="none", partner=None)
    return {"captions": captions, **({"scene": to_dict(dataclasses.replace(described_scene(0), bodies=(body,)))} if scene else {})}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    samples = [Sample(key=f"k{i}", frames=clip(NAMES[i % 4]), fps=12.0, record=record(NAMES[i % 4])) for i in range(16)]
    samples += [Sample(key="mute", frames=clip("red"), fps=12.0, record={"captions": {"dense": [""], "short": []}})]
    samples += [Sample(key=f"w{i}", frames=clip(name, width=48), fps=12.0, record=record(name, scene=False)) for i, name in enumerate(NAMES)]
    samples += [Sample(key="still", frames=clip("red")[:1], fps=12.0, record=record("red"))]
    write_shard(folder, 0, samples)
    return folder


def task(shards: Path, **settings: object) -> CaptionerTask:
    config = CaptionerTraining(data=(shards,), batch_size=3, captions=2, captioner=TINY, **settings)  # type: ignore[arg-type]
    lessons = gather(ShardSet(shards), range(21), TINY)
    vocabulary = choose_vocabulary([f"A {name} half lies at the left right." for name in NAMES], 160, packaged_pieces())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        captioner, heads = Captioner(TINY, vocabulary), None if config.views else JudgeHeads(16)
    if config.views:
        lessons = look_ahead(captioner, lessons, config)
    return CaptionerTask(captioner, lessons, lessons[:1], config, heads)


def test_clips_are_grouped_by_size_and_by_what_is_known(shards: Path) -> None:
    lessons = gather(ShardSet(shards), range(21), TINY)
    assert [(len(lesson.video), len(lesson.scenes)) for lesson in lessons] == [(16, 16), (4, 0)]
    assert lessons[0].captions[1] == ((0, "A green half lies at the left."), (1, "green half"))
    with pytest.raises(DataError, match="none of 0 clips has captions"):
        gather(ShardSet(shards), [], TINY)


def test_a_share_of_the_clips_goes_through_the_autoencoder(shards: Path) -> None:
    plain = gather(ShardSet(shards), range(16), TINY)[0].video
    halves = gather(ShardSet(shards), range(16), TINY, code=lambda frames: 255 - frames, share=0.5)[0].video
    assert [bool((half == whole).all()) for half, whole in zip(halves, plain, strict=True)] == [True, False] * 8
    code = coder(packaged_model() / "vae", torch.device("cpu"))
    frames = np.repeat(clip("red")[:1], 5, axis=0)
    coded = code(frames)
    assert coded.shape == frames.shape
    assert 0 < np.abs(coded.astype(int) - frames).mean() < 12
    np.testing.assert_array_equal(code(frames[:3]), frames[:3])  # off its grid


def test_a_share_of_the_steps_shows_stills(shards: Path) -> None:
    def still(exercise: Exercise) -> bool:
        return float((exercise.seen[:, 0] - exercise.seen[:, 1]).abs().mean()) < 0.2

    video = task(shards).lessons[0].video
    moving = dataclasses.replace(task(shards).lessons[0], video=torch.stack([video[:, 0], 255 - video[:, 0]], 1))
    shown = {}
    for share in (0.0, 0.5, 1.0):
        learner = task(shards, still_share=share)
        learner.lessons = [moving]
        shown[share] = sum(still(learner.batch(index)) for index in range(30))
    assert shown[0.0] == 0
    assert shown[1.0] == 30
    assert 8 <= shown[0.5] <= 22


@pytest.mark.parametrize("views", [0, 4])
def test_a_batch_is_a_function_of_its_index_and_its_captions_fit(shards: Path, views: int) -> None:
    made = task(shards, views=views)
    mirrored = 0
    for index in range(12):
        one, two = made.batch(index), made.batch(index)
        assert torch.equal(one.seen, two.seen)
        assert torch.equal(one.ids, two.ids)
        assert (one.ids[:, 0] == MARK).all()
        assert ((one.ids == MARK).sum(1) == 2).all()
        assert one.clips.tolist() == [0, 0, 1, 1, 2, 2]
        assert sorted(set(one.kinds.tolist())) == [0, 1]
        pieces = made.captioner.tokenizer.vocabulary
        said = {pieces[i] for i in one.ids.flatten().tolist()} & {"left", "right"}
        assert len(said) == 1
        mirrored += said == {"right"}
        if views:
            assert one.answers is None
        else:
            halves = one.seen[..., : one.seen.shape[-1] // 2].std((1, 2, 3, 4)), one.seen[..., one.seen.shape[-1] // 2 :].std((1, 2, 3, 4))
            assert bool((halves[0] > halves[1]).all()) == (said == {"left"})  # the coloured half is the less even one
        assert made.work(one).samples == 3
    assert 0 < mirrored < 12
    assert "20 clips with 40 captions" in made.describe()


def test_a_looked_ahead_clip_gives_the_loss_of_the_eye_itself(shards: Path) -> None:
    made = task(shards, views=2)
    assert not any(p.requires_grad for p in made.captioner.eye.parameters())
    batch = made.batch(0)
    loss, figures = made.loss(batch, torch.Generator())
    assert set(figures) == {"words", "piece"}
    loss.backward()
    assert all(p.grad is not None for name, p in made.captioner.named_parameters() if not name.startswith("eye"))


def test_rare_words_are_spelled_and_frequent_ones_are_whole() -> None:
    texts = ["often often seldom"] * 3 + ["once"]
    full = choose_vocabulary(texts, 200, ["[UNK]", "often", "seldom", "once"])
    tight = choose_vocabulary(texts, 140, ["[UNK]", "often", "seldom", "once"])
    assert full.pieces("often once") == ["[CLS]", "often", "once"]
    assert tight.pieces("often once")[1:] != ["often", "once"]
    assert "often" in tight.pieces("often once")
    assert tight.encode(["once"], 20).unknown == (0,)


def test_it_learns_to_say_which_color_it_sees_and_goes_on(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = LoopConfig(steps=220, warmup=2, ema_decay=0.9, sample_steps=220, log_steps=220)
    config = CaptionerTraining(
        data=(shards,),
        held_out=5,
        batch_size=8,
        captions=2,
        captioner=TINY,
        train=loop,
        optim=OptimConfig(adamw_lr=1e-2, adamw_names=("queries", "times", "names", "table", "head")),
    )
    result = train(config, tmp_path / "run", torch.device("cpu"))
    assert "1 without a caption left out" in capsys.readouterr().err
    captioner = Captioner.load(result.folder)
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == (result.folder / "tokenizer.json").read_bytes()
    said = captioner.write(captioner.see([clip(name) for name in NAMES]))
    assert sum(text == f"A {name} half lies at the left." for name, text in zip(NAMES, said, strict=True)) >= 3
    assert captioner.write(captioner.see([clip("red")[:, :, ::-1]])) == [said[0].replace("left", "right")]
    assert captioner.write(captioner.see([clip(name) for name in NAMES]), "short")[0].lower() == "red half"
    assert json.loads((tmp_path / "run" / "accuracy.json").read_text())["clips"] == 4
    assert json.loads((result.folder / "training_data.json").read_text())["samples"] > 4
    assert (tmp_path / "run" / "samples" / "captions-000220.txt").read_text().count("\n") == 10
    further = dataclasses.replace(config, init=result.folder, views=2, truth=0.0, train=dataclasses.replace(loop, steps=2, sample_steps=0))
    assert Captioner.load(train(further, tmp_path / "more", torch.device("cpu")).folder).config == TINY


def test_the_eye_may_start_as_a_judges(shards: Path, tmp_path: Path) -> None:
    judge = Judge(JudgeConfig(num_frames=2, area=1024, widths=(8, 8, 16), reach=1, num_heads=2, depth=1))
    judge.save(tmp_path / "judge")
    loop = LoopConfig(steps=1, warmup=0, sample_steps=0)
    config = CaptionerTraining(data=(shards,), start=tmp_path / "judge", views=1, captioner=TINY, held_out=5, train=loop)
    made = Captioner.load(train(config, tmp_path / "run", torch.device("cpu")).folder)
    assert torch.allclose(made.eye.stem.weight, judge.eye.stem.weight, atol=0.01)
    other = dataclasses.replace(config, captioner=dataclasses.replace(TINY, depth=2))
    with pytest.raises(ConfigError, match="another size"):
        train(other, tmp_path / "other", torch.device("cpu"))


def test_bad_configs(shards: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        CaptionerTraining(data=(shards,), captions=0)
    with pytest.raises(ConfigError, match="leave one out"):
        CaptionerTraining(data=(shards,), start=Path("a"), init=Path("b"), views=2)
    with pytest.raises(ConfigError, match="allowed is 0 to 1"):
        CaptionerTraining(data=(shards,), still_share=1.5)
    with pytest.raises(ConfigError, match="give views 0"):
        CaptionerTraining(data=(shards,), still_share=0.5, views=2)
