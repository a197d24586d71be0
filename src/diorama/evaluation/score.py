"""How often verdicts are right, and how sure one can be of it.

Counts successes against trials and gives Wilson intervals; knows the judge's verdicts, not where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diorama.evaluation.judge import Reading, Seen, camera_direction
from diorama.worlds.scene import COLORS, Scene

__all__ = ["ATTRIBUTES", "Score", "grade", "scores"]

ATTRIBUTES = ("colour", "shape", "count", "camera direction", "motion", "camera move", "body direction", "floor", "light", "all five")
"""What ``grade`` answers; ``all five`` is colour, shape, count, camera direction and motion together."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Successes out of trials."""

    right: int
    trials: int

    @property
    def rate(self) -> float:
        """Share of successes in [0, 1]; NaN of no trials."""
        return self.right / self.trials if self.trials else math.nan

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Return the Wilson interval of the rate, of 95 % confidence by default.

        Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
        """
        n = self.trials
        if not n:
            return 0.0, 1.0
        centre = (self.rate + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.rate * (1 - self.rate) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


def grade(scene: Scene, reading: Reading) -> dict[str, bool]:
    """Compare what was asked with what was seen; a body of the asked colour that is not seen fails all that is asked of it.

    Args:
        scene: What was asked for.
        reading: What the judge sees.

    Returns:
        One truth value for each of ``ATTRIBUTES``, over all asked bodies together.
    """
    there = {seen.color for seen in reading.bodies}
    pairs: list[tuple[Seen, Seen]] = []
    for body in scene.bodies:
        seen = reading.asked[list(COLORS).index(body.color)]
        pairs.append((Seen(body.color, body.shape, body.motion, body.direction), seen))
    present = all(body.color in there for body in scene.bodies)
    direction = camera_direction(reading.camera) == camera_direction(scene.camera.move)
    right = {
        "colour": present,
        "shape": present and all(asked.shape == seen.shape for asked, seen in pairs),
        "count": reading.count == len(scene.bodies),
        "camera direction": direction,
        "motion": present and all(asked.motion == seen.motion for asked, seen in pairs),
        "camera move": reading.camera == scene.camera.move,
        "body direction": present and all(asked.direction == seen.direction for asked, seen in pairs),
        "floor": reading.floor == scene.floor,
        "light": reading.light == scene.light,
    }
    five = all(right[name] for name in ATTRIBUTES[:5])
    return {**right, "all five": five}


def scores(grades: Sequence[dict[str, bool]]) -> dict[str, Score]:
    """Add grades up into one score for each of ``ATTRIBUTES``."""
    return {name: Score(right=sum(grade_[name] for grade_ in grades), trials=len(grades)) for name in ATTRIBUTES}
