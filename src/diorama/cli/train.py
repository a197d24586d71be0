"""``diorama train autoencoder|transformer|text|judge|captioner CONFIG.toml [--key value]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diorama.errors import ConfigError, InputError, nearest

if TYPE_CHECKING:
    import torch

__all__ = ["run"]

WHAT = {
    "autoencoder": "the video compression network, on shards",
    "latents": "write the cache of latents and text states that the transformer trains on",
    "transformer": "the diffusion transformer, on cached latents",
    "text": "the compact text encoder, distilled from MiniLM",
    "judge": "the judge of evaluate prompt, on shards",
    "captioner": "frames to captions, on shards with captions",
}
USAGE = (
    "usage: diorama train WHAT CONFIG.toml [--out FOLDER] [--device DEVICE] [--section.key value ...]\n\n"
    + "\n".join(f"  {name:<12} {what}" for name, what in WHAT.items())
    + "\n\nA run writes to FOLDER (runs/WHAT if left out): checkpoints, log.jsonl, tensorboard events, samples/, and the exported\n"
    "model. Started again with the same folder it goes on where it stopped. --train.minutes 30 sets a wall-clock budget,\n"
    "--train.steps 1000 the steps of the whole run."
)


def run(arguments: Sequence[str]) -> None:
    """Train one part, with values of the config replaced by ``--section.key value``."""
    if not arguments or any(word in ("-h", "--help") for word in arguments):
        print(USAGE)
        return
    name, *rest = arguments
    if name not in WHAT:
        raise InputError(f"unknown part '{name}'{nearest(name, WHAT) or '; allowed: ' + ', '.join(WHAT)}")
    if not rest or rest[0].startswith("--"):
        raise InputError(f"'train {name}' needs a config file, for example configs/{name}.toml")
    config, folder, device, overrides = Path(rest[0]), Path("runs") / name, "auto", rest[1:]
    for flag in ("--out", "--device"):
        if flag in overrides:
            at = overrides.index(flag)
            if at + 1 == len(overrides):
                raise ConfigError(f"{flag} needs a value after it")
            value = overrides[at + 1]
            overrides = overrides[:at] + overrides[at + 2 :]
            folder, device = (Path(value), device) if flag == "--out" else (folder, value)
    from diorama import runtime

    runtime.prepare_cpu()
    _TRAIN[name](config, overrides, folder, runtime.choose_device(device))


def _autoencoder(path: Path, overrides: Sequence[str], folder: Path, device: torch.device) -> None:
    from diorama.cli.progress import progress_bar
    from diorama.config import load_toml
    from diorama.train.autoencoder import AutoencoderTraining, train

    config = load_toml(AutoencoderTraining, path, overrides)
    with progress_bar() as progress:
        train(config, folder, device, progress=lambda done, total: progress("reading", done, total))
    print(f"held-out clips: {(folder / 'reconstruction.json').read_text(encoding='utf-8')}")


def _latents(path: Path, overrides: Sequence[str], folder: Path, device: torch.device) -> None:
    from diorama.cli.progress import progress_bar
    from diorama.config import load_toml
    from diorama.train.cache import CacheConfig, write_cache

    config = load_toml(CacheConfig, path, overrides)
    with progress_bar() as progress:
        print(write_cache(config, folder, device, progress=lambda done, total: progress("encoding", done, total)))


def _transformer(path: Path, overrides: Sequence[str], folder: Path, device: torch.device) -> None:
    from diorama.cli.progress import progress_bar
    from diorama.config import load_toml
    from diorama.train.transformer import TransformerTrainConfig, train_transformer

    config = load_toml(TransformerTrainConfig, path, overrides)
    with progress_bar() as progress:
        train_transformer(config, folder, device, progress=progress)


def _text(path: Path, overrides: Sequence[str], folder: Path, device: torch.device) -> None:
    from diorama.config import load_toml
    from diorama.train.distill import DistillConfig, distill

    del device  # the encoder is small enough for any CPU
    distill(load_toml(DistillConfig, path, overrides), folder)


def _judge(path: Path, overrides: Sequence[str], folder: Path, device: torch.device) -> None:
    from diorama.config import load_toml
    from diorama.train.judge import JudgeTraining, train

    train(load_toml(JudgeTraining, path, overrides), folder, device)


def _captioner(path: Path, overrides: Sequence[str], folder: Path, device: torch.device) -> None:
    from diorama.config import load_toml
    from diorama.train.captioner import CaptionerTraining, train

    train(load_toml(CaptionerTraining, path, overrides), folder, device)
    if (folder / "accuracy.json").exists():
        print(f"held-out clips: {(folder / 'accuracy.json').read_text(encoding='utf-8')}")


_TRAIN: dict[str, Callable[[Path, Sequence[str], Path, torch.device], None]] = {
    "autoencoder": _autoencoder,
    "latents": _latents,
    "transformer": _transformer,
    "text": _text,
    "judge": _judge,
    "captioner": _captioner,
}
