"""From figures to fates: which pieces are dropped, for which reason and by which figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from diorama.curation.manifest import Row
from diorama.errors import ConfigError

__all__ = ["Limits", "decide", "keep", "mended"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a piece must be to be trained on; None switches a limit off."""

    min_seconds: float | None = 1.0
    """Shortest shot."""
    min_side: int | None = 64
    """Shorter side in pixels, bars cropped."""
    min_brightness: float | None = 0.03
    """Mean luma, 0 to 1."""
    max_brightness: float | None = 0.97
    """Mean luma, 0 to 1."""
    max_static: float | None = 0.95
    """Share of the time in which next to nothing moves."""
    max_jitter: float | None = 1.5
    """Sudden shifts of the whole picture, frame heights per second."""
    min_sharpness: float | None = 0.04
    """Finest detail over coarser detail."""
    max_quality: float | None = 14.0
    """Distance from undistorted pictures."""
    max_text: float | None = 0.04
    """Share of the frame under text."""
    max_watermark: float | None = None
    """Share of the frame with faint edges that stay while the camera moves; off, since a picture that stands still in part has some too."""
    max_upside_down: float | None = 0.96
    """How sure it is that the picture stands on its head."""
    min_aesthetic: float | None = None
    """Score of the user's head."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not value >= 0:
                raise ConfigError(f"limits.{field.name} is {value}; it must be 0 or more, or left out")


def decide(row: Row, limits: Limits) -> Row:
    """Return the row with its fate if a limit speaks against it; the first one counts."""
    if row.fate:
        return row
    width, height = row.size
    checks: Sequence[tuple[str, float | None, float | None, bool, str]] = (
        ("small", float(min(width, height)), limits.min_side, False, "the shorter side is {:.0f} pixels, {:.0f} are needed"),
        ("short", row.seconds if row.kind == "video" else None, limits.min_seconds, False, "it lasts {:.2f} s, {:.2f} s are needed"),
        ("dark", row.brightness, limits.min_brightness, False, "mean luma is {:.3f}, {:.3f} is needed"),
        ("bright", row.brightness, limits.max_brightness, True, "mean luma is {:.3f}, {:.3f} is allowed"),
        ("static", row.static, limits.max_static, True, "nothing moves in {:.2f} of its time, {:.2f} is allowed"),
        ("jitter", row.jitter, limits.max_jitter, True, "the picture jumps by {:.2f} heights per second, {:.2f} is allowed"),
        ("upside down", row.upside_down, limits.max_upside_down, True, "it stands on its head with probability {:.2f}, {:.2f} is allowed"),
        ("blurred", row.sharpness, limits.min_sharpness, False, "sharpness is {:.3f}, {:.3f} is needed"),
        ("poor quality", row.quality, limits.max_quality, True, "the distance from undistorted pictures is {:.1f}, {:.1f} is allowed"),
        ("text", row.text_area, limits.max_text, True, "text covers {:.3f} of the picture, {:.3f} is allowed"),
        ("watermark", row.watermark, limits.max_watermark, True, "a pattern that stays covers {:.3f} of the picture, {:.3f} is allowed"),
        ("unsightly", row.aesthetic, limits.min_aesthetic, False, "the aesthetic score is {:.2f}, {:.2f} is needed"),
    )
    for reason, figure, limit, upper, sentence in checks:
        if figure is not None and limit is not None and (figure > limit if upper else figure < limit):
            return row.dropped(reason, "fates", sentence.format(figure, limit), figure=figure, limit=limit)
    return row


def mended(row: Row) -> dict[str, str]:
    """Return what the shards hold otherwise than the file does: a few words for the kind of change, and a sentence part with figures."""
    notes = {}
    if row.rotation:
        notes["turned upright"] = f"turned by {row.rotation} degrees as the file says"
    if row.pixel_aspect != 1:
        notes["pixels made square"] = f"pixels of {row.pixel_aspect:.3f} made square"
    if row.box != (0, 0, row.width, row.height):
        notes["bars cropped"] = f"bars cropped to {row.size[0]}x{row.size[1]} of {row.width}x{row.height}"
    if row.variable_rate:
        notes["brought to a constant rate"] = "frames at uneven times brought to a constant rate"
    return notes


def keep(row: Row) -> Row:
    """Return the row as kept unless it has a fate."""
    return row if row.fate else dataclasses.replace(row, fate="kept", reason="kept", stage="shards", detail="; ".join(mended(row).values()))
