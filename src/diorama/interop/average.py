"""The mean of two trainings of one model, whose error is often below that of either.

Weights that went on from one start stay in one valley of the loss, and between two of them it is seldom higher than at either end.

Source: Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482, and "Robust fine-tuning", https://arxiv.org/abs/2109.01903.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from diorama.autoencoder.model import ENCODING
from diorama.checkpoint import Weights, open_weights, read_json, save_folder
from diorama.errors import CheckpointError, InputError

__all__ = ["average_folders"]

_STEM = "diffusion_pytorch_model"
_INDEX = "model_index.json"


def average_folders(first: Path, second: Path, folder: Path, *, share: float = 0.5) -> None:
    """Write a model whose transformers lie between those of two others; all else is as in the second.

    The transformers must fit into memory, one at a time.

    Args:
        first: A model folder.
        second: Another, trained on from the first or from the same start, for the same latents and texts.
        folder: What to write; it must not exist.
        share: How much of the second, from 0 to 1.

    Raises:
        InputError: the share is out of range, the place is taken or inside the second, or these are not two trainings of one model; the message
            says what differs.
        CheckpointError: a folder cannot be read, or the place is not writable.
    """
    first, second, folder = Path(first), Path(second), Path(folder)
    if not 0 <= share <= 1:
        raise InputError(f"share {share:g} is out of range: 0 is the first model, 1 the second, 0.5 half way")
    if folder.exists():
        raise InputError(f"{folder} exists already; give another place, or delete it")
    if second.resolve() in folder.resolve().parents:
        raise InputError(f"{folder} lies in {second}, which would be copied into itself; give a place outside")
    for model in (first, second):
        if not (model / _INDEX).is_file():
            raise CheckpointError(f"{model} is no model folder: {_INDEX} is missing; give for example the export of a training")
    experts = ["transformer", "transformer_2"] if any((model / "transformer_2").is_dir() for model in (first, second)) else ["transformer"]
    for part in experts:
        if read_json(first / part / "config.json") != read_json(second / part / "config.json"):
            raise InputError(f"{first} and {second} are not two trainings of one model: the config of {part} differs")
    for part, same in (
        ("vae", _same_latents(first / "vae", second / "vae")),
        ("text_encoder", _same(first / "text_encoder", second / "text_encoder")),
    ):
        if not same:
            raise InputError(f"{first} and {second} are not two trainings of one model: {part} differs, and their transformers were taught by it")
    ends = {part: _ends(first / part, second / part) for part in experts}
    try:
        shutil.copytree(second, folder, ignore=lambda here, _: [*experts, _INDEX] if Path(here) == second else [])
        for part, (start, end) in ends.items():
            save_folder(folder / part, _between(start, end, share), read_json(second / part / "config.json"), stem=_STEM)
        # Last, since a folder without it is no model.
        shutil.copy(second / _INDEX, folder / _INDEX)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error}") from error


def _ends(first: Path, second: Path) -> tuple[Weights, Weights]:
    """Open two sets of weights that have the same names and shapes.

    Raises:
        InputError: they have not.
        CheckpointError: a file cannot be read.
    """
    start, end = (open_weights(folder, stem=_STEM) for folder in (first, second))
    shapes = [{name: stored.shape for name, stored in weights.tensors.items()} for weights in (start, end)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{first} and {second} are not two trainings of one model: names or shapes of their weights differ")
    return start, end


def _between(start: Weights, end: Weights, share: float) -> dict[str, Tensor]:
    """Return what lies between, in the number formats of the end."""
    return {name: torch.lerp(start.tensors[name].read().float(), last.read().float(), share).to(last.dtype) for name, last in end.tensors.items()}


def _same_latents(first: Path, second: Path) -> bool:
    """Tell whether two autoencoders encode alike, whatever their decoders do."""
    scales = [[read_json(folder / "config.json").get(name) for name in ("latents_mean", "latents_std")] for folder in (first, second)]
    return scales[0] == scales[1] and _same(first, second, stem=_STEM, beginnings=ENCODING)


def _same(first: Path, second: Path, *, stem: str = "model", beginnings: tuple[str, ...] = ("",)) -> bool:
    """Tell whether all tensors whose names begin so are the same in both folders, whatever their number format."""
    start, end = (open_weights(folder, stem=stem).tensors for folder in (first, second))
    names = [{name for name in tensors if name.startswith(beginnings)} for tensors in (start, end)]
    return names[0] == names[1] and all(_equal(start[name].read(), end[name].read()) for name in names[0])


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool(torch.equal(first.float(), second.float()))
