"""How made frames go on from given ones: the step at a join, what of a passage is a mere mix, where an object went.

``Spliced`` is a clip put together from given and made frames, by anyone, and ``SeamScore`` adds up what is measured of many. Takes
uint8 ``[T, H, W, 3]`` and truth in pixels and metres; knows nothing of models or modes. A step at index i lies between the frames i - 1
and i; in a ring the step at index 0 lies between the last frame and the first, elsewhere it is NaN.

Motion is seen by a dense optical flow of our own, least squares over a window at two sizes (Lucas and Kanade), because no library
that Diorama installs has one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diorama.evaluation.frames import psnr
from diorama.evaluation.judge import Judge
from diorama.evaluation.score import grade, scores
from diorama.media import Clip, Pixels, read_clip
from diorama.worlds.clip import WorldClip, make_clip
from diorama.worlds.sample import sample_world
from diorama.worlds.scene import Scene

__all__ = [
    "FLOW_FLOOR",
    "JOIN_GOAL",
    "STEP_FLOOR",
    "WRAP_GOAL",
    "SeamScore",
    "Spliced",
    "Walk",
    "border_ratio",
    "color_drift",
    "color_likelihood",
    "cross_fade",
    "flow_steps",
    "mix_residual",
    "optical_flow",
    "path_length",
    "photometric_steps",
    "project",
    "spread",
    "step_ratios",
    "track_color",
    "walks",
]

JOIN_GOAL = 1.3
"""Most that the step at a join may be over the clip's median step."""
WRAP_GOAL = 1.2
"""The same where the end of a loop meets its beginning."""
STEP_FLOOR = 0.5
"""Grey levels of 255: smaller photometric steps count as this, or a still scene would make every join infinite."""
FLOW_FLOOR = 0.05
"""Pixels a frame: smaller changes of flow count as this, about half of what it is under the slowest camera moves of rendered worlds."""
_WINDOW = 7
"""Side in halved pixels of the window that shares one motion."""
_ROUNDS = 4
"""Refinements of the flow at each size of the pyramid."""
_DAMPING = 30.0
"""Square levels per square pixel: where a picture has less slope than this it says nothing of its motion."""
_WALK = 0.15
"""Metres that a body moves at least, whatever the camera does."""
_BINS = 16
"""Colour bins of each channel."""


def _tensor(frames: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames))  # also of frames in reverse


def photometric_steps(frames: Pixels, *, ring: bool = False) -> Tensor:
    """Return how much the picture changes at every step.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        ring: Whether the first frame follows the last.

    Returns:
        ``[T]`` mean absolute differences in grey levels of 255; the first is NaN without a ring.
    """
    video = _tensor(frames).float()
    steps = (video - video.roll(1, 0)).abs().flatten(1).mean(1)
    return steps if ring else _open(steps)


def flow_steps(frames: Pixels, *, ring: bool = False) -> Tensor:
    """Return how much the motion changes at every step.

    The flow over a step is compared with that over the step before it and that over the step behind it. Only what can be seen of
    the change counts: its part along the picture's slopes (a stripe that moves lengthwise looks still), steep places more than flat ones.
    Where slopes point all ways this is the length of the change over the square root of 2.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        ring: Whether the first frame follows the last.

    Returns:
        ``[T]`` mean changes in pixels a frame; the first is NaN without a ring, all are below three frames.
    """
    video = _halved(_tensor(frames))
    change = _flow(video.roll(1, 0), video)
    change = change.roll(-1, 0) - change  # entry i: at frame i, from step i to step i + 1
    (xx, xy, yy), (u, v) = _smooth(_products(*_slopes(video))).unbind(1), change.unbind(1)
    steep, seen = xx + yy, xx * u * u + 2 * xy * u * v + yy * v * v
    at_frames = (steep * seen.clamp_min(0)).sqrt().flatten(1).sum(1) / steep.flatten(1).sum(1).clamp_min(1e-9)
    if not ring:
        at_frames[[0, -1]] = math.nan
    steps = torch.stack([at_frames.roll(1, 0), at_frames]).nanmean(0)
    return steps if ring else _open(steps)


def _open(steps: Tensor) -> Tensor:
    steps[0] = math.nan
    return steps


def step_ratios(steps: Tensor, joins: Sequence[int], floor: float) -> Tensor:
    """Return the steps at joins over the median of all other steps of the clip.

    Args:
        steps: ``[T]``, NaN where there is none.
        joins: Indices of the steps in question.
        floor: Smaller steps count as this, at the joins and in the median.

    Returns:
        ``[len(joins)]``; 1 is a join like any other step, NaN where there is no step.
    """
    at = torch.tensor(list(joins), dtype=torch.long)
    inside = torch.ones(len(steps), dtype=torch.bool)
    inside[at] = False
    return steps[at].clamp_min(floor) / steps[inside].nanquantile(0.5).clamp_min(floor)


def border_ratio(frames: Pixels, box: tuple[int, int, int, int]) -> float:
    """Return how much a picture jumps at the border of a box in it, over the median jump between neighbouring columns or rows.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        box: Left, top, right, bottom in pixels; edges on the picture's own border do not count.

    Returns:
        Mean over the edges, jumps below ``STEP_FLOOR`` counted as it; NaN if the box is the whole picture.
    """
    video = _tensor(frames).float()
    left, top, right, bottom = box
    across = video[:, top:bottom].diff(dim=2).abs().mean((0, 1, 3))
    down = video[:, :, left:right].diff(dim=1).abs().mean((0, 2, 3))
    found = []
    for jumps, edges in ((across, (left, right)), (down, (top, bottom))):
        joins = [edge - 1 for edge in edges if 0 < edge <= len(jumps)]
        if joins:
            found.append(step_ratios(jumps, joins, STEP_FLOOR))
    return float(torch.cat(found).mean()) if found else math.nan


def optical_flow(first: Pixels, second: Pixels) -> Tensor:
    """Return how far every place of one picture has moved in another.

    Args:
        first: uint8 ``[N, H, W, 3]``.
        second: The same shape.

    Returns:
        ``[N, H / 2, W / 2, 2]`` pixels of the full picture to the right and down, found at half its size.

    Source: Lucas and Kanade 1981, "An iterative image registration technique"; a median over neighbours after every round as in
    Sun, Roth and Black 2010, "Secrets of optical flow estimation", section 4.
    """
    return _flow(_halved(_tensor(first)), _halved(_tensor(second))).permute(0, 2, 3, 1)


def _halved(frames: Tensor) -> Tensor:
    return functional.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 2)


def _flow(a: Tensor, b: Tensor) -> Tensor:
    """Return the flow ``[N, 2, h, w]`` of halved pictures ``[N, 3, h, w]``, in pixels of the full ones.

    It is found at half that size first: a world moves by a few pixels a frame, and higher up the floors' patterns are gone.
    """
    size = (a.shape[2] // 2, a.shape[3] // 2)
    x, y = (functional.interpolate(picture, size, mode="area") for picture in (a, b))
    flow = _refined(x, y, a.new_zeros(len(a), 2, *size))
    return 2 * _refined(a, b, 2 * functional.interpolate(flow, a.shape[2:], mode="bilinear", align_corners=False))


def _refined(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    for _ in range(_ROUNDS):
        padded = functional.pad(flow + _correction(a, b, flow), (1, 1, 1, 1), mode="replicate")
        flow = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).median(-1).values
    return flow


def _correction(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    """Return what brings ``b``, taken back by ``flow``, nearer to ``a``: at most a pixel, ``[N, 2, H, W]``."""
    moved = _taken_back(b, flow)
    dx, dy = _slopes((a + moved) / 2)
    change = moved - a
    xx, xy, yy, xt, yt = _smooth(torch.cat([_products(dx, dy), (dx * change).sum(1, keepdim=True), (dy * change).sum(1, keepdim=True)], 1)).unbind(1)
    xx, yy = xx + _DAMPING, yy + _DAMPING
    inverse = 1 / (xx * yy - xy * xy)
    return torch.stack([(xy * yt - yy * xt) * inverse, (xy * xt - xx * yt) * inverse], 1).clamp(-1, 1)


def _slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    return (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _products(dx: Tensor, dy: Tensor) -> Tensor:
    return torch.stack([(dx * dx).sum(1), (dx * dy).sum(1), (dy * dy).sum(1)], 1)


def _smooth(planes: Tensor) -> Tensor:
    half = _WINDOW // 2
    rows = functional.avg_pool2d(planes, (_WINDOW, 1), 1, (half, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, _WINDOW), 1, (0, half), count_include_pad=False)


def _taken_back(picture: Tensor, flow: Tensor) -> Tensor:
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([(2 * (x + flow[:, 0]) + 1) / width - 1, (2 * (y + flow[:, 1]) + 1) / height - 1], -1)
    return functional.grid_sample(picture, places, padding_mode="border", align_corners=False)


def cross_fade(first: Pixels, second: Pixels, count: int) -> Pixels:
    """Return ``count`` frames that fade evenly from one picture, or clip of that length, to another.

    Args:
        first: ``[1, H, W, 3]`` or ``[count, H, W, 3]`` uint8.
        second: As ``first``.
        count: Frames between the ends, which are not among them.
    """
    share = ((np.arange(count) + 1) / (count + 1))[:, None, None, None]
    faded: Pixels = (first * (1 - share) + second * share).round().astype(np.uint8)
    return faded


def mix_residual(frames: Pixels, first: Pixels, second: Pixels) -> Tensor:
    """Return what of frames is no mix of two pictures: a cross-fade leaves nothing.

    The best ``a * first + b * second + c`` by least squares is taken away, over all pixels and channels.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        first: ``[H, W, 3]``, or ``[T, H, W, 3]`` for a picture of its own for every frame.
        second: As ``first``.

    Returns:
        ``[T]`` energy that is left as a share of the frame's energy about its mean, 0 to 1; 0 for an even frame.
    """
    wanted, one, two = (_tensor(pixels).double().flatten(-3) for pixels in (frames, first, second))
    wanted, one, two = (rows - rows.mean(-1, keepdim=True) for rows in (wanted, one, two))
    basis = torch.stack([one.expand_as(wanted), two.expand_as(wanted)], 1)  # [T, 2, N]
    shares = torch.linalg.pinv(basis @ basis.mT, hermitian=True) @ (basis @ wanted[..., None])
    left = (wanted - (shares.mT @ basis)[:, 0]).square().sum(1)
    energy = wanted.square().sum(1)
    return torch.where(energy > 0, left / energy.clamp_min(1e-9), 0.0)


def color_drift(frames: Pixels, count: int) -> float:
    """Return how far the mean colour of the last ``count`` frames is from that of the first, in grey levels of 255.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        count: Frames at either end, at most T.

    Returns:
        The channel that moved farthest.
    """
    begin, end = (_tensor(part).double().mean((0, 1, 2)) for part in (frames[:count], frames[-count:]))
    return float((end - begin).abs().max())


def project(points: Tensor, world_to_camera: Tensor, intrinsics: Tensor) -> Tensor:
    """Return where points are seen.

    Args:
        points: ``[T, 3]`` metres in the world, in front of the camera.
        world_to_camera: ``[T, 4, 4]``, OpenCV axes.
        intrinsics: ``[3, 3]`` in pixels.

    Returns:
        ``[T, 2]`` pixels to the right and down.
    """
    seen = (world_to_camera[:, :3, :3] @ points[:, :, None])[..., 0] + world_to_camera[:, :3, 3]
    image = seen @ intrinsics.T
    return image[:, :2] / image[:, 2:]


def path_length(places: Tensor) -> float:
    """Return the length in pixels of a path through places ``[T, 2]``."""
    return float(places.diff(dim=0).norm(dim=1).sum())


def color_likelihood(frames: Pixels, mask: Tensor) -> Tensor:
    """Learn an object's colours from frames in which it is known.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        mask: bool ``[T, H, W]``, the object's pixels.

    Returns:
        ``[16, 16, 16]`` over red, green and blue: how likely a pixel of that colour is the object's and not its surroundings', 0 to 1.
    """
    bins = _bins(frames)
    inside, outside = (_histogram(bins[part]) for part in (mask, ~mask))
    # What is unlikely on both sides is not the object's.
    return inside / (inside + outside + 1e-4)


def _bins(frames: Pixels) -> Tensor:
    red, green, blue = (_tensor(frames).long() * _BINS // 256).unbind(-1)
    return (red * _BINS + green) * _BINS + blue


def _histogram(bins: Tensor) -> Tensor:
    """Return the shares of colours, each spread over its neighbours: generated colours are a little off."""
    counts = torch.bincount(bins, minlength=_BINS**3).float().view(1, 1, _BINS, _BINS, _BINS) / max(1, len(bins))
    return functional.avg_pool3d(counts, 3, 1, 1)[0, 0]


def track_color(frames: Pixels, likelihood: Tensor, start: Tensor, area: float) -> tuple[Tensor, Tensor]:
    """Follow an object by its colours, from frame to frame, around where it is expected to be.

    Args:
        frames: uint8 ``[T, H, W, 3]``, in the order to follow.
        likelihood: As ``color_likelihood`` returns it.
        start: ``[2]`` pixels right and down: where it was just before the first frame.
        area: Pixels that it covers.

    Returns:
        Places ``[T, 2]``, and whether it was found ``[T]``: a quarter of its area about the place in its colours. Where it was not,
        the place is the last one known.
    """
    radius = math.sqrt(area / math.pi)
    height, width = frames.shape[1:3]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1)
    place, velocity = start.float(), torch.zeros(2)
    places: list[Tensor] = []
    found: list[bool] = []
    for weights in (2 * likelihood.flatten()[_bins(frames)] - 1).clamp_min(0):
        center = place + velocity
        for reach in (2 * radius,) * 6 + (radius,) * 12:  # mean shift: wide to catch it, then narrow
            near = weights * torch.exp(-(pixels - center).square().sum(-1) / (2 * reach**2))
            if float(near.sum()) < 1e-6:
                break
            center = (near[..., None] * pixels).sum((0, 1)) / near.sum()
        here = bool(weights[(pixels - center).norm(dim=-1) < 1.5 * radius].sum() > 0.25 * area)
        velocity = center - place if here and places else torch.zeros(2)
        place = center if here else place
        places.append(place)
        found.append(here)
    return torch.stack(places), torch.tensor(found)


@dataclass(frozen=True, kw_only=True)
class Spliced:
    """A clip put together from given and made frames."""

    frames: Pixels
    """uint8 ``[T, H, W, 3]``."""
    joins: Sequence[int] = ()
    """The frames behind each join; 0 is the wrap of a loop."""
    given: Pixels | None = None
    """What was given, of the shape of ``frames``; None if nothing was."""
    known: np.ndarray | None = None
    """bool ``[T, H, W]``: where ``given`` holds."""
    asked: Sequence[tuple[Pixels, Scene]] = ()
    """The made parts and what each should show."""
    box: tuple[int, int, int, int] | None = None
    """Left, top, right and bottom of a clip inside a larger picture."""
    seconds: float | None = None
    """Time that making it took."""

    def kept(self, frames: Pixels) -> float:
        """Return the PSNR in dB of what was given in ``frames``, which are this clip or a copy of it; infinite if they are equal."""
        if self.given is None or self.known is None or not self.known.any():
            return math.nan
        return float(psnr(frames[self.known][None, :, None], self.given[self.known][None, :, None]))


@dataclass(kw_only=True)
class SeamScore:
    """What was measured of clips that were put together in one way; one row of a table."""

    READ = ("colour", "shape", "count", "camera direction", "motion")
    HEAD = ("kept, dB", "as mp4", "step", "flow step", "goal", "colour", "shape", "count", "camera", "motion", "s / clip")

    kept: list[float] = field(default_factory=list)
    """PSNR of given frames in dB."""
    written: list[float] = field(default_factory=list)
    """The same after writing and reading an H.264 file."""
    joins: list[tuple[float, float]] = field(default_factory=list)
    """Ratios of the photometric and the flow step; of a clip inside a larger picture the border's and NaN."""
    wraps: list[tuple[float, float]] = field(default_factory=list)
    """The same where a loop's end meets its beginning."""
    grades: list[dict[str, bool]] = field(default_factory=list)
    """Of every made part."""
    seconds: list[float] = field(default_factory=list)
    """Time that making took."""

    def add(self, clip: Spliced, judge: Judge, file: Path, fps: float) -> None:
        """Measure one more clip.

        Args:
            clip: What to measure.
            judge: Reads the made parts.
            file: A place for an mp4 file.
            fps: Frames per second of that file.

        Raises:
            MediaError: the file cannot be written.
        """
        if not math.isnan(kept := clip.kept(clip.frames)):
            self.kept.append(kept)
            self.written.append(clip.kept(read_clip(Clip(clip.frames, fps).save(file)).frames))
        if clip.joins:
            ring = 0 in clip.joins
            light = step_ratios(photometric_steps(clip.frames, ring=ring), clip.joins, STEP_FLOOR)
            motion = step_ratios(flow_steps(clip.frames, ring=ring), clip.joins, FLOW_FLOOR)
            for join, pair in zip(clip.joins, zip(light.tolist(), motion.tolist(), strict=True), strict=True):
                (self.joins if join else self.wraps).append(pair)
        if clip.box is not None:
            self.joins.append((border_ratio(clip.frames, clip.box), math.nan))
        self.grades += [grade(scene, judge.read([part])[0]) for part, scene in clip.asked]
        self.seconds += [] if clip.seconds is None else [clip.seconds]

    def rows(self, name: str, *, judged: bool) -> Iterator[tuple[str, ...]]:
        """Yield the row of a table under ``HEAD``, and one more for the wrap if there are other joins too.

        Args:
            name: First cell.
            judged: Whether the goals apply.
        """
        rates = scores(self.grades)
        ends = [
            *(f"{100 * rates[mark].rate:.0f}" if self.grades else "-" for mark in self.READ),
            f"{np.mean(self.seconds):.1f}" if self.seconds else "-",
        ]
        kept = [_decibels(self.kept), _decibels(self.written)]
        if self.joins or not self.wraps:
            yield (name, *kept, *_seams(self.joins, JOIN_GOAL, judged), *ends)
            kept, ends = ["", ""], [""] * len(ends)
        if self.wraps:
            yield (f"{name}, wrap", *kept, *_seams(self.wraps, WRAP_GOAL, judged), *ends)


def _decibels(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return "equal" if min(values) == math.inf else f"{np.median(values):.1f}"


def _seams(pairs: Sequence[tuple[float, float]], goal: float, judged: bool) -> tuple[str, str, str]:
    columns = [[value for value in column if not math.isnan(value)] for column in ([pair[k] for pair in pairs] for k in (0, 1))]
    medians = [float(np.median(column)) for column in columns if column]
    verdict = f"{goal:g} {'met' if max(medians) <= goal else 'missed'}" if judged and medians else ""
    return spread(columns[0]), spread(columns[1]), verdict


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median and in brackets the 90th percentile, NaN left out; a dash of nothing."""
    found = np.asarray([value for value in values if not math.isnan(value)])
    return f"{np.median(found):.{digits}f} ({np.quantile(found, 0.9):.{digits}f})" if len(found) else "-"


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A rendered world of which a second is kept secret, and a body that goes far in it."""

    world: WorldClip
    """The whole."""
    body: int
    """Index of the body."""
    known: slice
    """The frames that may be seen."""
    order: Sequence[int]
    """The last frame known, and the secret ones in the order in which an extension makes them."""

    @property
    def places(self) -> Tensor:
        """Where the simulator has the body in every frame, ``[T, 2]`` pixels."""
        return project(self.world.trajectory.positions[:, self.body], self.world.cameras.world_to_camera, self.world.cameras.intrinsics)

    @property
    def path(self) -> Tensor:
        """Where it is in the frames of ``order``, ``[1 + n, 2]`` pixels."""
        return self.places[list(self.order)]

    def errors(self, frames: Pixels) -> tuple[Tensor, float]:
        """Follow the body through frames and compare its way with the simulator's.

        Args:
            frames: uint8 ``[n, H, W, 3]`` for the secret frames, in their order.

        Returns:
            Distances ``[n]`` in pixels, and the share of frames in which it is not found.
        """
        seen, mask = self.world.frames.numpy(), self.world.instances == self.body + 1
        likelihood, last = color_likelihood(seen[self.known], mask[self.known]), self.order[0]
        area, path = float(mask[last].sum()), self.path
        # The middle of what is seen of a body is not quite its centre: what counts is how far it goes from there.
        begin = track_color(seen[[last]], likelihood, path[0], area)[0][0]
        found, here = track_color(frames, likelihood, begin, area)
        return ((found - begin) - (path[1:] - path[0])).norm(dim=1), 1 - float(here.float().mean())


def walks(seed: int, *, backward: bool, known: int = 33, secret: int = 12, shortest: float = 8.0, surest: float = 3.0) -> Iterator[Walk]:
    """Yield worlds, without end, in which a body moves by itself through the secret frames.

    Args:
        seed: Of the first world that is tried.
        backward: Whether the beginning is secret, rather than the end.
        known: Frames known.
        secret: Frames kept secret.
        shortest: Pixels that the body goes in them at least.
        surest: Pixels by which following it in the rendered truth goes wrong at most; other worlds cannot be measured.
    """
    first, last = (0, secret) if backward else (known - 1, known + secret - 1)
    order = list(range(first, last + 1))[:: -1 if backward else 1]
    span = slice(secret, None) if backward else slice(0, known)
    for number in itertools.count(seed):
        trajectory = sample_world(number, split="held_out", num_frames=known + secret)[1]
        moved = (trajectory.positions[last] - trajectory.positions[first]).norm(dim=-1)
        if float(moved.max()) < _WALK:
            continue
        walk = Walk(world=make_clip(number, split="held_out", num_frames=known + secret), body=int(moved.argmax()), known=span, order=order)
        is_seen = bool((walk.world.instances[order[0]] == walk.body + 1).any())
        if is_seen and path_length(walk.path) >= shortest and float(walk.errors(walk.world.frames.numpy()[order[1:]])[0].max()) <= surest:
            yield walk
