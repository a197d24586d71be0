"""The one loop behind every mode: prompts to states, items to a start, the flow to a latent, the latent to frames."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diorama import runtime
from diorama.autoencoder import even_joins
from diorama.errors import InputError
from diorama.flow import PairVelocity, Velocity, Window, WindowVelocity, guided, roll, sample
from diorama.media import Clip, Pixels, from_tensor, to_tensor
from diorama.patches import unpack
from diorama.pipeline.candidates import best_first, candidates, decided, num_candidates, num_takes, sketch_steps, still_steps
from diorama.pipeline.items import Item
from diorama.pipeline.load import Models
from diorama.pipeline.picture import take_pictures
from diorama.pipeline.request import Request
from diorama.pipeline.state import LatentState, beginning, blank, half_made, side_by_side, with_first_frame
from diorama.pipeline.tiles import tiles_of
from diorama.text.states import TextStates
from diorama.transformer.model import BATCHED_TOKENS, Transformer
from diorama.transformer.reuse import Residuals
from diorama.transformer.text import TextCache

__all__ = ["Progress", "decode", "denoise", "encode", "encode_held", "generate", "memory_needed", "prepare"]

_ENCODE_FRAMES = 16
"""Frames encoded at once."""
_RING_TURN = 0.618
"""Share of a ring that the cut moves on with every step, so that it is nowhere for long."""

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, ``still``, ``takes``, ``denoise`` or ``decode``, its steps done and its steps in all."""


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
    num_cues = sum(int(cue.weight.any()) for cue in state.cues)
    if num_cues > 1:
        runtime.check_memory(memory_needed(models, request, num_cues=num_cues), models.device, remedy=f"{remedy}, or use fewer prompts")
    latent, notes = denoise(models, request, state, progress)
    return decode(models, latent, request.fps, progress, ring=state.ring), notes


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

    Raises:
        InputError: a guidance scale is given for a second expert, and there is none.
    """
    assert state.cues, "a mode gives at least one Guide"
    if request.guidance_scale_2 is not None and models.transformer_2 is None:
        raise InputError(f"guidance_scale_2 {request.guidance_scale_2:g} is for the second of two experts and this model is one; leave it out")
    state = _whole_patches(state, models.transformer.config.patch_size)
    if _is_still_first(models, request, state):
        return _animated(models, request, state, progress)
    if num_candidates(models, request) > 1 and state.grid[0] == 1 and _is_blank(state):
        stills, notes = _draw(models, request, state, progress)
        return stills[0], notes
    return _follow(models, request, state, progress)


def _follow(
    models: Models, request: Request, state: LatentState, progress: Progress | None = None, passed: Callable[[Tensor], None] | None = None
) -> tuple[Tensor, list[str]]:
    """Follow the flow as ``denoise`` does, of one state alone, with nothing to choose from.

    ``passed`` is called with the point after every step of a clip that is no longer than the window.
    """
    with torch.no_grad(), models.autocast():
        state, given = take_pictures(models, request, state)
    texts = models.text_encoder.encode([*(cue.prompt for cue in state.cues), request.negative_prompt])
    notes = _notes(texts)
    if not bool(state.start.any()):
        return state.latent.to(models.device), notes
    # A run of a ring has the frame before it beside it.
    num_seen = 1 if state.apart else _frames_seen(models, request, state.grid[0] + state.ring)
    num_tokens = num_seen * math.prod(state.grid[1:]) // math.prod(models.transformer.config.patch_size)
    visited = models.scheduler.schedule(request.steps, num_tokens)
    report = None if progress is None else lambda done, total: progress("denoise", done, total)
    with torch.no_grad(), models.autocast():
        experts = _Experts(models, texts, None if given is None else given.images)
        # A ring is cut elsewhere in every step: no step sees the frames of the one before.
        residuals = Residuals(request.cache_threshold) if request.cache_threshold > 0 and not state.ring else None
        pair = _denoiser(models, state, experts, None if given is None else given.channels, residuals)
        start, point = state.start.to(models.device), state.point.to(models.device)
        if num_seen < state.grid[0] and not (state.ring or state.apart):
            seen = _window(models, request, state, num_seen)
            chance = runtime.generator((request.seed + 1) % 2**63)
            latent = roll(_windowed(models, pair, request), point, start, visited, seen, generator=chance, progress=report)
        else:
            everything = torch.arange(state.grid[0])
            whole = _around(pair, state.grid[0], num_seen) if state.ring else lambda x, times, both: pair(x, times, both, everything)
            latent = sample(_steered(models, whole, request), point, start, visited, solver=request.solver, progress=report, passed=passed)
    if residuals is not None:
        skipped, computed = residuals.counts["skipped"], residuals.counts["computed"]
        notes.append(
            f"cache threshold {request.cache_threshold:g}: all blocks but the first were left out in {skipped} of {skipped + computed} evaluations"
        )
    return latent, notes


def encode(models: Models, frames: Pixels) -> Tensor:
    """Encode frames ``[1 + 4 k, H, W, 3]`` uint8 on the model's grid into a latent ``[C, 1 + k, h, w]`` float32 on the CPU, chunk by chunk."""
    chunks = (to_tensor(Clip(frames[i : i + _ENCODE_FRAMES], 1.0)).to(models.device) for i in range(0, len(frames), _ENCODE_FRAMES))
    with torch.inference_mode(), models.autocast():
        pieces = [latent.float().cpu() for latent in models.autoencoder.encode_stream(chunks)]
    return torch.cat(pieces, dim=2)[0].clone()


def encode_held(models: Models, frame: Pixels) -> Tensor:
    """Encode one frame ``[1, H, W, 3]`` as it looks in the middle of a clip that stands still: a latent ``[C, 1, h, w]``.

    The first latent frame of a clip codes one frame, every later one four; this is a later one.
    """
    still = np.repeat(frame, 1 + 2 * models.autoencoder.config.stride.time, axis=0)
    return encode(models, still)[:, -1:]


def decode(models: Models, latent: Tensor, fps: float, progress: Progress | None = None, *, ring: bool = False) -> Pixels:
    """Decode a latent ``[C, T, h, w]`` into pixels ``[T, H, W, 3]`` uint8 as they are shown, in bounded memory beside them.

    A ring of n latent frames gives 4 n frames, decoded as if it had been playing for ever.
    """
    frames = _decode_raw(models, latent, fps, progress, ring=ring)
    if models.autoencoder.config.even_joins:
        even_joins(frames, models.autoencoder.config.stride.time, ring=ring, device=models.device)
    return frames


def _decode_raw(models: Models, latent: Tensor, fps: float, progress: Progress | None = None, *, ring: bool = False) -> Pixels:
    """Decode a latent frame by frame, without even joins; arguments as ``decode``."""
    first = 0
    if ring:
        first = models.autoencoder.lookback
        order = torch.arange(-first, latent.shape[1]) % latent.shape[1]
        latent = latent[:, order.to(latent.device)]
    total = latent.shape[1] - first
    config = models.autoencoder.config
    space, time = config.stride.space, config.stride.time
    alone = 0 if ring else 1  # the first latent frame of a clip is one frame, every other one is four
    # One array from the start: a minute's pieces and their concatenation would take twice the memory.
    frames = np.empty((alone + (total - alone) * time, latent.shape[2] * space, latent.shape[3] * space, 3), np.uint8)
    tiles = list(tiles_of((latent.shape[2], latent.shape[3]), config, models.tile))
    if progress is not None:
        progress("decode", 0, len(tiles) * total)
    with torch.inference_mode(), models.autocast():
        for number, tile in enumerate(tiles):
            done = 0
            for i, video in enumerate(models.autoencoder.decode_stream(latent[None, :, :, tile.rows, tile.columns])):
                if i < first:
                    continue
                piece = from_tensor(video[:, :, :, tile.inner_rows, tile.inner_columns], fps).frames
                frames[done : done + len(piece), tile.top : tile.top + piece.shape[1], tile.left : tile.left + piece.shape[2]] = piece
                done += len(piece)
                if progress is not None:
                    progress("decode", number * total + i - first + 1, len(tiles) * total)
            assert done == len(frames)
    return frames


def _frames_seen(models: Models, request: Request, num_latents: int) -> int:
    """Return how many latent frames the model sees at once: all, or as many as the window holds."""
    window = request.window or models.scheduler.window
    return num_latents if window is None else min(num_latents, window)


def memory_needed(models: Models, request: Request, *, num_cues: int = 1) -> int:
    """Return roughly the bytes that a request takes beside the weights: the largest of its stages and the frames.

    Args:
        models: The model.
        request: What is asked for.
        num_cues: Prompts that are evaluated side by side.
    """
    frames, height, width = request.shape(models.stride).latent(models.autoencoder.config.stride)
    config = models.transformer.config
    num_stills = min(num_candidates(models, request), _stills_at_once(models, (frames, height, width)))
    num_seen = max(_frames_seen(models, request, frames), num_stills)
    num_tokens = num_seen * height * width // math.prod(config.patch_size)
    clips = num_cues + request.guided
    # A block holds about 16 token-wide tensors at once, the solver about 8 latents; four bytes each. Measured for the
    # default model at 128x128x33, 512x512x33 and 128x128x1201: this is 1.2 to 2 times what was taken.
    # Residual caching keeps two more.
    together = clips if num_tokens <= BATCHED_TOKENS else 1
    kept = 2 * config.hidden_size if request.cache_threshold > 0 else 0
    denoising = 4 * num_tokens * (together * (16 * config.hidden_size + 2 * config.ffn_dim) + clips * (kept + 8 * config.token_dim))
    pixels, finest = request.width * request.height, models.autoencoder.config
    # The decoder's finest level holds about 8 tensors of the cells of one latent frame.
    decoding = 4 * 8 * finest.decoder_widths[0] * pixels * finest.stride.time // math.prod(finest.patch)
    # What is sketched is a window long, and held until all are made.
    num_begun = _frames_seen(models, request, frames)
    num_sketched = min(request.num_frames, finest.stride.time * num_begun)
    sketches = num_takes(models, request) * num_sketched
    decoding *= _num_decoded_at_once(models, num_takes(models, request), num_begun * height * width)
    # Four frames, what they differ in and their flow: measured at 960x540.
    evening = 700 * pixels if finest.even_joins and request.num_frames > 1 else 0
    return max(denoising, decoding, evening) + 3 * pixels * max(2 * request.num_frames, request.num_frames + sketches)


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


def _is_still_first(models: Models, request: Request, state: LatentState) -> bool:
    """Tell whether the first frame is to be made alone: only where it begins the clip and nothing at all is given."""
    wanted = models.scheduler.still_first if request.still_first is None else request.still_first
    able = models.transformer.config.patch_size[0] == 1 and not models.animates
    return wanted and able and state.grid[0] > 1 and _is_blank(state)


def _is_blank(state: LatentState) -> bool:
    """Tell whether nothing at all is given of a clip that has a first frame."""
    return not (state.ring or state.apart) and bool((state.start == 1).all())


def _animated(models: Models, request: Request, state: LatentState, progress: Progress | None) -> tuple[Tensor, list[str]]:
    """Make a clip of which nothing is given: first frames, sketches of how the best of them go on, and the best sketch made whole.

    Of a clip that is longer than the model's window the first window is sketched, which does not know of what follows; the best sketch gives
    its noise to the whole.
    """
    stills, _ = _draw(models, dataclasses.replace(request, steps=still_steps(request.steps)), beginning(state), progress)
    number, seen = num_takes(models, request), _frames_seen(models, request, state.grid[0])
    if number == 1:
        return _follow(models, request, with_first_frame(state, stills[0]), progress)
    noises, firsts = candidates(beginning(state, seen), request.seed, number), itertools.cycle(stills[: math.ceil(number / 2)])
    takes = [with_first_frame(take, still) for take, still in zip(noises, firsts, strict=False)]
    sketches = [_sketch(models, request, take, _part_of(progress, "takes", index, number)) for index, take in enumerate(takes)]
    best = best_first(models, _shown(models, request, [sketch.latent for sketch in sketches]), takes[0].cues)[0]
    if seen == state.grid[0]:
        return _follow(models, dataclasses.replace(request, steps=sketches[best].steps_left), sketches[best].begun, progress)
    noise = torch.cat([takes[best].noise, state.noise[:, seen:]], dim=1)
    return _follow(models, request, with_first_frame(dataclasses.replace(state, noise=noise), takes[best].latent[:, :1]), progress)


class _Sketch(NamedTuple):
    """A clip made in few steps."""

    latent: Tensor
    """``[C, T, h, w]``."""
    begun: LatentState
    """The same clip where it has been decided what happens, for the finer steps that are left to go on from."""
    steps_left: int
    """How many of the finished clip's steps those are."""


def _sketch(models: Models, request: Request, take: LatentState, progress: Progress | None) -> _Sketch:
    """Make a clip that is no longer than the model's window in few steps."""
    steps, points = sketch_steps(request.steps), list[Tensor]()
    done = decided(steps)

    def passed(point: Tensor) -> None:
        if len(points) < done:
            points.append(point)

    latent, _ = _follow(models, dataclasses.replace(request, steps=steps), take, progress, passed)
    if done == 0:
        return _Sketch(latent, take, request.steps)
    num_tokens = math.prod(take.grid) // math.prod(models.transformer.config.patch_size)
    coarse, fine = (models.scheduler.schedule(number, num_tokens) for number in (steps, request.steps))
    time = float(coarse[done])
    return _Sketch(latent, half_made(take, points[-1], time), int((fine < time - 1e-6).sum()))


def _shown(models: Models, request: Request, latents: Sequence[Tensor]) -> list[Pixels]:
    """Return the frames of latents of one size as they are chosen among."""
    shown = partial(_decode_raw, models, fps=request.fps)
    together = _num_decoded_at_once(models, len(latents), math.prod(latents[0].shape[1:])) > 1
    return runtime.at_once(shown, latents, models.device) if together else [shown(latent) for latent in latents]


def _num_decoded_at_once(models: Models, number: int, num_cells: int) -> int:
    """Return how many of a number of latents of so many cells are decoded side by side; large ones would only take more memory."""
    is_small = num_cells <= BATCHED_TOKENS * math.prod(models.transformer.config.patch_size)
    return min(number, torch.get_num_threads()) if is_small and runtime.has_cores_to_share(models.device) else 1


def _draw(models: Models, request: Request, state: LatentState, progress: Progress | None) -> tuple[list[Tensor], list[str]]:
    """Return the latents of as many stills as are asked for, of which nothing is given, the best one first, and notes."""
    every, alone = list(candidates(state, request.seed, num_candidates(models, request))), dataclasses.replace(request, candidates=1)
    # Rescaled guidance looks at the spread of all that is drawn at once, which is to be one still's.
    size = 1 if request.guidance_rescale else _stills_at_once(models, state.grid)
    groups = [every[i : i + size] for i in range(0, len(every), size)]
    stills, notes = list[Tensor](), list[str]()
    for index, group in enumerate(groups):
        report = _part_of(progress, "still", index, len(groups))
        latent, notes = denoise(models, alone, side_by_side(group) if len(group) > 1 else group[0], report)
        stills += torch.split(latent, 1, dim=1)
    order = best_first(models, _shown(models, request, stills), state.cues)
    return [stills[index] for index in order], notes


def _part_of(progress: Progress | None, stage: str, index: int, count: int) -> Progress | None:
    """Return what is told of a run that is one of several as long, which make a stage together."""
    return None if progress is None else lambda _, done, total: progress(stage, index * total + done, count * total)


def _stills_at_once(models: Models, grid: tuple[int, int, int]) -> int:
    """Return how many stills of a grid are drawn side by side."""
    return max(1, BATCHED_TOKENS * math.prod(models.transformer.config.patch_size) // math.prod(grid[1:]))


FramesVelocity = Callable[[Tensor, Tensor, bool, Tensor], tuple[Tensor, Tensor | None]]
"""As ``PairVelocity``, for some of a clip's frames, whose numbers come last."""


class _Experts:
    """The transformers of a model, each with the texts prepared once, when its flow times come.

    Args:
        models: The model.
        texts: Encoded prompts.
        images: States of given pictures ``[M, image_dim]``, or None.
    """

    def __init__(self, models: Models, texts: TextStates, images: Tensor | None) -> None:
        self._models, self._texts = models, texts
        self._images = None if images is None else images.expand(len(texts.states), -1, -1)
        self._last: tuple[Transformer, TextCache] | None = None

    def at(self, latest: float) -> tuple[Transformer, TextCache]:
        """Return the transformer for a clip whose latest flow time is this, and its texts."""
        models, texts = self._models, self._texts
        second = models.transformer_2 if _is_late(models, latest) else None
        transformer = second or models.transformer
        if self._last is None or self._last[0] is not transformer:
            prepared = transformer.encode_text(texts.states, texts.mask, texts.pooled, padded_to=texts.padded_to, images=self._images)
            self._last = transformer, prepared
        return self._last


def _denoiser(models: Models, state: LatentState, experts: _Experts, channels: Tensor | None, residuals: Residuals | None) -> FramesVelocity:
    """Return the velocity of frames under the clip's cues and, asked for, under the negative prompt, whose text comes last."""
    patch_size, num_cues = models.transformer.config.patch_size, len(state.cues)
    every_t, every_h, every_w = patch_size
    weights = torch.stack([cue.weight for cue in state.cues])

    def pair(x: Tensor, times: Tensor, both: bool, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        # Cues that say nothing of these frames cost nothing; if none says anything, all say the same.
        here = weights[:, frames]
        said = torch.nonzero(here.any(dim=1)).flatten().tolist() or list(range(num_cues))
        shares = here[said] + 1e-6
        shares = (shares / shares.sum(0))[:, None, :, None, None].to(x.device)
        begins = not state.ring and int(frames[0]) == 0
        seen = x if channels is None else torch.cat([x, channels[:, frames.to(x.device)].to(x)])
        told = models.scheduler.told(times[::every_t, ::every_h, ::every_w])
        transformer, text = experts.at(float(told.max()))
        chosen = [*said, num_cues] if both else said
        parts, heard = (torch.split(seen, 1, dim=1), torch.split(told, 1)) if state.apart else ((seen,), (told,))

        def found(some: Sequence[int]) -> list[Tensor]:
            with torch.inference_mode(), models.autocast():
                clips = transformer.pack([*parts] * len(some), [*heard] * len(some), fps=state.fps, begins=begins)
                reuse = None if residuals is None else residuals.of((transformer, *some), tuple(frames.tolist()))
                each = unpack(transformer(clips, text.select([cue for cue in some for _ in parts]), reuse), clips.grids, patch_size)
                return [torch.cat(each[i : i + len(parts)], dim=1) for i in range(0, len(each), len(parts))]

        # Large clips keep the machine busy one by one and would only take more memory side by side.
        is_large = told.numel() > BATCHED_TOKENS
        groups = [[cue] for cue in chosen] if is_large or (residuals is None and runtime.has_cores_to_share(models.device)) else [chosen]
        answers = [found(group) for group in groups] if is_large else runtime.at_once(found, groups, models.device)
        velocities = torch.stack([velocity for answer in answers for velocity in answer])
        conditional = (shares * velocities[: len(said)]).sum(0)
        return conditional, velocities[-1] if both else None

    return pair


def _is_late(models: Models, latest: float) -> bool:
    """Return whether a clip whose latest flow time is this, as the model is told it, is for the second of two experts."""
    return models.boundary is not None and latest < models.boundary


def _steered(models: Models, pair: PairVelocity, request: Request) -> Velocity:
    """Return the guided velocity, by the scale of the expert that is asked."""
    early, late = guided(pair, request.guidance), guided(pair, request.late_guidance)
    return lambda x, times: (late if _is_late(models, float(models.scheduler.told(times).max())) else early)(x, times)


def _window(models: Models, request: Request, state: LatentState, num_seen: int) -> Window:
    """Return the window that rolls over a clip; it is anchored where the clip goes on as it began: under one prompt, to no given end."""
    given = (state.start == 0).flatten(1).all(1)
    begun = int(given.long().cumprod(0).sum())
    goes_on = len(state.cues) == 1 and not bool(given[begun:].any())
    anchor = models.scheduler.anchor if request.anchor is None else request.anchor
    return Window(frames=num_seen, block=max(1, num_seen * 4 // 9), anchor=anchor if goes_on else 0, context_noise=models.scheduler.context_noise)


def _windowed(models: Models, pair: FramesVelocity, request: Request) -> WindowVelocity:
    """Return the guided velocity of a window that begins at any frame of the clip."""

    def velocity(x: Tensor, times: Tensor, frames: Tensor) -> Tensor:
        return _steered(models, lambda x, times, both: pair(x, times, both, frames), request)(x, times)

    return velocity


def _around(pair: FramesVelocity, num_frames: int, window: int) -> PairVelocity:
    """Return the velocity of a ring.

    The model sees runs of it, each behind the frame before its first, as a clip's later frames stand behind the first. Where the
    ring is cut into runs moves on with every call: no frame is at a border for more than a step.

    Args:
        pair: Velocity of a run of frames.
        num_frames: Latent frames of the ring.
        window: Latent frames the model may see at once, at least 2.
    """
    calls = itertools.count()
    length = min(num_frames, window - 1)

    def velocity(x: Tensor, times: Tensor, both: bool) -> tuple[Tensor, Tensor | None]:
        cut = round(next(calls) * _RING_TURN * num_frames)
        totals = [torch.zeros_like(x) for _ in range(1 + both)]
        seen = torch.zeros(num_frames)
        for first in range(cut, cut + num_frames, length):
            frames = torch.arange(first - 1, first + length) % num_frames
            here = frames.to(x.device)
            answers = pair(x[:, here], times[here], both, frames)
            for total, answer in zip(totals, answers, strict=False):
                assert answer is not None
                total[:, here[1:]] += answer[:, 1:]
            seen[frames[1:]] += 1
        mean = [total / seen.to(x.device)[:, None, None] for total in totals]
        return mean[0], mean[1] if both else None

    return velocity
