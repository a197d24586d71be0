"""The checkpoints of a transformer's run as models that generate, also while the run goes on.

Nothing here writes to the run or holds it up: another process may watch a training and measure what it has learned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from diorama.checkpoint import fill, open_weights
from diorama.config import load_json
from diorama.errors import CheckpointError
from diorama.interop.lora import merge_lora
from diorama.pipeline import Models
from diorama.runtime import is_held
from diorama.train.cache import load_encoders
from diorama.train.lora import Adapter
from diorama.train.naming import WithNaming
from diorama.train.state import checkpoints
from diorama.train.transformer import TransformerTrainConfig, first_transformer, models_with, with_base

__all__ = ["follow", "opener"]


def follow(run: Path, *, wait: bool, seconds: float = 10.0) -> Iterator[Path]:
    """Yield the folder of each checkpoint of a run once, oldest first.

    A run keeps its last two, so those that come and go while the caller is busy with one are passed over.

    Args:
        run: The run's folder.
        wait: Go on with checkpoints to come, until no process trains in the folder.
        seconds: Between two looks at the folder.
    """
    seen: set[str] = set()
    while True:
        trains = wait and is_held(run)  # asked first, so that what a run writes last is not missed
        fresh = next((path for path in checkpoints(run) if path.name not in seen), None)
        if fresh is not None:
            seen.add(fresh.name)
            yield fresh
        elif trains:
            time.sleep(seconds)
        else:
            return


def opener(run: Path, device: torch.device) -> Callable[[Path], Models]:
    """Return a function that makes a model of a checkpoint: its averaged weights between the run's frozen encoders.

    The function raises CheckpointError where the checkpoint cannot be read or is of another model.

    Args:
        run: The folder of a run of ``train_transformer``.
        device: Where to compute.

    Raises:
        CheckpointError: the folder has no ``config.json``, or the encoders it names cannot be read.
        ConfigError: that file cannot be understood.
    """
    record = run / "config.json"
    if not record.is_file():
        raise CheckpointError(
            f"{run} holds no config.json, so it is no run of 'diorama train transformer', or one of an earlier version; start training in it again"
        )
    config = with_base(load_json(TransformerTrainConfig, record))
    encoders = load_encoders(config.autoencoder, config.text_encoder, device)

    def read(checkpoint: Path) -> Models:
        transformer = first_transformer(config)
        trained: nn.Module = transformer if config.lora is None else Adapter(transformer, config.lora)
        if config.naming.weight:
            trained = WithNaming(transformer, config.naming.block)
        fill(trained, open_weights(checkpoint).renamed(lambda name: name.removeprefix("ema.") if name.startswith("ema.") else None))
        if isinstance(trained, Adapter):
            merge_lora(transformer, trained.lora())
        return models_with(transformer.to(device).eval().requires_grad_(False), config, encoders)

    return read
