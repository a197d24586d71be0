from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.config import load_toml
from diorama.data.shards import Sample, ShardWriter
from diorama.errors import ConfigError, DataError
from diorama.train.autoencoder import AutoencoderTask, AutoencoderTraining, CropConfig, latent_statistics, read_clips, train
from diorama.train.loop import LoopConfig

MODEL = AutoencoderConfig(widths=(8, 8, 8), z_dim=4)
CROPS = CropConfig(sides=(16, 32), lengths=(1, 5), cells=8, held_out=2)


def clip(seed: int, frames: int = 9, height: int = 32, width: int = 48) -> np.ndarray:
    """A soft blob of a random colour that moves over a gradient."""
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    blob = np.exp(-((y - rng.integers(height) - t) ** 2 + (x - rng.integers(width) - t) ** 2) / 40)[..., None]
    return (blob * rng.integers(256, size=3) + (1 - blob) * (x / width * 255)[..., None]).astype(np.uint8)


def config(data: Path = Path("data"), **loop: object) -> AutoencoderTraining:
    options = {"steps": 2, "warmup": 1, "sample_steps": 1, "log_steps": 1} | loop
    return AutoencoderTraining(data=data, model=MODEL, crops=CROPS, train=LoopConfig(**options))  # type: ignore[arg-type]


@pytest.fixture
def task() -> AutoencoderTask:
    torch.manual_seed(0)
    return AutoencoderTask(Autoencoder(MODEL), [clip(i) for i in range(4)] + [clip(9, frames=1)], [clip(8), clip(7, height=48)], config())


def write_shards(folder: Path, count: int) -> None:
    writer = ShardWriter(folder)
    for i in range(count):
        writer.add(Sample(key=f"clip{i}", frames=clip(i), fps=12.0, record={}))
    writer.flush()


def test_batches_repeat_and_vary(task: AutoencoderTask) -> None:
    shapes = set()
    for index in range(20):
        batch = task.batch(index)
        assert torch.equal(batch, task.batch(index))
        count, length, side, other, channels = batch.shape
        assert side == other
        assert channels == 3
        assert count * (1 + (length - 1) // 4) * (side // 16) ** 2 == 8
        shapes.add((length, side))
    assert shapes == {(1, 16), (1, 32), (5, 16), (5, 32)}


def test_crops_are_cut_from_the_clips(task: AutoencoderTask) -> None:
    task.clips[:] = [np.full((9, 32, 48, 3), 10 * i, np.uint8) for i in range(5)]  # type: ignore[index]
    values = {int(v) for index in range(10) for v in task.batch(index).flatten(1).unique()}
    assert values <= {0, 10, 20, 30, 40}
    assert len(values) > 2


def test_work_grows_with_the_batch(task: AutoencoderTask) -> None:
    one, two = task.work(torch.zeros(1, 5, 32, 32, 3, dtype=torch.uint8)), task.work(torch.zeros(2, 5, 32, 32, 3, dtype=torch.uint8))
    assert (one.samples, one.tokens) == (1, 8)
    assert two.tokens == 2 * one.tokens
    assert two.flops == 2 * one.flops


def test_default_work_is_what_the_docs_say() -> None:
    """22 GFLOP to code and decode 33 frames of 128 pixels, times three in training."""
    large = AutoencoderTask(
        Autoencoder(AutoencoderConfig()), [clip(0, height=96, width=96)], [], AutoencoderTraining(data=Path(), crops=CropConfig(lengths=(9,)))
    )
    small = large.work(torch.zeros(1, 9, 64, 64, 3, dtype=torch.uint8)).flops  # 3 x 16 of 9 x 64 cells
    assert small * 12 == pytest.approx(3 * 21.5e9, rel=0.02)


def test_statistics_whiten_the_latent(task: AutoencoderTask) -> None:
    model = task.model.eval()
    clips = [clip(i) for i in range(3)]
    mean, std = latent_statistics(model, clips)
    video = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    raw = model.moments(video)[0].detach()
    torch.testing.assert_close(torch.tensor(mean), raw.mean((0, 2, 3, 4)), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.tensor(std), raw.std((0, 2, 3, 4), correction=0), atol=0.02, rtol=0)


def test_a_run_learns_and_leaves_a_folder_that_loads(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", 5)
    one_shape = dataclasses.replace(CROPS, sides=(16,), lengths=(5,))
    settings = dataclasses.replace(config(tmp_path / "shards"), crops=one_shape)
    result = train(settings, tmp_path / "run", torch.device("cpu"))
    model = Autoencoder.load(result.folder)
    assert model.config.latents_mean is not None
    assert model.config.widths == MODEL.widths
    assert json.loads((tmp_path / "run" / "reconstruction.json").read_text())["clips"] == 2
    assert json.loads((result.folder / "training_data.json").read_text())["samples"] == 5
    assert (tmp_path / "run" / "samples" / "step-000001.png").stat().st_size > 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"loss", "l1", "gradient", "kl", "psnr"} <= set(lines[0])


def test_decoder_only_keeps_the_latents(tmp_path: Path) -> None:
    torch.manual_seed(1)
    start = Autoencoder(dataclasses.replace(MODEL, latents_mean=(0.1,) * 4, latents_std=(0.5,) * 4))
    start.save(tmp_path / "start")
    write_shards(tmp_path / "shards", 4)
    settings = dataclasses.replace(
        config(tmp_path / "shards", sample_steps=0), start=tmp_path / "start", decoder_only=True, crops=dataclasses.replace(CROPS, sides=(16,))
    )
    model = Autoencoder.load(train(settings, tmp_path / "run", torch.device("cpu")).folder)
    assert model.config == start.config
    half = start.half().float().state_dict()
    kept = {name: torch.equal(value, half[name]) for name, value in model.state_dict().items()}
    assert all(same for name, same in kept.items() if name.startswith(("encoder.", "quant_conv.")))
    assert not any(same for name, same in kept.items() if name.startswith(("decoder.", "post_quant_conv.")) and name.endswith("weight"))


def test_start_of_another_graph(tmp_path: Path) -> None:
    Autoencoder(dataclasses.replace(MODEL, widths=(8, 8, 12))).save(tmp_path / "start")
    write_shards(tmp_path / "shards", 4)
    with pytest.raises(ConfigError, match="another graph"):
        train(dataclasses.replace(config(tmp_path / "shards"), start=tmp_path / "start"), tmp_path / "run", torch.device("cpu"))
    with pytest.raises(ConfigError, match="decoder_only needs start"):
        dataclasses.replace(config(), decoder_only=True)


def test_loss_falls(task: AutoencoderTask) -> None:
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-2)
    batch, values = task.batch(3), []
    for _ in range(12):
        loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_clips_beyond_the_memory_are_counted(tmp_path: Path) -> None:
    write_shards(tmp_path, 6)
    crops = CropConfig(held_out=1, memory_gib=2.5 * clip(0).nbytes / 2**30)
    clips, held_out, total = read_clips(tmp_path, crops, seed=0)
    assert (len(clips), len(held_out), total) == (2, 1, 5)
    everything, _, _ = read_clips(tmp_path, CropConfig(held_out=1), seed=0)
    assert len(everything) == 5


def test_too_few_clips(tmp_path: Path) -> None:
    write_shards(tmp_path, 2)
    with pytest.raises(DataError, match="2 clips and 2 are held out"):
        read_clips(tmp_path, CROPS, seed=0)


def test_no_clip_is_large_enough() -> None:
    with pytest.raises(DataError, match="none of 1 clips has 5 frames of 32x32"):
        AutoencoderTask(Autoencoder(MODEL), [clip(0, height=16)], [], dataclasses.replace(config(), crops=CropConfig(sides=(32,), lengths=(5,))))


def test_crops_off_the_grid() -> None:
    with pytest.raises(ConfigError, match="off the grid"):
        AutoencoderTraining(data=Path(), crops=CropConfig(sides=(40,)))


def test_the_shipped_config_loads() -> None:
    path = Path(__file__).parents[2] / "configs" / "autoencoder.toml"
    assert load_toml(AutoencoderTraining, path, ["--train.steps", "5", "--train.decay", "0"]).train.steps == 5
