"""Memory of a computation without computing: the real modules run on the meta device, which knows shapes and no numbers.

Every allocation and release is counted as it happens, so that the figures follow the code and need no formula. Autocast does not
reach the meta device: networks are run in the number format that autocast would give their products.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.transformer.blocks import Block, Context
from diorama.transformer.config import TransformerConfig

__all__ = ["decoding_bytes", "denoising_bytes", "encoding_bytes", "peak_bytes"]

_META = torch.device("meta")
_WRITTEN_OUT = 3 * 2**24
"""Scores that a CPU writes out at once in bf16, and in float32 inside their product (``ops.attention``; measured: 64 MiB in all)."""


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._alive:
            return
        self._alive[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self.now -= self._alive.pop(key)


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most bytes of new tensors that are alive at once while ``run`` runs; what it closes over is not counted."""
    with torch.inference_mode(), _META, (counter := _Counter()):
        kept = run()
    del kept
    return counter.peak


def denoising_bytes(
    config: TransformerConfig,
    grid: tuple[int, int, int],
    num_clips: int,
    *,
    dtype: torch.dtype,
    device: str,
    num_text: int,
    together: int | None = None,
) -> int:
    """Return the peak of one evaluation of a transformer beside its weights, with its texts and the latents of the solver.

    Args:
        config: Of the transformer.
        grid: Tokens of a clip along time, height and width.
        num_clips: Clips that a step evaluates: with guidance two.
        dtype: Number format of the products.
        device: ``cpu`` or ``cuda``; on a CPU tokens of one time share their modulation.
        num_text: Text tokens of a clip.
        together: How many of the clips are evaluated side by side; None for all.
    """
    side_by_side = num_clips if together is None else together
    length, width, heads = math.prod(grid), config.hidden_size, config.num_attention_heads
    with _META:
        block = Block(config).to(dtype)

    def run() -> Tensor:
        tokens = side_by_side * length
        rows = side_by_side if device == "cpu" else tokens
        x = torch.empty(rows, tokens // rows, width)
        context = Context(
            lengths=(length,) * side_by_side,
            rope=torch.empty(tokens, config.attention_head_dim // 2, 2),
            modulation=torch.empty(side_by_side, 6, width),
            rows=torch.zeros(rows, dtype=torch.long),
            text_mask=torch.zeros(side_by_side, num_text),
            dtype=dtype,
        )
        key, value = (torch.empty(side_by_side, heads, num_text, config.attention_head_dim, dtype=dtype) for _ in range(2))
        out: Tensor = block(x, key, value, context)
        return out

    texts = (config.num_layers * num_clips - side_by_side) * 2 * num_text * width * dtype.itemsize
    # The noised clip once for each text, its tokens, the velocities, and what the solver remembers.
    latents = 4 * length * math.prod(config.patch_size) * (2 * num_clips * config.in_channels + (2 * num_clips + 6) * config.out_channels)
    written_out = _WRITTEN_OUT if device == "cpu" and dtype == torch.bfloat16 else 0
    return peak_bytes(run) + texts + latents + written_out


def decoding_bytes(config: AutoencoderConfig, size: tuple[int, int], *, dtype: torch.dtype, num_frames: int = 1) -> int:
    """Return the peak of decoding a latent of any length frame by frame, beside the weights.

    Args:
        config: Of the autoencoder.
        size: Latent cells along height and width; with tiles, of the largest tile with its surroundings.
        dtype: Number format of the products.
        num_frames: Latent frames at once.
    """
    model = _autoencoder(config, dtype)

    def run() -> object:
        tails, video = None, None
        for _ in range(3):  # the first frame is coded alone, the third has all it remembers
            video, tails = model.decode_chunk(torch.empty(1, config.z_dim, num_frames, *size, dtype=dtype), tails)
        return video

    return peak_bytes(run)


def encoding_bytes(config: AutoencoderConfig, size: tuple[int, int], *, dtype: torch.dtype, num_frames: int) -> int:
    """Return the peak of encoding a clip in pieces, beside the weights.

    Args:
        config: Of the autoencoder.
        size: Pixels along height and width.
        dtype: Number format of the products.
        num_frames: Frames of a piece, a multiple of the stride in time.
    """
    model = _autoencoder(config, dtype)

    def run() -> object:
        latent, tails = model.encode_chunk(torch.empty(1, 3, 1, *size, dtype=dtype))
        for _ in range(2):
            latent, tails = model.encode_chunk(torch.empty(1, 3, num_frames, *size, dtype=dtype), tails)
        return latent

    return peak_bytes(run)


def _autoencoder(config: AutoencoderConfig, dtype: torch.dtype) -> Autoencoder:
    with _META:
        return Autoencoder(config).requires_grad_(False).to(_META, dtype)
