"""What a clip's measurements mean, in a sentence with its cause."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from diorama.geometry.agreement import GRID, Agreement
from diorama.geometry.classical import Classical
from diorama.geometry.sfm import Reconstruction

__all__ = ["CAUSES", "Cause", "Verdict", "breaks", "judge", "mean_error"]

Cause = Literal["consistent", "not measurable", "dissolves", "mixed scenes", "cut", "outlier", "no model", "breathes", "moves", "torn", "weak"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

LOOSE_TIE = 0.3
LOOSE_SHARE = 0.5  # of the median tie: fast clips tie loosely throughout, which is no break
ALONE = 0.35
BREATHES = 0.5
LOW_REGION = 0.4
SHORT_TRACKS = 3.5
GOOD_TRACKS = 5.0
STILL = 0.5  # share of far matches that stay in place where a camera stands still before a lasting scene
FEW = 20.0
DISSOLVED = 0.3  # of the points that neighbours share: what is left of them far apart
BEHIND = 20.0  # pixels: a point behind a camera has no error worth a number, and counts as this
GOOD_PIXELS = 0.006  # reprojection error as a share of the shorter side: 1.5 pixels of 256


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a clip shows."""

    cause: Cause
    """The one word for it."""
    sentence: str
    """The same for people."""
    remarks: tuple[str, ...]
    """What else they should know."""

    @property
    def measurable(self) -> bool:
        """Whether anything could be measured."""
        return self.cause != "not measurable"


def judge(classical: Classical, agreement: Agreement | None, names: Sequence[str]) -> Verdict:
    """Find the one cause that explains most.

    Args:
        classical: What two-view geometry and structure from motion say.
        agreement: None where the gate is shut.
        names: What people call each of the frames that were looked at, such as ``"frame 37 (1.2 s)"``.
    """
    reconstruction = classical.reconstruction
    if not classical.gate.measurable or reconstruction is None or agreement is None:
        return _judge_shut(classical)
    remarks = _remarks(reconstruction, agreement)
    broken = breaks(agreement.ties)
    found = reconstruction.registered if reconstruction.failure is None else ()
    counted = f"{len(found)} of {reconstruction.num_frames} frames"
    if len(broken) > max(2, 0.4 * len(agreement.ties)):
        sentence = f"Most frames do not follow from the ones before them: scenes are mixed, or frames are noise; {counted} fit one model."
        return Verdict(cause="mixed scenes", sentence=sentence, remarks=remarks)
    odd = sorted(tie + 1 for tie in broken if tie + 1 in broken)
    if odd:
        listed = _begun(_listed([names[frame] for frame in odd]))
        return Verdict(
            cause="outlier",
            sentence=f"{listed} {'is an outlier' if len(odd) == 1 else 'are outliers'}: no neighbour shows the same world.",
            remarks=remarks,
        )
    if broken:
        listed = _listed([names[tie + 1] for tie in broken])
        sentence = f"The scene changes at {listed}: what is seen before and after is not one world; {counted} fit one model."
        return Verdict(cause="cut", sentence=sentence, remarks=remarks)
    if reconstruction.failure is not None:
        return Verdict(cause="no model", sentence=f"No rigid world explains the clip: {reconstruction.failure}.", remarks=remarks)
    return _judge_world(reconstruction, agreement, names, remarks)


def _judge_shut(classical: Classical) -> Verdict:
    """Tell a camera that stands still from a scene in which nothing lasts long enough for its camera to be seen moving."""
    gate, curve = classical.gate, classical.epipolar.curve
    if len(curve) > 1 and gate.still < STILL:
        near, far = curve[0], curve[-1]
        if near.num_inliers >= FEW and far.num_inliers < DISSOLVED * near.num_inliers:
            sentence = f"The scene dissolves: neighbouring frames share {near.num_inliers:.0f} points, and frames {far.distance} apart only"
            return Verdict(cause="dissolves", sentence=f"{sentence} {far.num_inliers:.0f}, too few and too soon to see a camera move.", remarks=())
    return Verdict(cause="not measurable", sentence=f"Not measurable: {gate.cause}.", remarks=())


def _judge_world(reconstruction: Reconstruction, agreement: Agreement, names: Sequence[str], remarks: tuple[str, ...]) -> Verdict:
    """Judge a clip without breaks that has a model."""
    length, rate = reconstruction.mean_track_length, reconstruction.registration_rate
    error = mean_error(reconstruction)
    share = error / min(reconstruction.width, reconstruction.height)
    counted = f"{len(reconstruction.registered)} of {reconstruction.num_frames} frames"
    low = _low_regions(agreement)
    if agreement.moving > BREATHES and len(low) > GRID * GRID // 3:
        sentence = (
            f"The scene breathes: {counted} find a place, but {agreement.moving:.0%} of what can be followed moves in ways no rigid world explains"
        )
        ending = f", and a point lasts only {length:.1f} frames." if length < GOOD_TRACKS else "."
        return Verdict(cause="breathes", sentence=sentence + ending, remarks=remarks)
    missing = sorted(set(range(reconstruction.num_frames)) - set(reconstruction.registered))
    if missing and rate >= 0.8:
        listed = _begun(_listed([names[frame] for frame in missing]))
        return Verdict(
            cause="outlier", sentence=f"{listed} found no place in the model of the other {len(reconstruction.registered)}.", remarks=remarks
        )
    if missing:
        others = [size for size in reconstruction.model_sizes[1:] if size >= 3]
        pieces = f"{1 + len(others)} pieces that do not join" if others else "a part of the clip"
        return Verdict(cause="torn", sentence=f"The world comes in {pieces}: {counted} fit the largest model.", remarks=remarks)
    if low:
        sentence = f"Objects move, or part of the picture is another world: {_place(low)} does not follow the rigid scene that the rest shows."
        return Verdict(cause="moves", sentence=sentence, remarks=remarks)
    if length < SHORT_TRACKS or share > GOOD_PIXELS:
        sentence = f"{counted} fit one world, but loosely: a point lasts {length:.1f} frames and is {error:.2f} pixels off."
        return Verdict(cause="weak", sentence=sentence, remarks=remarks)
    sentence = f"One rigid world explains the clip: {counted}, each point in {length:.1f} of them and {error:.2f} pixels off on average."
    return Verdict(cause="consistent", sentence=sentence, remarks=remarks)


def mean_error(reconstruction: Reconstruction) -> float:
    """Return the mean reprojection error in pixels, where a point behind a camera counts as 20 pixels off; NaN without points."""
    return float(np.minimum(reconstruction.errors, BEHIND).mean()) if len(reconstruction.errors) else math.nan


def breaks(ties: Sequence[float]) -> list[int]:
    """Return the ties that are broken: index i is between frames i and i + 1."""
    if not ties:
        return []
    usual = float(np.median(ties))
    # where most are broken the median says nothing of what is usual
    limit = min(LOOSE_TIE, LOOSE_SHARE * usual) if usual > ALONE else LOOSE_TIE
    return [index for index, tie in enumerate(ties) if tie < limit]


def _low_regions(agreement: Agreement) -> list[int]:
    return [index for index, region in enumerate(agreement.regions) if region < LOW_REGION]


def _place(regions: Sequence[int]) -> str:
    """Say in words where parts of the picture are."""
    rows, columns = [region // GRID for region in regions], [region % GRID for region in regions]
    if max(rows) - min(rows) == GRID - 1 and max(columns) - min(columns) == GRID - 1:
        return "much of it"
    up, across = sum(rows) / len(rows) / (GRID - 1), sum(columns) / len(columns) / (GRID - 1)
    words = ["top"] * (up < 0.3) + ["bottom"] * (up > 0.7) + ["left"] * (across < 0.3) + ["right"] * (across > 0.7)
    return "the " + (" ".join(words) or "middle")


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:4]) + ([f"{len(names) - 4} more"] if len(names) > 4 else [])
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def _remarks(reconstruction: Reconstruction, agreement: Agreement) -> tuple[str, ...]:
    remarks = []
    if reconstruction.failure is None:
        if len(reconstruction.attempts) > 1:
            remarks.append(_starts(reconstruction))
        if reconstruction.coverage > 0:
            remarks.append(f"The cameras see the scene from {np.degrees(reconstruction.coverage):.0f} degrees around it.")
        if agreement.moving > 0.1:
            remarks.append(f"{agreement.moving:.0%} of what can be followed moves on its own.")
    return tuple(remarks)


def _starts(reconstruction: Reconstruction) -> str:
    """Say from which lens the model was made, where there was a choice."""
    free, taken = reconstruction.attempts[0], reconstruction.attempts[reconstruction.chosen]
    first = f"{free.registered} of {reconstruction.num_frames} frames" + (
        "" if math.isnan(free.focal) else f" and a lens of {free.focal:.2g} frame widths"
    )
    if taken.start is None:
        return f"A model with a free lens has {first}; with the lens held at first, none was better."
    return (
        f"A model with a free lens has {first}; taken is one with the lens held at {taken.start:g} at first, found at {taken.focal:.2g} in the end."
    )
