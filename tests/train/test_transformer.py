"""Training of the transformer: real shards, cache and loop at a toy size."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from tests.train.conftest import MODEL, SIZES

from diorama.checkpoint import load_tensors
from diorama.config import load_toml
from diorama.data import CacheConfig, PackConfig
from diorama.errors import ConfigError, DataError
from diorama.flow import Mixture
from diorama.pipeline import Pipeline
from diorama.runtime import generator
from diorama.train.cache import CacheConfig as EncodeConfig
from diorama.train.cache import load_encoders, open_cache, write_cache
from diorama.train.loop import LoopConfig, Result
from diorama.train.transformer import ClipData, SampleConfig, TransformerTask, TransformerTrainConfig, pack_loss, train_transformer
from diorama.transformer import Transformer, TransformerConfig

CPU = torch.device("cpu")


def config(home: Path, *, steps: int = 4, **data: object) -> TransformerTrainConfig:
    pack = PackConfig(tokens=48)
    settings: dict[str, object] = {"shards": (home / "shards",), "cache": home / "latents", "pack": pack, **data}
    return TransformerTrainConfig(
        data=ClipData(**settings),  # type: ignore[arg-type]
        model=MODEL,
        train=LoopConfig(steps=steps, warmup=2, log_steps=1, sample_steps=4),
        sample=SampleConfig(prompts=("red ball",), width=32, height=48, num_frames=5, steps=2),
        autoencoder=home / "vae",
        text_encoder=home / "text",
    )


def task(home: Path, **data: object) -> TransformerTask:
    wanted = config(home, **data)
    encoders = load_encoders(wanted.autoencoder, wanted.text_encoder, CPU)
    cache = open_cache(wanted.data.shards, wanted.data.cache, encoders, wanted.data.encode)
    return TransformerTask(wanted, cache, Transformer(MODEL), encoders)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def train(home: Path, folder: Path, steps: int) -> Result:
    return train_transformer(config(home, steps=steps), folder, CPU)


def test_it_trains_samples_exports_and_resumes_bit_equal(home: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    result = train(home, whole, 6)
    train(home, parts, 3)
    train(home, parts, 6)
    assert losses(whole) == losses(parts)
    assert len(losses(whole)) == 6
    assert (whole / "samples" / "step-00000004" / "0.png").is_file()
    weights = load_tensors(result.folder / "transformer", stem="diffusion_pytorch_model")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert (result.folder / "text_encoder" / "note.json").is_file()
    clip = Pipeline.load(result.folder, "cpu").generate("red ball", size=(48, 32), num_frames=5, steps=2)
    assert clip.frames.shape == (5, 32, 48, 3)


def test_texts_may_be_heard_in_part_and_blurred(home: Path) -> None:
    whole, part = task(home, text_drop=0.0).batch(0), task(home, token_drop=0.9, text_drop=0.0).batch(0)
    lengths, left = whole.mask.sum(1), part.mask.sum(1)
    assert len(left) == len(lengths)
    assert int(left.min()) >= 1
    assert int(left.sum()) < int(lengths.sum())
    for states, mask in zip(part.states, part.mask, strict=True):  # what is left is some caption's
        assert any(torch.cdist(states[mask], other).amin(1).max() < 1e-4 for other in whole.states)
    clear, blurred = task(home, text_noise=1e-9, text_drop=0.0).batch(0), task(home, text_noise=0.5, text_drop=0.0).batch(0)
    assert torch.equal(blurred.mask, clear.mask)
    apart = [
        ((noisy - clean)[mask].std() / clean[mask].std()).item() for noisy, clean, mask in zip(blurred.states, clear.states, clear.mask, strict=True)
    ]
    assert 0 < min(apart) < max(apart) < 0.6  # each text has its own noise, up to half of the deviation of its states
    for wrong in ({"token_drop": 1.0}, {"text_noise": -1.0}):
        with pytest.raises(ConfigError, match=r"data\.token_drop"):
            task(home, **wrong)


def test_a_batch_is_a_function_of_its_number_with_equal_sizes_beside_each_other(home: Path) -> None:
    first, second = task(home), task(home)
    for index in (3, 0, 7):
        one, two = first.batch(index), second.batch(index)
        assert all(torch.equal(a, b) for a, b in zip(one.latents, two.latents, strict=True))
        assert all(torch.equal(a.times, b.times) for a, b in zip(one.draws, two.draws, strict=True))
        assert torch.equal(one.states, two.states)
        shapes = [tuple(latent.shape) for latent in one.latents]
        assert len(set(shapes)) == 1 + sum(a != b for a, b in itertools.pairwise(shapes))
        work = first.work(one)
        assert work.samples == len(shapes)
        assert work.tokens == sum(math.prod(shape[1:]) for shape in shapes) <= 48


def test_a_dropped_text_is_the_empty_prompt(home: Path) -> None:
    dropped, kept = task(home, text_drop=1.0), task(home, text_drop=0.0)
    batch = dropped.batch(0)
    for states, mask, pooled in zip(batch.states, batch.mask, batch.pooled, strict=True):
        assert torch.equal(states[mask], dropped.empty.states)
        assert torch.equal(pooled, dropped.empty.pooled)
    assert not torch.equal(kept.batch(0).states[0][: len(kept.empty.states)], kept.empty.states)


def test_given_frames_do_not_count_and_figures_tell_patterns_apart(home: Path) -> None:
    only = Mixture(shared=0, prefix=1, ends=0, subset=0, independent=0, context_noise=0)
    job = task(home, mixture=only, pack=PackConfig(tokens=48, still_share=0.0, crop_share=0.0))
    batch = next(batch for batch in map(job.batch, range(20)) if any((draw.times == 0).any() for draw in batch.draws))
    loss, figures = pack_loss(job.transformer, batch, generator(0))
    assert {"loss_prefix"} <= set(figures)
    counted = sum(int(draw.mask.sum()) for draw in batch.draws)
    assert 0 < counted < sum(len(draw.times) for draw in batch.draws)
    # The untrained velocity is 0, so the loss is the mean of (noise - data)^2 over the frames that are wanted.
    noise = generator(0)
    expected = 0.0
    for latent, draw in zip(batch.latents, batch.draws, strict=True):
        errors = (torch.randn(latent.shape, generator=noise) - latent).square().mean(dim=(0, 2, 3))
        expected += float(errors[draw.mask].sum())
    assert loss.item() == pytest.approx(expected / counted, rel=1e-4)


def test_objects_count_for_more(home: Path) -> None:
    plain, heavy = task(home), task(home, object_weight=4.0)
    assert all(weight is None for weight in plain.batch(0).weights)
    batch = heavy.batch(0)
    for latent, weight in zip(batch.latents, batch.weights, strict=True):
        assert weight is not None
        assert weight.shape == latent.shape[1:]
        assert set(weight.unique().tolist()) <= {1.0, 4.0}
    assert any(4.0 in weight for weight in batch.weights if weight is not None)
    # The untrained velocity is 0: the loss of a frame is the weighted mean of (noise - data)^2.
    loss, _ = pack_loss(heavy.transformer, batch, generator(0))
    noise, wanted = generator(0), []
    for latent, weight, draw in zip(batch.latents, batch.weights, batch.draws, strict=True):
        errors = (torch.randn(latent.shape, generator=noise) - latent).square().mean(dim=0)
        assert weight is not None
        wanted.append(((errors * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)))[draw.mask])
    assert loss.item() == pytest.approx(float(torch.cat(wanted).mean()), rel=1e-4)
    with pytest.raises(ConfigError, match="object_weight"):
        ClipData(shards=(Path("x"),), object_weight=0.0)


def test_the_mix_of_dense_and_short_captions_is_a_setting(home: Path) -> None:
    dense, short = (task(home, text_drop=0.0, dense_share=share) for share in (1.0, 0.0))
    for index in range(3):
        many, few = dense.batch(index).mask.sum(1), short.batch(index).mask.sum(1)
        assert len(many) == len(few)
        assert int(few.max()) < int(many.min())
    with pytest.raises(ConfigError, match="dense_share"):
        ClipData(shards=(Path("x"),), dense_share=1.5)


def test_a_clip_that_begins_with_given_frames_may_begin_later(home: Path) -> None:
    only = Mixture(shared=0, prefix=1, ends=0, subset=0, independent=0, context_noise=0)
    pack = PackConfig(tokens=48, still_share=0.0, crop_share=0.0, mirror_share=0.0)
    plain, later = (task(home, mixture=only, pack=pack, text_drop=0.0, later_share=share) for share in (0.0, 1.0))
    whole = [plain.cache.latent(i, 0) for i in range(len(SIZES))]
    cut = 0
    for index in range(20):
        batch = later.batch(index)
        for latent, draw in zip(batch.latents, batch.draws, strict=True):
            ends = [clip for clip in whole if clip.shape[2:] == latent.shape[2:] and torch.equal(clip[:, -latent.shape[1] :], latent)]
            assert len(ends) == 1
            assert len(draw.times) == latent.shape[1]
            assert draw.mask.any()
            cut += latent.shape[1] < ends[0].shape[1]
    assert cut
    assert all(latent.shape[1] in (1, 2, 3) for latent in plain.batch(0).latents)


def test_long_clips_are_left_out_and_counted(home: Path) -> None:
    job = task(home, max_tokens_per_clip=8)
    assert job.describe() == "3 clips, 1 s, 22 tokens, 1 longer than 8 tokens left out"
    assert all(math.prod(latent.shape[1:]) <= 8 for index in range(5) for latent in job.batch(index).latents)


def test_no_clip_short_enough_is_refused(home: Path) -> None:
    with pytest.raises(DataError, match="none of 4 clips has at most 5 tokens, the smallest has 6"):
        task(home, max_tokens_per_clip=5).describe()


def test_an_empty_training_set_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        train_transformer(config(home, shards=(tmp_path,)), tmp_path / "run", CPU)


def test_another_number_of_latent_channels_is_refused(home: Path, tmp_path: Path) -> None:
    wanted = TransformerTrainConfig(data=config(home).data, autoencoder=home / "vae", text_encoder=home / "text")
    with pytest.raises(ConfigError, match="in_channels is 32 and the autoencoder has 4"):
        train_transformer(wanted, tmp_path, CPU)


def test_the_cache_can_be_written_ahead(home: Path, tmp_path: Path) -> None:
    wanted = EncodeConfig(shards=(home / "shards",), encode=CacheConfig(mirrored=False), autoencoder=home / "vae", text_encoder=home / "text")
    assert write_cache(wanted, tmp_path, CPU).startswith("4 clips encoded in")


def test_the_packaged_config_is_read() -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "transformer.toml"
    wanted = load_toml(TransformerTrainConfig, path, ["--train.minutes", "30", "--data.max_tokens_per_clip", "324"])
    assert (wanted.train.minutes, wanted.data.max_tokens_per_clip, wanted.model) == (30.0, 324, TransformerConfig())
