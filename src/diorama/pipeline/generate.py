"""The one loop behind every mode: prompts to states, items to a start, the flow to a latent, the latent to frames."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from diorama import runtime
from diorama.flow import PairVelocity, guided, sample, schedule
from diorama.media import Pixels, from_tensor
from diorama.patches import unpack
from diorama.pipeline.items import Item
from diorama.pipeline.load import Models
from diorama.pipeline.request import Request
from diorama.pipeline.state import LatentState, blank
from diorama.text.states import TextStates
from diorama.transformer.text import TextCache

__all__ = ["Progress", "decode", "denoise", "generate", "memory_needed", "prepare"]

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, ``denoise`` or ``decode``, its steps done and its steps in all."""


@torch.inference_mode()
def generate(models: Models, request: Request, items: Sequence[Item], *, progress: Progress | None = None) -> tuple[Pixels, list[str]]:
    """Make the frames of a request.

    Args:
        models: The model.
        request: What is asked for.
        items: What the mode knows about the clip, applied in order.
        progress: Told how far each stage is.

    Returns:
        Frames ``[T, H, W, 3]`` uint8, and notes for the user (what of the prompt could not be taken).

    Raises:
        InputError: the request is off the model's grid, or an item does not fit it.
        TooLargeError: the request does not fit into the memory.
    """
    remedy = f"ask for less than {request.num_frames} frames of {request.width}x{request.height}"
    runtime.check_memory(memory_needed(models, request), models.device, remedy=remedy)
    state = prepare(models, request, items)
    latent, notes = denoise(models, request, state, progress)
    return decode(models, latent, request.fps, progress), notes


def prepare(models: Models, request: Request, items: Sequence[Item]) -> LatentState:
    """Return the state that sampling starts from.

    Raises:
        InputError: the request is off the model's grid, or an item does not fit it.
    """
    cell = models.autoencoder.config
    grid = request.shape(models.stride).latent(cell.stride)
    state = blank(cell.latent_channels, grid, seed=request.seed, fps=request.fps)
    for item in items:
        state = item(state)
    return state


def denoise(models: Models, request: Request, state: LatentState, progress: Progress | None = None) -> tuple[Tensor, list[str]]:
    """Follow the flow from a state to a latent.

    Returns:
        Latent ``[C, T, h, w]`` float32 on the model's device, kept cells bit-equal; and notes for the user.
    """
    assert state.cues, "a mode gives at least one Guide"
    state = _whole_patches(state, models.transformer.config.patch_size)
    texts = models.text_encoder.encode([*(cue.prompt for cue in state.cues), request.negative_prompt])
    notes = _notes(texts)
    num_tokens = state.start.numel() // math.prod(models.transformer.config.patch_size)
    visited = schedule(request.steps, models.scheduler.shift_for(num_tokens))
    report = None if progress is None else lambda done, total: progress("denoise", done, total)
    with runtime.autocast(models.device):
        text = models.transformer.encode_text(texts.states, texts.mask, texts.pooled)
        velocity = guided(_denoiser(models, state, text), request.guidance)
        start = state.start.to(models.device)
        latent = sample(velocity, state.point.to(models.device), start, visited, solver=request.solver, progress=report)
    return latent, notes


def decode(models: Models, latent: Tensor, fps: float, progress: Progress | None = None) -> Pixels:
    """Decode a latent ``[C, T, h, w]`` frame by frame into pixels ``[T, H, W, 3]`` uint8, in bounded memory beside them."""
    total = latent.shape[1]
    if progress is not None:
        progress("decode", 0, total)
    pieces: list[Pixels] = []
    with runtime.autocast(models.device):
        for video in models.autoencoder.decode_stream(latent[None]):
            pieces.append(from_tensor(video, fps).frames)
            if progress is not None:
                progress("decode", len(pieces), total)
    return np.concatenate(pieces)


def memory_needed(models: Models, request: Request) -> int:
    """Return roughly the bytes that a request takes beside the weights: the larger of both stages and the frames."""
    frames, height, width = request.shape(models.stride).latent(models.autoencoder.config.stride)
    config = models.transformer.config
    num_tokens = frames * height * width // math.prod(config.patch_size)
    clips = 1 if request.guidance_scale == 1 else 2
    # A block holds about 16 token-wide tensors at once, the solver about 8 latents; four bytes each. Measured for the
    # default model at 128x128x33, 512x512x33 and 128x128x1201: this is 1.2 to 2 times what was taken.
    denoising = 4 * clips * num_tokens * (16 * config.hidden_size + 2 * config.ffn_dim + 8 * config.token_dim)
    pixels, finest = request.width * request.height, models.autoencoder.config
    # The decoder's finest level holds about 8 tensors of the cells of one latent frame.
    decoding = 4 * 8 * finest.decoder_widths[0] * pixels * finest.stride.time // math.prod(finest.patch)
    return max(denoising, decoding) + 2 * 3 * pixels * request.num_frames


def _notes(texts: TextStates) -> list[str]:
    left_out, unknown = sum(texts.truncated), sum(texts.unknown)
    notes = [f"the prompt is too long: its last {left_out} word pieces were left out"] if left_out else []
    return [*notes, f"{unknown} words of the prompt cannot be spelled by the model and were not understood"] if unknown else notes


def _whole_patches(state: LatentState, patch_size: tuple[int, int, int]) -> LatentState:
    """Give all cells of a patch the latest of their start times: a token has one."""
    if patch_size == (1, 1, 1):
        return state
    pooled = torch.nn.functional.max_pool3d(state.start[None], patch_size, patch_size)[0]
    for dim, size in enumerate(patch_size):
        pooled = pooled.repeat_interleave(size, dim)
    return dataclasses.replace(state, start=pooled)


def _denoiser(models: Models, state: LatentState, text: TextCache) -> PairVelocity:
    """Return the velocity of a clip under its cues and, asked for, under the negative prompt, whose text comes last."""
    transformer, num_cues = models.transformer, len(state.cues)
    every_t, every_h, every_w = transformer.config.patch_size
    cues_only = text.select(range(num_cues))
    weights = torch.stack([cue.weight for cue in state.cues]).to(models.device) + 1e-6
    shares = (weights / weights.sum(0))[:, None, :, None, None]

    def pair(x: Tensor, times: Tensor, both: bool) -> tuple[Tensor, Tensor | None]:
        n = num_cues + both
        clips = transformer.pack([x] * n, [times[::every_t, ::every_h, ::every_w]] * n, fps=state.fps)
        tokens = transformer(clips, text if both else cues_only)
        velocities = torch.stack(unpack(tokens, clips.grids, transformer.config.patch_size))
        conditional = (shares * velocities[:num_cues]).sum(0)
        return conditional, velocities[-1] if both else None

    return pair
