"""Shots beside given frames: what the model sees of a clip that it goes on from or leads to, and where on the latent grid that is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from diorama.media import Pixels
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Given, Made, Shot
from diorama.pipeline.items import Guide, Item, Keep
from diorama.pipeline.lead import lead
from diorama.pipeline.source import Source

__all__ = ["BESIDE_GIVEN", "CONTEXT_FRAMES", "HELD", "LED", "LED_BACK", "around", "begun", "beside_given", "ending", "going_on", "led"]

CONTEXT_FRAMES = 17
"""Frames of a given clip that the model sees when it goes on from it."""
BESIDE_GIVEN = 1.0
"""Guidance where frames are given and none is asked for. They say more than the prompt, and pushing away from what follows from them tears
the joins: error against the simulator over the next 2 s 9.2, 10.5 and 13.0 of 255 at 1, 2 and 4 (docs/log.md, 2026-11-21)."""
HELD = 0.5
"""Flow time at which a latent frame starts of whose four frames some are given and the others are not."""
LED_BACK = 0.8
"""Flow time at which the latent frame before that one starts, from the clip's first motion carried back; where it is 1 the speed breaks at
the join, and where it is lower the way there is hurried."""
LED = 0.5
"""Flow time at which the first latent frame behind a clip starts, from the clip's last motion carried on; it makes the speed go over at the
join, and leaves to the model what comes of it."""


def beside_given(desk: Desk) -> dict[str, Any]:
    """Return the guidance of a request with given frames, if none was asked for."""
    return {} if "guidance_scale" in desk.options else {"guidance_scale": BESIDE_GIVEN}


def around(desk: Desk, source: Source, prompt: str, *, before: int, after: int) -> tuple[list[Shot], list[Given | Made]]:
    """Return the shots that lead to a clip and go on from it, and what is seen: the clip between what they add.

    Args:
        desk: Model and options.
        source: The clip.
        prompt: What happens.
        before: Latent frames to add before it; 0 makes no shot.
        after: Latent frames to add behind it; 0 makes no shot.
    """
    count = source.length(CONTEXT_FRAMES, desk.stride)
    shots, pieces = list[Shot](), list[Given | Made]()
    if before:
        num_latents = before + 1 + (count - 1) // desk.stride.time
        items: list[Item] = [Guide(prompt=prompt), *ending(desk, source, count, free=before)]
        request = desk.request(prompt, num_latents, source, **beside_given(desk))
        shots.append(Shot(request=request, items=items))
        pieces.append(Made(last=request.num_frames - count))
    pieces.append(Given(source=source))
    if after:
        known = going_on(desk, source, count)
        request = desk.request(prompt, 1 + (count - 1) // desk.stride.time + after, source, **beside_given(desk))
        pieces.append(Made(shot=len(shots), first=count))
        shots.append(Shot(request=request, items=[Guide(prompt=prompt), *known]))
    return shots, pieces


def going_on(desk: Desk, source: Source, count: int) -> list[Item]:
    """Return the items that make a shot begin with the last ``count`` frames of a clip, 1 + k latent frames' worth, and go on as they move.

    The latent frame behind them must be in the shot.
    """
    known, ahead = led(desk, source.tail(count))
    return [Keep(latent=known)] if ahead is None else [Keep(latent=known), Keep(latent=ahead, frame=known.shape[1], noise=LED)]


def led(desk: Desk, frames: Pixels) -> tuple[Tensor, Tensor | None]:
    """Encode frames of a clip, 1 + k latent frames' worth, and what follows them if everything goes on as it moves.

    Args:
        desk: Model and options.
        frames: ``[T, H, W, 3]`` uint8.

    Returns:
        Their latent ``[C, 1 + k, h, w]`` and that of the latent frame behind it ``[C, 1, h, w]``, None behind a single frame.
    """
    if len(frames) < 2:
        return desk.encode(frames), None
    latent = desk.encode(np.concatenate([frames, lead(frames[-2:], desk.stride.time)]))
    return latent[:, :-1], latent[:, -1:]


def ending(desk: Desk, source: Source, count: int, *, free: int) -> list[Item]:
    """Return the items that make a shot end with the first ``count`` frames of a clip, 1 + k latent frames' worth, as ``begun`` does."""
    known = desk.encode(source.head(count))
    return begun(desk, source, known, -known.shape[1], noise=HELD if known.shape[1] > 1 else 0.0, free=free)


def begun(desk: Desk, source: Source, known: Tensor, frame: int, *, noise: float, free: int = 0) -> list[Item]:
    """Return the items for a clip that begins in mid-shot.

    Its first frame is the last of the four of a latent frame: that one starts from how the clip would have come there, if it moved before
    as it moves then; a picture stands still. The latents behind it are those that follow the first frame in the clip itself.

    Args:
        desk: Model and options.
        source: The clip.
        known: Its latent ``[C, 1 + k, h, w]``.
        frame: The latent frame of its first frame; a negative one counts from the end.
        noise: Flow time at which that one starts, for what the three frames before the clip show.
        free: Latent frames before that one of which nothing is known. Of two and more the last also starts from how the clip would have come.
    """
    if known.shape[1] == 1:
        return [Keep(latent=desk.encode_held(source.head(1)), frame=frame, noise=noise)]
    come = _come(desk, source.head(2), 2 if free > 1 else 1)
    led_back = [Keep(latent=come[:, :1], frame=frame - 1, noise=LED_BACK)] if free > 1 else []
    return [*led_back, Keep(latent=come[:, -1:], frame=frame, noise=noise), Keep(latent=known[:, 1:], frame=frame + 1)]


def _come(desk: Desk, frames: Pixels, count: int) -> Tensor:
    """Encode ``count`` latent frames ``[C, count, h, w]`` that end with the first of two frames, as if all had moved before as between them."""
    before = lead(frames[::-1], count * desk.stride.time)[::-1]
    return desk.encode(np.concatenate([before, frames[:1]]))[:, 1:]
