"""Long videos: a window of bounded length rolls over frames that each have a noise level of their own.

The file promises that the model never sees more than a window, that finished frames are the context of later ones as
they are (latents, never encoded again), that given frames come out bit-equal, and that a clip no longer than the window
is what ``sample`` with the multistep solver makes of it, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.flow.path import interpolate

__all__ = ["Window", "WindowVelocity", "roll"]

WindowVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps the frames of a window ``[C, n, h, w]``, their flow times ``[n, h, w]`` and their places in the clip ``[n]`` to their
velocity ``[C, n, h, w]``."""

_FINEST_STAGGER = 1e-3


@dataclass(frozen=True, kw_only=True)
class Window:
    """What of a long clip the model sees at once, and how it moves on."""

    frames: int = 9
    """Latent frames the model sees at once, at least 2."""
    block: int = 4
    """Latent frames that share a noise level and finish together, at least 1 and fewer than ``frames``. The frames of the first
    window are one block, and so are those that are left before a given frame as soon as it fits into the window with them."""
    stagger: float = 1.0
    """Share (0.001 to 1) of the steps after which the next block starts: 1 when the one before is done, 0.5 when it is half
    done, so that two blocks are on their way. A block that does not fit into the window with them waits."""
    anchor: int = 0
    """Frames at the beginning of the first window that every later one shows before its own: they are never out of sight, so that faults cannot
    add up. They take the room of frames of context; as many as leave one of those."""
    context_noise: float = 0.0
    """Flow time from 0 to 1 that finished and given frames are shown at; a little keeps faults from adding up in long videos."""

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise InputError(
                f"a rolling window of {self.frames} latent frames is too short: allowed is 2 or more, usual is what the model was trained on"
            )
        if not 1 <= self.block < self.frames:
            raise InputError(f"blocks of {self.block} latent frames do not fit a window of {self.frames}: allowed is 1 to {self.frames - 1}")
        if not _FINEST_STAGGER <= self.stagger <= 1:
            raise InputError(f"stagger {self.stagger} is out of range: allowed is {_FINEST_STAGGER} to 1, where 1 makes one block after the other")
        if self.anchor < 0:
            raise InputError(f"{self.anchor} frames cannot be an anchor: allowed is 0 or more, usual is 2 to 4")
        if not 0 <= self.context_noise <= 1:
            raise InputError(f"context noise {self.context_noise} is out of range: allowed is a flow time from 0 to 1, usual is 0 to 0.1")
        active = _ceil(1 / self.stagger)
        if active * self.block + 1 > self.frames:
            raise InputError(
                f"a window of {self.frames} latent frames cannot hold the {active} blocks of {self.block} that stagger {self.stagger} has on their "
                f"way and a frame before them: allowed is {active * self.block + 1} or more, so lengthen it, shorten the blocks or raise the stagger"
            )


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Frames that go from noise to data together."""

    frames: list[int]
    """Their places in the clip, rising; given frames may lie between them."""
    begin: int
    """The iteration of their first step."""


def roll(
    velocity: WindowVelocity,
    x: Tensor,
    start: Tensor,
    schedule: Tensor,
    window: Window,
    *,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Follow the flow from ``x`` to data, block after block, in the activation memory of one window.

    The model is shown the blocks on their way, given frames right after them, finished or given frames before them, and the anchor.
    Frames that have not begun are never shown.

    Args:
        velocity: The model, called once an iteration.
        x: The point to start from ``[C, T, h, w]``: noise where ``start`` is 1, data where it is 0.
        start: Flow time of every cell ``[T, h, w]`` in [0, 1]. Cells at 0 come out bit-equal; frames that are wholly at 0
            are context from the beginning and take no steps.
        schedule: Progress from 1 to 0, ``[steps + 1]``, see ``times.schedule``; every frame visits all of it.
        window: How long the window is and how it moves on.
        generator: Source of the context's noise, drawn frame after frame, so that a longer clip begins with the same; needed
            if ``window.context_noise`` is above 0, and of another seed than the noise in ``x``.
        progress: Called with ``(iterations done, iterations)`` before the first and after every iteration.

    Returns:
        Data of the shape of ``x``.

    Source: frames at different noise levels in one sequence, arXiv 2407.01392; a window that rolls over them, arXiv 2402.09470;
    the solver is ``solvers.multistep``, for every block with a history of its own.
    """
    assert start.shape == x.shape[1:], "a start time for every cell"
    visited: list[float] = schedule.tolist()
    steps = len(visited) - 1
    given: list[bool] = (start == 0).flatten(1).all(1).tolist()
    blocks = _plan(given, window, steps)
    total = blocks[-1].begin + steps if blocks else 0
    noise = _context_noise(x, window, generator)
    point = x.clone()
    before: dict[int, Tensor] = {}
    base: int | None = None
    if progress is not None:
        progress(0, total)
    for iteration in range(total):
        active = [block for block in blocks if block.begin <= iteration < block.begin + steps]
        begin = active[0].frames[0]
        first, end = _bounds(begin, active[-1].frames[-1] + 1, given, window.frames)
        base = first if base is None else base
        anchor = max(0, min(window.anchor, first - base, window.frames - 1 - (end - begin)))
        frames = torch.tensor([*range(base, base + anchor), *range(max(first, end - window.frames + anchor), end)])
        place = {frame: index for index, frame in enumerate(frames.tolist())}
        # A copy, since the frames move on while the model's caller may still hold it.
        shown = point[:, frames] if noise is None else interpolate(point[:, frames], noise[:, frames], window.context_noise)
        times = torch.full_like(start[frames], window.context_noise)
        for block in active:
            here = [place[frame] for frame in block.frames]
            shown[:, here] = point[:, block.frames]
            times[here] = start[block.frames] * visited[iteration - block.begin]
        velocities = velocity(shown, times, frames)
        for block in active:
            done = iteration - block.begin
            current = velocities[:, [place[frame] for frame in block.frames]]
            step, slope = visited[done + 1] - visited[done], current
            if done > 0:
                slope = current + step / (visited[done] - visited[done - 1]) / 2 * (current - before.pop(block.begin))
            if done + 1 < steps:
                before[block.begin] = current
            point[:, block.frames] = point[:, block.frames] + step * start[block.frames] * slope
        if progress is not None:
            progress(iteration + 1, total)
    # As in ``sample``: a step of 0 * velocity is exact but for signed zeros and a velocity that is not finite.
    return torch.where(start == 0, x, point)


def _context_noise(x: Tensor, window: Window, generator: torch.Generator | None) -> Tensor | None:
    """Return the noise finished frames are shown with, of the shape of ``x``; None if they are shown as they are."""
    if window.context_noise == 0:
        return None
    assert generator is not None, "context noise needs a generator"
    channels, frames, height, width = x.shape
    drawn = [torch.randn(channels, height, width, generator=generator, device=generator.device) for _ in range(frames)]
    return torch.stack(drawn, dim=1).to(x)


def _plan(given: Sequence[bool], window: Window, steps: int) -> list[_Block]:
    """Return all blocks of a clip, in order, each at the earliest iteration at which it fits into the window with those on their way.

    Args:
        given: Which frames need no steps.
        window: How long the window is and how it moves on.
        steps: Iterations a block takes.
    """
    gap = max(1, _ceil(window.stagger * steps))
    blocks: list[_Block] = []
    for frames in _split(given, window):
        begin = blocks[-1].begin + gap if blocks else 0
        for other in blocks:
            context = 1 if other.frames[0] > 0 else 0
            if context + frames[-1] + 1 - other.frames[0] > window.frames:
                begin = max(begin, other.begin + steps)
        blocks.append(_Block(frames=frames, begin=begin))
    return blocks


def _split(given: Sequence[bool], window: Window) -> list[list[int]]:
    """Return the frames of every block.

    A block that leaves a few frames before a given one would make these jump to it. So all frames up to the last given one
    that the window can hold, beside a frame of context, go together.
    """
    blocks: list[list[int]] = []
    frame = 0
    while frame < len(given):
        if given[frame]:
            frame += 1
            continue
        reach = min(frame + window.frames - 1, len(given))
        ends = [i for i in range(frame, reach) if given[i]]
        end = min(max(window.frames, frame + window.block, *ends), len(given))
        blocks.append([i for i in range(frame, end) if not given[i]])
        frame = end
    return blocks


def _bounds(begin: int, end: int, given: Sequence[bool], length: int) -> tuple[int, int]:
    """Return where the window around the active frames ``begin`` to ``end`` (exclusive) begins and ends.

    Given frames right after the active ones get up to half of what is left, and what the beginning of the clip does not
    need; frames before them, all finished or given, get the rest.
    """
    room = length - (end - begin)
    ahead = sum(1 for _ in takewhile(bool, given[end : end + room]))
    after = min(ahead, max(room // 2, room - begin))
    return max(0, begin - (room - after)), end + after


def _ceil(value: float) -> int:
    """Return ``value`` rounded up; 3.0000000000000004 steps are 3."""
    return math.ceil(value - 1e-9)
