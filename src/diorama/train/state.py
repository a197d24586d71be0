"""What a run leaves on disk so that it can go on: its checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from torch import Tensor, nn

from diorama.checkpoint import load_tensors, save_folder
from diorama.errors import CheckpointError, DioramaError
from diorama.train.optim import MuonAdamW

__all__ = ["KEPT", "TrainingError", "checkpoints", "resume", "save"]

KEPT = 2


class TrainingError(DioramaError):
    """Training cannot go on; the message names the last good checkpoint."""


def checkpoints(folder: Path) -> list[Path]:
    """Return the run's complete checkpoints, oldest first."""
    return sorted((folder / "checkpoints").glob("step-*"))


def save(folder: Path, step: int, module: nn.Module, average: nn.Module, optimizer: MuonAdamW) -> Path:
    """Write a checkpoint after ``step`` steps and drop all but the last ``KEPT``.

    Raises:
        CheckpointError: the disk is full or not writable; older checkpoints stay.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, values in (("model", module.state_dict()), ("ema", average.state_dict()), ("optim", optimizer.state_dict())):
        tensors.update({f"{prefix}.{name}": value for name, value in values.items()})
    path = folder / "checkpoints" / f"step-{step:08d}"
    try:
        save_folder(path, tensors, {"step": step})
    except CheckpointError as error:
        kept = checkpoints(folder)
        raise CheckpointError(f"{error}; {f'the checkpoint {kept[-1]} stays' if kept else 'there is no earlier checkpoint'}") from error
    for old in checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def resume(folder: Path, module: nn.Module, average: nn.Module, optimizer: MuonAdamW) -> int:
    """Load the newest checkpoint, if there is one, and return how many steps it has behind it.

    Raises:
        CheckpointError: the checkpoint is damaged or of another model.
    """
    for leftover in (folder / "checkpoints").glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    found = checkpoints(folder)
    if not found:
        return 0
    newest = found[-1]
    try:
        tensors = load_tensors(newest)
        step = int(json.loads((newest / "config.json").read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint {newest} is damaged ({error}); delete it to resume from the one before") from error
    except CheckpointError as error:
        raise CheckpointError(f"{error}, or delete {newest} to resume from the one before") from error
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optim": {}}
    for key, value in tensors.items():
        prefix, _, name = key.partition(".")
        parts.setdefault(prefix, {})[name] = value
    known = len(parts) == 3
    for target, part in ((module, "model"), (average, "ema")):
        expected = {name: value.shape for name, value in target.state_dict().items()}
        if not known or expected != {name: value.shape for name, value in parts[part].items()}:
            raise CheckpointError(
                f"checkpoint {newest} is of another model than the config; resume with the run's own config, or start in another folder"
            )
        target.load_state_dict(parts[part])
    optimizer.load_state_dict(parts["optim"])
    return step
