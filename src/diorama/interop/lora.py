"""LoRA files: read in diffusers', peft's, Kohya's and the original Wan naming, scaled, merged into a transformer, written.

A file is read without the model. What it changes is checked against the model when it is merged: the tensor that does not fit is
named. Scales come from ``alpha`` tensors, from the header that diffusers writes, or from peft's ``adapter_config.json``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from diorama.checkpoint import load_file, write_file
from diorama.errors import CheckpointError, InputError, nearest
from diorama.interop.names import BLOCK_MODULES, OTHER_MODULES

__all__ = ["Change", "Expert", "Lora", "LoraFile", "load_lora", "merge_lora", "parse_lora", "save_lora"]

STEM = "pytorch_lora_weights"
"""File name that diffusers looks for in a folder."""
_FILES = (f"{STEM}.safetensors", "adapter_model.safetensors")
Expert = Literal["high", "low"]
"""Which of two transformers: that of high noise, ``transformer`` in diffusers' naming, or that of low noise, ``transformer_2``."""
_EXPERTS: dict[str, Expert] = {"transformer.": "high", "transformer_2.": "low"}
_PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer_2.", "transformer.")
_FLAT = "lora_unet_"
_KEY = re.compile(r"(?P<module>.+?)\.(?P<kind>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up)(?:\.\w+)??\.(?P<part>weight|bias)")
_ROLES = {"lora_A": "down", "lora_down": "down", "lora.down": "down", "lora_B": "up", "lora_up": "up", "lora.up": "up"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a LoRA adds to one module: ``scale * up @ down`` to the weight, or a whole tensor, and a vector to the bias."""

    down: Tensor | None = None
    """``[R, in]``."""
    up: Tensor | None = None
    """``[out, R]``."""
    scale: float = 1.0
    """``alpha / R``."""
    weight: Tensor | None = None
    """Added to the weight as it is."""
    bias: Tensor | None = None
    """Added to the bias as it is."""

    def delta(self) -> Tensor | None:
        """Return what is added to the weight, in float32; None if nothing."""
        total = None if self.weight is None else self.weight.float()
        if self.down is not None and self.up is not None:
            product = self.scale * (self.up.flatten(1).float() @ self.down.flatten(1).float())
            total = product if total is None else total.reshape(product.shape) + product
        return total


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Changes to the modules of a transformer."""

    changes: Mapping[str, Change]
    """By module, named as in diffusers: ``blocks.0.attn1.to_q``."""
    source: str = "the LoRA"
    """Where it came from, for messages."""

    def scaled(self, factor: float) -> Lora:
        """Return it with every change ``factor`` times as strong.

        Raises:
            InputError: the factor is not finite.
        """
        if not math.isfinite(factor):
            raise InputError(f"a LoRA cannot be scaled by {factor}; give a finite number, 1 for the strength it was trained at")
        changes = {
            name: replace(
                change,
                scale=change.scale * factor,
                weight=None if change.weight is None else change.weight * factor,
                bias=None if change.bias is None else change.bias * factor,
            )
            for name, change in self.changes.items()
        }
        return replace(self, changes=changes)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Distinct ranks, ascending."""
        return tuple(sorted({len(change.down) for change in self.changes.values() if change.down is not None}))


@dataclass(frozen=True)
class LoraFile:
    """A LoRA that is asked for."""

    path: Path
    scale: float = 1.0
    """Strength; 1 is the strength it was trained at."""
    expert: Expert | None = None
    """The one of two experts that it is for; None if the file itself says, or for all."""


def parse_lora(text: str) -> LoraFile:
    """Split ``FILE[:SCALE][:high|:low]``, as the command line takes it.

    Raises:
        InputError: the file is empty or the scale is not finite.
    """
    rest, expert = text, None
    for name in get_args(Expert):
        if text.endswith(f":{name}") and not Path(text).exists():
            rest, expert = text.removesuffix(f":{name}"), name
    name, colon, strength = rest.rpartition(":")
    try:
        path, scale = (Path(name), float(strength)) if colon and not Path(rest).exists() else (Path(rest), 1.0)
    except ValueError:
        path, scale = Path(rest), 1.0
    if not str(path).strip(".") or not math.isfinite(scale):
        raise InputError(f"LoRA '{text}' is not understood: write FILE, FILE:scale or FILE:scale:high, for example style.safetensors:0.8")
    return LoraFile(path, scale, expert)


def load_lora(path: Path, expert: Expert | None = None) -> Lora:
    """Read a LoRA.

    Args:
        path: A safetensors file, or a folder that diffusers, peft or ``diorama train transformer --lora.rank`` wrote.
        expert: The one of two experts that it is read for: of a file that names the second expert only that expert's part, which may be nothing.

    Raises:
        CheckpointError: the file is missing or damaged, holds what is no LoRA of a Wan graph, or one for each of two experts and none is named.
    """
    file = _find(Path(path))
    tensors, header = load_file(file)
    owners = {key: owner for key in tensors for prefix, owner in _EXPERTS.items() if key.startswith(prefix)}
    if expert is None and len(set(owners.values())) > 1:
        raise CheckpointError(f"{file} holds a LoRA for each of two experts; it is for a model that has two, so split it for others")
    if expert is not None and "low" in owners.values():
        tensors = {key: value for key, value in tensors.items() if owners.get(key) == expert}
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        module, role = _split(key, file)
        found.setdefault(module, {})[role] = value
    alphas = _Alphas(header, file)
    return Lora(changes={module: _change(module, parts, alphas, file) for module, parts in found.items()}, source=str(file))


def _find(path: Path) -> Path:
    if path.is_dir():
        named = [path / name for name in _FILES if (path / name).is_file()]
        found = named or sorted(path.glob("*.safetensors"))
        if len(found) != 1 and not named:
            raise CheckpointError(f"folder {path} holds {len(found)} safetensors files; give the file of the LoRA itself")
        return found[0]
    if path.suffix != ".safetensors" and path.is_file():
        raise CheckpointError(f"LoRA {path} is no safetensors file; convert it, other formats can run code when they are read")
    return path


def _split(key: str, file: Path) -> tuple[str, str]:
    """Return module and role of a tensor: down, up, alpha, weight, bias."""
    name = key
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    for suffix, role in ((".alpha", "alpha"), (".diff", "weight"), (".diff_b", "bias")):
        if name.endswith(suffix):
            return _module(name.removesuffix(suffix), key, file), role
    match = _KEY.fullmatch(name)
    if match is None:
        raise CheckpointError(
            f"{file} holds tensor '{key}', which is no part of a LoRA: allowed are lora_A and lora_B, lora_down and lora_up, alpha, diff"
        )
    role = _ROLES[match["kind"]]
    if match["part"] == "bias":
        role = "bias"
    return _module(match["module"], key, file), role


def _module(name: str, key: str, file: Path) -> str:
    """Return our name of a module, from diffusers', the original or Kohya's flattened one."""
    flat = name.startswith(_FLAT)
    name = name.removeprefix(_FLAT)
    block = re.fullmatch(r"blocks[._](\d+)[._](.+)", name)
    table, head, rest = (BLOCK_MODULES, f"blocks.{block[1]}.", block[2]) if block else (OTHER_MODULES, "", name)
    known = {**table, **{ours: ours for ours in table.values()}}
    if flat:
        known = {other.replace(".", "_"): ours for other, ours in known.items()}
        if rest not in known:
            raise CheckpointError(f"{file} holds tensor '{key}', whose module is not in the Wan graph{nearest(rest, known)}")
    # A name with dots is taken as it is where the table does not know it: our own graph has modules that Wan's lacks.
    return head + known.get(rest, rest)


class _Alphas:
    """Alphas that a file's header or the config beside it gives."""

    def __init__(self, header: Mapping[str, str], file: Path) -> None:
        path, values = file.parent / "adapter_config.json", {}
        try:
            if "lora_adapter_metadata" in header:
                values = {key.partition(".")[2] or key: value for key, value in json.loads(header["lora_adapter_metadata"]).items()}
            elif file.name == "adapter_model.safetensors" and path.is_file():
                values = json.loads(path.read_text(encoding="utf-8"))
            self.alpha: float | None = None if values.get("lora_alpha") is None else float(values["lora_alpha"])
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"the settings of LoRA {file} cannot be read ({error}); download or export it again") from error
        if values.get("use_dora"):
            raise CheckpointError(f"{file} is a DoRA, which scales whole columns; merge it with peft and export the model instead")
        self.root, self.patterns = bool(values.get("use_rslora")), dict(values.get("alpha_pattern") or {})

    def scale(self, module: str, rank: int) -> float:
        """Return the scale of a module without an alpha of its own."""
        special = next((float(alpha) for name, alpha in self.patterns.items() if re.match(rf"(.*\.)?({name})$", module)), None)
        alpha = special if special is not None else self.alpha
        return 1.0 if alpha is None else alpha / (math.sqrt(rank) if self.root else rank)


def _change(module: str, parts: Mapping[str, Tensor], alphas: _Alphas, file: Path) -> Change:
    down, up = parts.get("down"), parts.get("up")
    if (down is None) != (up is None):
        missing, other = ("lora_B", "lora_A") if up is None else ("lora_A", "lora_B")
        raise CheckpointError(f"{file} lacks tensor '{module}.{missing}' beside its {other}; the file is partial, download or export it again")
    if down is None or up is None:
        return Change(weight=parts.get("weight"), bias=parts.get("bias"))
    if down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1]:
        raise CheckpointError(
            f"{file}: '{module}' has lora_A of shape {tuple(down.shape)} and lora_B of shape {tuple(up.shape)}, which do not multiply; "
            "the rows of the first must be the columns of the second"
        )
    rank = down.shape[0]
    scale = alphas.scale(module, rank) if "alpha" not in parts else float(parts["alpha"]) / rank
    return Change(down=down, up=up, scale=scale, weight=parts.get("weight"), bias=parts.get("bias"))


@torch.no_grad()
def merge_lora(transformer: nn.Module, lora: Lora, scale: float = 1.0) -> None:
    """Add a LoRA to the weights of a transformer, in place and all of it or nothing.

    The sum is made in float32 and rounded once to the dtype of the weight.

    Args:
        transformer: A `Transformer` whose weights are not quantised.
        lora: From `load_lora`.
        scale: Strength; 1 is the strength it was trained at, negative takes away.

    Raises:
        CheckpointError: the LoRA is of another model; the message names the tensor, its shape and what was expected.
        InputError: the scale is not finite.
    """
    scaled = lora.scaled(scale)
    parameters = dict(transformer.named_parameters())
    modules = {name.rpartition(".")[0] for name in parameters}
    planned: list[tuple[nn.Parameter, Tensor]] = []
    for module, change in scaled.changes.items():
        if module not in modules:
            raise CheckpointError(
                f"{lora.source} changes module '{module}', which this transformer lacks{nearest(module, modules)}; it is for another model"
            )
        for name, delta in ((f"{module}.weight", change.delta()), (f"{module}.bias", change.bias)):
            if delta is not None:
                planned.append((_fitting(parameters.get(name), name, delta, lora.source), delta))
    for parameter, delta in planned:
        parameter.copy_((parameter.float() + delta.reshape(parameter.shape).to(parameter.device)).to(parameter.dtype))


def _fitting(parameter: nn.Parameter | None, name: str, delta: Tensor, source: str) -> nn.Parameter:
    if parameter is None or (len(delta), delta[0].numel()) != (len(parameter), parameter[0].numel()):
        expected = "none" if parameter is None else str(tuple(parameter.shape))
        raise CheckpointError(
            f"{source}: the change of '{name}' has shape {tuple(delta.shape)}, expected {expected}; the LoRA is for a model of another size"
        )
    return parameter


def save_lora(lora: Lora, path: Path, *, naming: Literal["diffusers", "kohya"] = "diffusers", metadata: Mapping[str, str] | None = None) -> Path:
    """Write a LoRA as one safetensors file.

    Args:
        lora: What to write.
        path: The file; a path without ``.safetensors`` is a folder, where diffusers finds it.
        naming: ``diffusers`` for diffusers and peft, scales multiplied into ``lora_B``; ``kohya`` for ComfyUI and Kohya's scripts, in
            the original Wan names with ``alpha`` tensors.
        metadata: Strings for the header.

    Returns:
        The file.

    Raises:
        InputError: the naming has no word for a module or a change.
        CheckpointError: the disk is full or the place is not writable.
    """
    path = Path(path)
    file = path if path.suffix == ".safetensors" else path / f"{STEM}.safetensors"
    write = _diffusers if naming == "diffusers" else _kohya
    tensors: dict[str, Tensor] = {}
    for module, change in lora.changes.items():
        tensors.update(write(module, change))
    write_file(file, tensors, {"format": "pt", **(metadata or {})})
    return file


def _diffusers(module: str, change: Change) -> dict[str, Tensor]:
    if change.weight is not None or change.down is None or change.up is None:
        raise InputError(f"the change of '{module}' is a whole tensor, for which diffusers' naming has no word; write it in kohya naming")
    parts = {"lora_A.weight": change.down, "lora_B.weight": change.up * change.scale}
    if change.bias is not None:
        parts["lora_B.bias"] = change.bias
    return {f"transformer.{module}.{part}": value for part, value in parts.items()}


def _kohya(module: str, change: Change) -> dict[str, Tensor]:
    block = re.fullmatch(r"(blocks\.\d+\.)(.+)", module)
    table, head, rest = (BLOCK_MODULES, block[1], block[2]) if block else (OTHER_MODULES, "", module)
    original = {ours: theirs for theirs, ours in table.items()}.get(rest)
    if original is None:
        raise InputError(f"module '{module}' has no name in the Wan graph, so the LoRA cannot be written in kohya naming; use diffusers")
    name = _FLAT + f"{head}{original}".replace(".", "_")
    parts: dict[str, Any] = {"diff": change.weight, "diff_b": change.bias, "lora_down.weight": change.down, "lora_up.weight": change.up}
    if change.down is not None:
        parts["alpha"] = torch.tensor(change.scale * len(change.down))
    return {f"{name}.{part}": value for part, value in parts.items() if value is not None}
