"""How made frames go on from given ones: the step at a join, what of a passage is a mere mix.

``Spliced`` is a clip put together from given and made frames, by anyone, and ``SeamScore`` adds up what is measured of many. Takes
uint8 ``[T, H, W, 3]``; knows nothing of models or modes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diorama.evaluation.frames import psnr
from diorama.evaluation.judge import Judge
from diorama.evaluation.motion import as_tensor, flow_steps, photometric_steps
from diorama.evaluation.score import grade, scores
from diorama.media import Clip, Pixels, read_clip
from diorama.worlds.scene import Scene

__all__ = [
    "FLOW_FLOOR",
    "JOIN_GOAL",
    "STEP_FLOOR",
    "WRAP_GOAL",
    "SeamScore",
    "Spliced",
    "border_ratio",
    "color_drift",
    "cross_fade",
    "mix_residual",
    "spread",
    "step_ratios",
]

JOIN_GOAL = 1.3
"""Most that the step at a join may be over the clip's median step."""
WRAP_GOAL = 1.2
"""The same where the end of a loop meets its beginning."""
STEP_FLOOR = 0.5
"""Grey levels of 255: smaller photometric steps count as this, or a still scene would make every join infinite."""
FLOW_FLOOR = 0.05
"""Pixels a frame: smaller changes of flow count as this, about half of what it is under the slowest camera moves of rendered worlds."""


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
    video = as_tensor(frames).float()
    left, top, right, bottom = box
    across = video[:, top:bottom].diff(dim=2).abs().mean((0, 1, 3))
    down = video[:, :, left:right].diff(dim=1).abs().mean((0, 2, 3))
    found = []
    for jumps, edges in ((across, (left, right)), (down, (top, bottom))):
        joins = [edge - 1 for edge in edges if 0 < edge <= len(jumps)]
        if joins:
            found.append(step_ratios(jumps, joins, STEP_FLOOR))
    return float(torch.cat(found).mean()) if found else math.nan


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
    wanted, one, two = (as_tensor(pixels).double().flatten(-3) for pixels in (frames, first, second))
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
    begin, end = (as_tensor(part).double().mean((0, 1, 2)) for part in (frames[:count], frames[-count:]))
    return float((end - begin).abs().max())


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
