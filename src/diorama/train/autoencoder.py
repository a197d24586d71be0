"""Training of the autoencoder on crops of clips.

All clips, or as many as fit the memory given, are decoded once and kept as uint8. A batch holds crops of one shape, and the shape
changes from batch to batch: square crops of several sizes, videos of several lengths and stills. The network is convolutional,
so what it learns on crops holds for whole frames.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diorama import runtime
from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.joins import decode_evenly
from diorama.autoencoder.losses import LossConfig, reconstruction_loss
from diorama.autoencoder.model import Autoencoder
from diorama.checkpoint import write_text
from diorama.data.provenance import write_provenance
from diorama.data.shards import ShardSet
from diorama.errors import ConfigError, DataError
from diorama.evaluation.reconstruction import ReconstructionReport, evaluate_autoencoder
from diorama.media.clip import Clip
from diorama.media.sheet import contact_sheet, save_image
from diorama.train.log import Work
from diorama.train.loop import LoopConfig, Result, run
from diorama.train.optim import OptimConfig

__all__ = ["AutoencoderTask", "AutoencoderTraining", "CropConfig", "latent_statistics", "read_clips", "train"]

Frames = np.ndarray
STATISTICS_CLIPS = 256


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """What a batch is cut from."""

    sides: tuple[int, ...] = (64, 80, 96)
    """Sides of the square crops in pixels, one drawn for each batch; multiples of the stride."""
    lengths: tuple[int, ...] = (9, 9, 9, 17, 5, 1)
    """Frames of the crops, one drawn for each batch; 1 + multiples of the stride, repeated to be drawn more often."""
    cells: int = 1200
    """Latent cells in a batch, about; the number of crops follows from their shape."""
    memory_gib: float = 6.0
    """Memory for decoded clips; clips beyond it are left out, and the log says so."""
    held_out: int = 16
    """Clips at the end of the set that are never trained on but measured."""

    def __post_init__(self) -> None:
        if not self.sides or not self.lengths or min(*self.sides, *self.lengths, self.cells, self.held_out) < 1 or self.memory_gib <= 0:
            raise ConfigError("crops needs sides, lengths, cells, held_out and memory_gib above 0")


@dataclass(frozen=True, kw_only=True)
class AutoencoderTraining:
    """A run that trains an autoencoder."""

    data: Path
    """Folder of shards."""
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    """The network; the statistics of its latents are measured at the end."""
    start: Path | None = None
    """Folder of an autoencoder of the same graph to start from; random weights if None."""
    decoder_only: bool = False
    """Train the decoder of ``start`` and keep its encoder and statistics, so that a transformer trained on its latents stays valid."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Batches."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Weights of the loss."""
    train: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000, warmup=50, decay=1200, ema_decay=0.995))
    """How long."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Learning rates."""

    def __post_init__(self) -> None:
        if self.decoder_only and self.start is None:
            raise ConfigError("decoder_only needs start, the folder of the autoencoder whose encoder is kept")
        stride = self.model.stride
        if any(side % stride.space for side in self.crops.sides) or any((length - 1) % stride.time for length in self.crops.lengths):
            raise ConfigError(
                f"crops.sides {self.crops.sides} and crops.lengths {self.crops.lengths} are off the grid: "
                f"give multiples of {stride.space} pixels and 1 + multiples of {stride.time} frames"
            )


class AutoencoderTask:
    """The loop's task.

    Args:
        model: What to train.
        clips: Training clips, uint8 ``[T, H, W, 3]`` of any sizes.
        held_out: Clips to measure on.
        config: Batches and loss.

    Raises:
        DataError: there are no clips, or none is large enough for a crop.
    """

    def __init__(self, model: Autoencoder, clips: Sequence[Frames], held_out: Sequence[Frames], config: AutoencoderTraining) -> None:
        self.model, self.clips, self.held_out, self.config = model, clips, held_out, config
        self.total = len(clips)
        self._flops: dict[tuple[int, ...], float] = {}
        self._fitting = {(side, length): self._fit(side, length) for side in set(config.crops.sides) for length in set(config.crops.lengths)}

    def _fit(self, side: int, length: int) -> np.ndarray:
        found = [i for i, clip in enumerate(self.clips) if clip.shape[0] >= length and min(clip.shape[1:3]) >= side]
        if not found:
            raise DataError(f"none of {len(self.clips)} clips has {length} frames of {side}x{side} pixels; give larger clips, or smaller crops")
        return np.array(found)

    def module(self) -> nn.Module:
        """Return the autoencoder."""
        return self.model

    def describe(self) -> str:
        """Return one line on the training set."""
        size = sum(clip.nbytes for clip in self.clips) / 2**30
        left = f", {self.total - len(self.clips)} left out for lack of memory" if self.total > len(self.clips) else ""
        return f"autoencoder: {len(self.clips)} clips to train on in {size:.2f} GiB{left}, {len(self.held_out)} held out"

    def batch(self, index: int) -> Tensor:
        """Return crops of one shape, uint8 ``[B, T, S, S, 3]``, mirrored and played backward at random."""
        crops, stride = self.config.crops, self.config.model.stride
        rng = np.random.default_rng((self.config.train.seed, index))
        side, length = int(rng.choice(crops.sides)), int(rng.choice(crops.lengths))
        cells = (side // stride.space) ** 2 * (1 + (length - 1) // stride.time)
        fitting = self._fitting[side, length]
        batch = np.empty((max(1, round(crops.cells / cells)), length, side, side, 3), np.uint8)
        for crop in batch:
            clip = self.clips[rng.choice(fitting)]
            t, y, x = (int(rng.integers(room + 1)) for room in (clip.shape[0] - length, clip.shape[1] - side, clip.shape[2] - side))
            cut = clip[t : t + length, y : y + side, x : x + side]
            mirrored, backward = rng.integers(2, size=2)
            cut = cut[:, :, ::-1] if mirrored else cut
            crop[:] = cut[::-1] if backward else cut
        return torch.from_numpy(batch)

    def work(self, batch: Tensor) -> Work:
        """Return crops, latent cells, and operations, counted on one crop of every new shape."""
        shape, stride = tuple(batch.shape), self.config.model.stride
        if shape not in self._flops:
            self._flops[shape] = shape[0] * _convolution_flops(self.model, _to_video(batch[:1], self.model.latents_mean.device))
        cells = shape[0] * (1 + (shape[1] - 1) // stride.time) * (shape[2] // stride.space) ** 2
        return Work(samples=shape[0], tokens=cells, flops=self._flops[shape])

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and its terms."""
        return reconstruction_loss(self.model, _to_video(batch, generator.device), self.config.loss, generator)

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write a sheet of held-out clips, each above its reconstruction, and the figures of all held-out clips."""
        assert isinstance(module, Autoencoder)
        folder.mkdir(parents=True, exist_ok=True)
        report = measure(module, self.held_out)
        write_text(folder / f"held-out-{step:06d}.json", json.dumps(dataclasses.asdict(report), indent=2) + "\n")
        rows = [row for clip in _alike(self.held_out) for row in _pair(module, clip)]
        save_image(contact_sheet(Clip(np.concatenate(rows), 12.0), columns=4, rows=len(rows)), folder / f"step-{step:06d}.png")

    def export(self, module: nn.Module, folder: Path) -> None:
        """Measure the latents and write the folder in fp16."""
        assert isinstance(module, Autoencoder)
        config = module.config
        if not self.config.decoder_only:
            mean, std = latent_statistics(module, self.clips[:STATISTICS_CLIPS])
            config = dataclasses.replace(config, latents_mean=mean, latents_std=std)
        model = Autoencoder(config)
        model.load_state_dict(module.state_dict())
        model.half().save(folder)


def _to_video(batch: Tensor, device: torch.device) -> Tensor:
    return batch.to(device).permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1.0)


@torch.no_grad()
def _convolution_flops(model: Autoencoder, video: Tensor) -> float:
    """Return the operations of all convolutions in coding and decoding a video, three times where they are trained; the rest is small."""
    counts: list[float] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Conv3d)
        counts.append((6.0 if module.weight.requires_grad else 2.0) * output.numel() * module.weight[0].numel())

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    model.reconstruct(model.moments(video)[0])
    for hook in hooks:
        hook.remove()
    return sum(counts)


def _alike(clips: Sequence[Frames], count: int = 5) -> list[Frames]:
    """Return clips of the commonest size, so that they fit one sheet."""
    common = Counter(clip.shape for clip in clips).most_common(1)[0][0]
    return [clip for clip in clips if clip.shape == common][:count]


def _pair(model: Autoencoder, clip: Frames) -> Iterator[Frames]:
    shown = np.linspace(0, len(clip) - 1, 4).round().astype(int)
    video = _to_video(torch.from_numpy(clip)[None], model.latents_mean.device)
    decoded = decode_evenly(model, model.encode(video))[0].add(1).mul(127.5).round().byte().permute(1, 2, 3, 0)
    yield clip[shown]
    yield decoded.cpu().numpy()[shown]


def measure(model: Autoencoder, clips: Sequence[Frames]) -> ReconstructionReport:
    """Return how well a model keeps clips, computed as at generation, under autocast."""
    device = model.latents_mean.device
    with runtime.autocast(device):
        return evaluate_autoencoder(model.encode, partial(decode_evenly, model), clips, device=device)


@torch.no_grad()
def latent_statistics(model: Autoencoder, clips: Sequence[Frames]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of every raw latent channel over whole clips.

    Args:
        model: The autoencoder; its own statistics are not used.
        clips: uint8 ``[T, H, W, 3]`` on the grid.
    """
    count, total, square = 0, torch.zeros(model.config.z_dim, dtype=torch.float64), torch.zeros(model.config.z_dim, dtype=torch.float64)
    device = model.latents_mean.device
    for clip in clips:
        with runtime.autocast(device):
            raw = model.moments(_to_video(torch.from_numpy(clip)[None], device))[0].double().cpu()
        count += raw[:, 0].numel()
        total += raw.sum(dim=(0, 2, 3, 4))
        square += raw.square().sum(dim=(0, 2, 3, 4))
    mean = total / max(count, 1)
    std = (square / max(count, 1) - mean.square()).clamp_min(1e-8).sqrt()
    return tuple(round(value, 5) for value in mean.tolist()), tuple(max(round(value, 5), 1e-5) for value in std.tolist())


def read_clips(
    folder: Path, config: CropConfig, seed: int, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Frames], list[Frames], int]:
    """Decode shards into memory.

    Args:
        folder: The shards.
        config: Memory and number of held-out clips.
        seed: Decides which clips are read if not all fit.
        progress: Called with clips done and in all.

    Returns:
        Training clips, held-out clips (the last of the set), and the number of training clips in the shards.

    Raises:
        DataError: the shards hold no more clips than are held out.
    """
    shards = ShardSet(folder)
    count = len(shards) - config.held_out
    if count < 1:
        raise DataError(f"{folder} holds {len(shards)} clips and {config.held_out} are held out; render more, or lower crops.held_out")
    order = np.random.default_rng(seed).permutation(count)
    sizes = [3 * info.num_frames * info.height * info.width for info in map(shards.info, order.tolist())]
    fitting = max(1, int(np.searchsorted(np.cumsum(sizes), config.memory_gib * 2**30, side="right")))
    clips: list[Frames] = []
    with ThreadPoolExecutor(2) as pool:
        for frames in pool.map(shards.frames, order[:fitting].tolist()):
            clips.append(frames)
            if progress is not None:
                progress(len(clips), fitting)
    return clips, [shards.frames(count + i) for i in range(config.held_out)], count


def _model(config: AutoencoderTraining) -> Autoencoder:
    if config.start is None:
        return Autoencoder(config.model)
    model = Autoencoder.load(config.start).train()
    if dataclasses.replace(model.config, latents_mean=None, latents_std=None) != dataclasses.replace(
        config.model, latents_mean=None, latents_std=None
    ):
        raise ConfigError(
            f"the autoencoder in {config.start} has another graph than the config's model; copy the fields of its config.json to [model]"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (config.decoder_only and name.startswith(("encoder.", "quant_conv."))))
    return model


def train(config: AutoencoderTraining, folder: Path, device: torch.device, *, progress: Callable[[int, int], None] | None = None) -> Result:
    """Train an autoencoder on shards and write how well the exported folder keeps held-out clips to ``reconstruction.json``.

    Args:
        config: What and how long.
        folder: Takes checkpoints, logs and the exported autoencoder.
        device: Where to compute.
        progress: Called with clips read and in all.

    Raises:
        DataError: the shards hold no clips, or none large enough.
        ConfigError: ``start`` holds another graph.
    """
    clips, held_out, total = read_clips(config.data, config.crops, config.train.seed, progress)
    torch.manual_seed(config.train.seed)
    task = AutoencoderTask(_model(config), clips, held_out, config)
    task.total = total
    result = run(task, config.train, folder, device, optim=config.optim)
    write_provenance(ShardSet(config.data), result.folder)
    report = measure(Autoencoder.load(result.folder).to(device), held_out)
    write_text(folder / "reconstruction.json", json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    return result
