"""The prompting modes.

Each is a short function from a desk and what the user gave to a film: shots with their conditioning items, and how generated and
given frames make up the result.

Everything else follows from the function: the command ``diorama NAME``, the method ``Pipeline.NAME`` and the section in
docs/modes.md take its name, its parameters and its docstring. To add a mode, write a function here and name it in ``__all__``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch

from diorama.errors import InputError
from diorama.pipeline.curve import ramp, read_curve
from diorama.pipeline.desk import Desk
from diorama.pipeline.film import Altered, Film, Framed, Given, Made, Shot
from diorama.pipeline.given import CONTEXT_FRAMES, HELD, LED, around, begun, beside_given, ending, going_on, led
from diorama.pipeline.items import Guide, Item, Keep, Region, Ring, StartFrom
from diorama.pipeline.region import read_region, to_cells
from diorama.pipeline.source import Media, Source, as_clip, grid_size, is_file, part
from diorama.pipeline.storyboard import Storyboard, read_storyboard
from diorama.pipeline.timeline import film_of

__all__ = [
    "animate",
    "blend",
    "connect",
    "draft",
    "edit",
    "extend",
    "finish",
    "image",
    "insert",
    "loop",
    "outpaint",
    "recut",
    "remix",
    "storyboard",
    "text",
]


def text(desk: Desk, prompt: str) -> Film:
    """Make a video from a prompt.

    The packaged model draws twelve first frames (``candidates``), sketches twice how each of the best three goes on (``takes``), and makes the
    sketch that the prompt describes best; ``takes`` of 1 only animates the best first frame, twice as fast. Without ``still_first`` all
    frames are made together.

    Args:
        desk: Model and options.
        prompt: What to show.
    """
    return desk.film(desk.request(prompt), [Guide(prompt=prompt)])


def image(desk: Desk, prompt: str) -> Film:
    """Make a still image from a prompt.

    Args:
        desk: Model and options.
        prompt: What to show.
    """
    return desk.film(desk.request(prompt, 1), [Guide(prompt=prompt)])


def animate(desk: Desk, picture: Media, prompt: str = "", *, at: float = 0.0, also: Sequence[tuple[Media, float]] = ()) -> Film:
    """Make a picture move, or several pictures at several times.

    Args:
        desk: Model and options.
        picture: The picture.
        prompt: What happens.
        at: Second at which it is seen.
        also: More pictures, each with its second: the last frame, or keyframes between.
    """
    first = desk.open(picture)
    request = desk.request(prompt, source=first, **beside_given(desk))
    cards = [(first, at), *((desk.open(media, first), moment) for media, moment in also)]
    items: list[Item] = [Guide(prompt=prompt)]
    frames = []
    for source, moment in cards:
        frame = _moment(desk, moment, request.num_frames)
        frames.append((frame, source))
        latent_frame = -(-frame // desk.stride.time)
        shown = source.head(1)
        latent = desk.encode(shown) if not frame else desk.encode_held(shown)
        items.append(Keep(latent=latent, frame=latent_frame, frames=shown, stride=desk.stride.time))
    return desk.film(request, items, _with_stills(sorted(frames, key=lambda card: card[0]), request.num_frames), source=first)


def _moment(desk: Desk, seconds: float, num_frames: int) -> int:
    """Return the frame at a second: 0, or the last of a latent frame's four."""
    length = (num_frames - 1) / desk.fps
    if not 0 <= seconds <= length + 0.5 / desk.fps:
        raise InputError(f"a picture at {seconds:g} s is outside the clip of {length:g} s; make the clip longer or the time smaller")
    step = desk.stride.time
    return min(num_frames - 1, round(seconds * desk.fps / step) * step)


def _with_stills(cards: Sequence[tuple[int, Source]], num_frames: int) -> list[Given | Made]:
    pieces: list[Given | Made] = []
    done = 0
    for frame, source in cards:
        if frame < done:
            raise InputError("two pictures are at the same time; give them times at least a third of a second apart")
        if frame > done:
            pieces.append(Made(first=done, last=frame))
        pieces.append(Given(source=source, last=1))
        done = frame + 1
    return pieces if done == num_frames else [*pieces, Made(first=done)]


def extend(desk: Desk, clip: Media, prompt: str = "", *, more: float = 2.0, direction: Literal["forward", "backward", "both"] = "forward") -> Film:
    """Continue a video after its end, before its beginning, or both; the given part stays what it was.

    Args:
        desk: Model and options.
        clip: The video.
        prompt: What happens; left out, the prompt that the video was generated with.
        more: Seconds to add on each side.
        direction: forward, backward or both.
    """
    if direction not in ("forward", "backward", "both"):
        raise InputError(f"a video cannot be extended '{direction}'; allowed: forward, backward, both")
    source = desk.open(clip)
    prompt, frames = desk.prompt(prompt, source), desk.frames(more)
    shots, pieces = around(desk, source, prompt, before=0 if direction == "forward" else frames, after=0 if direction == "backward" else frames)
    return Film(shots=shots, pieces=pieces, canvas=desk.canvas(shots[0].request, source), notes=tuple(desk.notes))


def loop(desk: Desk, subject: Media, prompt: str = "", *, more: float = 1.34) -> Film:
    """Make a seamless endless loop of a prompt, or of a video by a passage from its end to its beginning.

    Args:
        desk: Model and options.
        subject: A prompt, or a video that stays what it is.
        prompt: What happens in the passage; left out, the prompt that the video was generated with.
        more: Seconds of the passage.
    """
    if isinstance(subject, str) and not is_file(subject):
        request = desk.request(subject)
        if request.num_frames < 1 + 2 * desk.stride.time:
            raise InputError(f"a loop of {request.num_frames - 1} frames is too short; ask for at least {1 + 2 * desk.stride.time} frames")
        return replace(desk.film(request, [Ring(), _ring_guide(subject, request.num_frames, desk)]), ring=True)
    source = desk.open(subject)
    prompt = desk.prompt(prompt, source)
    known, ahead = led(desk, source.whole(desk.stride))
    frames = desk.frames(more) + 1
    request = desk.request(prompt, known.shape[1] + frames, source, **beside_given(desk))
    # In the ring the clip's first frame is the last of the four of the latent frame before it.
    items: list[Item] = [Ring(), _ring_guide(prompt, request.num_frames, desk), *begun(desk, source, known, -1, noise=HELD, free=frames)]
    if ahead is not None and source.length(source.num_frames, desk.stride) == source.num_frames:  # else its last frame was repeated
        items.append(Keep(latent=ahead, frame=known.shape[1] - 1, noise=LED))
    first = (known.shape[1] - 1) * desk.stride.time
    made = Made(first=first, last=request.num_frames - 2)
    return replace(desk.film(request, items, [Given(source=source), made], source=source), ring=True)


def _ring_guide(prompt: str, num_frames: int, desk: Desk) -> Guide:
    return Guide(prompt=prompt, weight=torch.ones((num_frames - 1) // desk.stride.time))


def connect(desk: Desk, first: Media, second: Media, prompt: str = "", *, passage: float = 2.0) -> Film:
    """Join two videos by a generated passage that begins as the first ends and ends as the second begins.

    Args:
        desk: Model and options.
        first: The video before.
        second: The video behind; it is brought to the size and rate of the first.
        prompt: What happens in the passage; left out, the prompts that the videos were generated with.
        passage: Seconds between them.
    """
    a = desk.open(first)
    b = desk.open(second, a)
    before, after = a.length(CONTEXT_FRAMES, desk.stride), b.length(CONTEXT_FRAMES, desk.stride)
    known = 1 + (before - 1) // desk.stride.time
    free = desk.frames(passage)
    num_latents = known + free + 1 + (after - 1) // desk.stride.time
    request = desk.request(desk.prompt(prompt, a), num_latents, a, **beside_given(desk))
    fade = ramp(num_latents, known - 1, num_latents - 1 - (after - 1) // desk.stride.time)
    guides = [Guide(prompt=prompt)] if prompt else [Guide(prompt=desk.prompt("", a), weight=1 - fade), Guide(prompt=desk.prompt("", b), weight=fade)]
    items: list[Item] = [*guides, *going_on(desk, a, before), *ending(desk, b, after, free=free)]
    made = Made(first=before, last=request.num_frames - after)
    return desk.film(request, items, [Given(source=a), made, Given(source=b)], source=a)


def insert(desk: Desk, clip: Media, prompt: str = "", *, at: float = 1.0, more: float = 1.34) -> Film:
    """Open a video at a moment and make more of it there; all of it stays, around the new part.

    Args:
        desk: Model and options.
        clip: The video.
        prompt: What happens in between; left out, the prompt that the video was generated with.
        at: Second at which it is opened.
        more: Seconds to add.
    """
    whole = as_clip(clip)
    if not 0 < at < whole.seconds:
        raise InputError(f"{at:g} s is no moment inside a clip of {whole.seconds:g} s; give a time between its first and last frame")
    cut = min(whole.num_frames - 1, max(1, round(at * whole.fps))) if whole.num_frames > 1 else 0
    if not cut:
        raise InputError("a picture has no moment inside to open it at; animate it instead")
    return connect(desk, part(whole, 0, cut), part(whole, cut, whole.num_frames), prompt, passage=more)


def blend(desk: Desk, first: Media, second: Media, prompt: str = "", *, curve: str = "0.25:0 0.75:1", strength: float = 0.9) -> Film:
    """Turn one video into another while both play.

    Args:
        desk: Model and options.
        first: The video it begins as.
        second: The video it ends as; it is brought to the size and rate of the first.
        prompt: What happens; left out, the prompts that the videos were generated with.
        curve: How much the second says over time: points share-of-the-time:influence, both 0 to 1, joined by straight lines.
        strength: How freely the passage between is made, 0 to 1.
    """
    a = desk.open(first)
    b = desk.open(second, a)
    count = min(a.length(a.num_frames, desk.stride), b.length(b.num_frames, desk.stride))
    one, two = desk.encode(a.head(count)), desk.encode(b.head(count))
    influence = read_curve(curve, one.shape[1])
    request = desk.request(desk.prompt(prompt, a), one.shape[1], a, **beside_given(desk))
    guides = [Guide(prompt=desk.prompt(prompt, a), weight=1 - influence), Guide(prompt=desk.prompt(prompt, b), weight=influence)]
    # Each frame starts from the clip that has more say; where the say is equal, noise hides the change of clips.
    nearer = torch.where((influence < 0.5)[:, None, None], one, two)
    free = (4 * influence * (1 - influence)).sqrt()[:, None, None]
    items: list[Item] = [*guides, StartFrom(latent=nearer, strength=strength), Region(mask=free)]
    changing = torch.nonzero((influence > 0) & (influence < 1)).flatten().tolist()
    if not changing:
        raise InputError(f"the curve '{curve}' leaves no time to change in; let the influence rise over at least a third of a second")
    step = desk.stride.time
    begin, end = max(0, 1 + (changing[0] - 1) * step), min(count, 1 + changing[-1] * step)
    start, finish_at = round(begin / desk.fps * a.clip.fps), round(end / desk.fps * b.clip.fps)
    pieces: list[Given | Made] = [Given(source=a, last=start)] if begin else []
    pieces.append(Made(first=begin, last=end))
    if end < count:
        pieces.append(Given(source=b, first=finish_at))
    return desk.film(request, items, pieces, source=a)


def edit(desk: Desk, clip: Media, prompt: str, *, strength: float = 0.6, region: str = "") -> Film:
    """Change a video by a prompt, all of it or inside a region.

    Args:
        desk: Model and options.
        clip: The video.
        prompt: What it should show.
        strength: 0 returns the video, 1 keeps nothing of it.
        region: Where to change it: a box LEFT,TOP,RIGHT,BOTTOM in pixels, or the file of a mask, a picture or a video, whose
            white parts change; left out, everywhere.
    """
    source = desk.open(clip)
    known = desk.encode(source.whole(desk.stride))
    request = desk.request(prompt, known.shape[1], source)
    mask = read_region(region, source, 1 + (known.shape[1] - 1) * desk.stride.time)
    items: list[Item] = [Guide(prompt=prompt), StartFrom(latent=known, strength=strength), Region(mask=to_cells(mask, known, desk.stride))]
    plain = Shot(request=request, items=[Guide(prompt=prompt), StartFrom(latent=known, strength=0.0)])
    seen = mask if strength > 0 else torch.zeros_like(mask)
    film = desk.film(request, items, [Altered(source=source, mask=seen, plain=1 if strength < 1 else None)], source=source)
    return replace(film, shots=[*film.shots, plain]) if strength < 1 else film


def remix(desk: Desk, clip: Media, prompt: str, *, how: Literal["subtle", "mild", "strong"] = "mild", region: str = "") -> Film:
    """Change a video by a prompt at a named strength.

    Args:
        desk: Model and options.
        clip: The video.
        prompt: What it should show.
        how: subtle, mild or strong.
        region: As for edit.
    """
    strengths = {"subtle": 0.4, "mild": 0.6, "strong": 0.8}
    if how not in strengths:
        raise InputError(f"a remix cannot be '{how}'; allowed: subtle, mild, strong")
    return edit(desk, clip, prompt, strength=strengths[how], region=region)


def recut(desk: Desk, clip: Media, keep: tuple[float, float], prompt: str = "", *, before: float | None = None, after: float | None = None) -> Film:
    """Keep a good part of a video and make what is around it anew.

    Args:
        desk: Model and options.
        clip: The video.
        keep: First and last second of the part that stays.
        prompt: What happens around it; left out, the prompt that the video was generated with.
        before: Seconds to make before it; left out, as much as there was. 0 makes none.
        after: Seconds to make behind it; left out, as much as there was. 0 makes none.
    """
    if not all(math.isfinite(value) for value in (*keep, before or 0.0, after or 0.0)) or min(before or 0.0, after or 0.0) < 0:
        raise InputError(f"keep {keep[0]:g} to {keep[1]:g} s with {before} s before and {after} s after is out of range: give times of 0 or more")
    source = desk.open(clip)
    first, last = round(keep[0] * source.clip.fps), round(keep[1] * source.clip.fps)
    if not 0 <= first < last <= source.clip.num_frames:
        raise InputError(f"{keep[0]:g} to {keep[1]:g} s is no part of a clip of {source.clip.seconds:g} s; give two rising times inside it")
    before = first / source.clip.fps if before is None else before
    after = (source.clip.num_frames - last) / source.clip.fps if after is None else after
    good = replace(source, clip=part(source.clip, first, last))
    prompt = desk.prompt(prompt, source)
    shots, pieces = around(desk, good, prompt, before=desk.frames(before) if before > 0 else 0, after=desk.frames(after) if after > 0 else 0)
    if not shots:
        raise InputError("nothing is to be made: the part kept is the whole clip; give a smaller part, or seconds before or after it")
    return Film(shots=shots, pieces=pieces, canvas=desk.canvas(shots[0].request, source), notes=tuple(desk.notes))


def outpaint(desk: Desk, clip: Media, prompt: str = "", *, aspect: str = "1:1") -> Film:
    """Show more around a video: another aspect ratio, with the video untouched inside.

    Args:
        desk: Model and options.
        clip: The video.
        prompt: What the whole shows; left out, the prompt that the video was generated with.
        aspect: Width to height of the result, for example 16:9, 1:1 or 9:16.
    """
    shape, inner = _frames_around(desk, clip, aspect)
    desk.options["size"], desk.fit = inner, "stretch"
    source = desk.open(clip)
    known = desk.encode(source.whole(desk.stride))
    prompt = desk.prompt(prompt, source)
    request = desk.request(prompt, known.shape[1], size=shape, **beside_given(desk))
    cell = desk.stride.space
    left, top = (shape[0] - inner[0]) // (2 * cell), (shape[1] - inner[1]) // (2 * cell)
    across, down = source.clip.width / inner[0], source.clip.height / inner[1]
    canvas = replace(source.canvas, width=round(shape[0] * across), height=round(shape[1] * down), box=None)
    piece = Framed(source=source, left=round(left * cell * across), top=round(top * cell * down))
    patch = known.shape[2] * cell // inner[1]
    film = desk.film(request, [Guide(prompt=prompt), Keep(latent=known, top=top * patch, left=left * patch)], [piece])
    return replace(film, canvas=canvas)


def _frames_around(desk: Desk, clip: Media, aspect: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size of the whole picture and of the clip inside it, both on the grid."""
    given = as_clip(clip)
    try:
        wide, high = (float(side) for side in aspect.split(":"))
        ratio = wide / high
    except (ValueError, ZeroDivisionError):
        raise InputError(f"the aspect '{aspect}' is not understood: give width:height, for example 16:9") from None
    if not 1 / 3 <= ratio <= 3:
        raise InputError(f"an aspect of {aspect} is out of range: allowed is 3:1 to 1:3")
    own, cell = given.width / given.height, desk.stride.space
    if abs(ratio / own - 1) < 0.02:
        raise InputError(f"the clip has an aspect of {aspect} already, so nothing is to be added; ask for another")
    shape = desk.options.get("size") or grid_size(round(1000 * ratio), 1000, 2 * desk.area, desk.stride)
    wide_cells, high_cells = max(1, round(shape[1] * own / cell)), max(1, round(shape[0] / own / cell))
    inner = (wide_cells * cell, shape[1]) if ratio > own else (shape[0], high_cells * cell)
    if inner == tuple(shape):
        raise InputError(f"at {shape[0]}x{shape[1]} pixels nothing would be added to the clip; ask for a larger size or another aspect")
    return shape, inner


def draft(desk: Desk, prompt: str) -> Film:
    """Make a small quick draft, for finish to turn into the video at full size.

    Args:
        desk: Model and options; the size is that of the finished video, of which the draft has half the width and height.
        prompt: What to show.
    """
    wanted = desk.request(prompt)
    wide, high = wanted.width, wanted.height
    size = grid_size(wide, high, wide * high // 4, desk.stride)
    steps = min(wanted.steps, 12)
    return desk.film(desk.request(prompt, size=size, steps=steps), [Guide(prompt=prompt)])


def finish(desk: Desk, clip: Media, prompt: str = "", *, strength: float = 0.45) -> Film:
    """Turn a draft into the same video at full size, by default twice its width and height.

    Args:
        desk: Model and options.
        clip: The draft.
        prompt: What it shows; left out, the prompt that it was generated with.
        strength: How freely detail is made, 0 to 1.
    """
    small = as_clip(clip)
    if "size" not in desk.options:
        desk.options["size"] = grid_size(small.width, small.height, 4 * small.width * small.height, desk.stride)
    desk.scale = "model"
    source = desk.open(small)
    known = desk.encode(source.whole(desk.stride))
    prompt = desk.prompt(prompt, source)
    request = desk.request(prompt, known.shape[1], source)
    return desk.film(request, [Guide(prompt=prompt), StartFrom(latent=known, strength=strength)])


def storyboard(desk: Desk, board: Media | Storyboard) -> Film:
    """Make a video from cards on a timeline, each a text, a picture or a clip at a time.

    Args:
        desk: Model and options.
        board: A storyboard, or the path of its TOML file.
    """
    return film_of(board if isinstance(board, Storyboard) else read_storyboard(board), desk)


MODES: dict[str, Callable[..., Film]] = {name: globals()[name] for name in __all__}
"""Name to function."""
