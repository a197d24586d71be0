"""How a model is made to fit a card: number formats, where its weights wait, tiles. A value, made by the command line or by a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from diorama.errors import InputError, nearest
from diorama.interop.quantise import Precision

__all__ = ["DTYPES", "OFFLOADS", "Compile", "Offload", "Settings"]

Offload = Literal["none", "model", "block"]
"""What waits on the host: nothing; every part but the one in use; the linear weights of the blocks too."""
Compile = Literal["none", "blocks", "graphs"]
"""What ``torch.compile`` makes of a transformer: nothing; each block as one; their kernels replayed as CUDA graphs too."""
OFFLOADS: dict[Compile, tuple[Offload, ...]] = {"none": ("none", "model", "block"), "blocks": ("none", "model"), "graphs": ("none",)}
"""What may wait on the host: a compiled block needs all its weights at once, and a graph needs them where they were."""
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a model is read with; the defaults are the fastest."""

    dtype: Literal["bf16", "float32"] | None = None
    """Number format of weights and products; None takes bf16 for large models where the device is fast at it."""
    quantise: Precision | None = None
    """Weights of the linear layers in 8 bits."""
    offload: Offload = "none"
    """What waits in the host's memory."""
    compile: Compile = "none"
    """What is compiled before the first step."""
    tile: int | None = None
    """Side in pixels of the tiles that are decoded one after another; None decodes whole frames."""

    def __post_init__(self) -> None:
        choices = (
            ("dtype", self.dtype, tuple(DTYPES)),
            ("quantise", self.quantise, get_args(Precision)),
            ("offload", self.offload, get_args(Offload)),
            ("compile", self.compile, get_args(Compile)),
        )
        for name, value, allowed in choices:
            if value is not None and value not in allowed:
                raise InputError(f"--{name} {value} is unknown{nearest(value, allowed) or '; allowed: ' + ', '.join(allowed)}")
        if self.offload not in OFFLOADS[self.compile]:
            raise InputError(
                f"--compile {self.compile} does not go with --offload {self.offload}, which moves weights that it needs in their place; "
                f"allowed: --offload {' or '.join(OFFLOADS[self.compile])}"
            )
        if self.quantise == "fp8-products" and self.dtype == "float32":
            raise InputError("--quantise fp8-products gives results in bf16; leave --dtype float32 out, or use --quantise fp8")
        if self.tile is not None and self.tile < 1:
            raise InputError(f"a tile of {self.tile} pixels cannot be decoded; give 256 or more")

    @property
    def flags(self) -> str:
        """The settings as the command line takes them; empty for the defaults."""
        words = {
            "--dtype": self.dtype,
            "--quantise": self.quantise,
            "--offload": None if self.offload == "none" else self.offload,
            "--compile": None if self.compile == "none" else self.compile,
            "--tile": self.tile,
        }
        return " ".join(f"{flag} {value}" for flag, value in words.items() if value is not None)

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """``dtype`` as torch has it."""
        return None if self.dtype is None else DTYPES[self.dtype]
