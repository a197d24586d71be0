"""The blocks of a transformer compiled on request, and their kernels replayed as CUDA graphs.

Speed applied from outside: the model's files know nothing of it. Compiled kernels round elsewhere than torch's own, so results differ in
their last digits. torch's compiler is imported by the first step and by nothing before it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from typing import Any

import torch

from diorama.errors import InputError
from diorama.interop.settings import Compile
from diorama.transformer.model import Transformer

__all__ = ["check_compile", "compile_transformers"]

_CPU_COMPILERS = ("g++", "clang++", "c++")


def check_compile(how: Compile, device: torch.device) -> None:
    """Refuse what cannot be compiled here, before a model is read.

    Raises:
        InputError: CUDA graphs are asked for off CUDA, or there is no compiler for the device's kernels.
    """
    if how == "none":
        return
    if how == "graphs" and device.type != "cuda":
        raise InputError(f"--compile graphs replays CUDA graphs and this runs on {device.type}; use --compile blocks, or --device cuda")
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise InputError(f"--compile {how} makes kernels with triton, which is not installed; install it, or leave --compile out")
    elif device.type == "cpu" and not any(shutil.which(name) for name in (os.environ.get("CXX"), *_CPU_COMPILERS) if name):
        raise InputError(f"--compile {how} needs a C++ compiler and finds none of {', '.join(_CPU_COMPILERS)}; install one, or leave --compile out")


def compile_transformers(transformers: Sequence[Transformer], how: Compile, **options: Any) -> None:
    """Compile the blocks of transformers in place, at their first step; one compilation serves all blocks of the same sizes.

    Args:
        transformers: One, or two experts; rounded and placed already.
        how: ``graphs`` replays each block's kernels by one launch, in memory of its own.
        **options: As of ``torch.compile``.
    """
    for transformer in transformers if how != "none" else ():
        if how == "blocks":
            transformer.compile_blocks(**options)
            continue
        transformer.compile_blocks(mode="reduce-overhead", **options)
        # What the graphs of the step before left in their memory is no longer wanted.
        transformer.register_forward_pre_hook(lambda _module, _inputs: torch.compiler.cudagraph_mark_step_begin())  # type: ignore[no-untyped-call]
