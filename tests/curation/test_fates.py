"""Each limit drops for its own reason, with the figure; the first one counts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from diorama.curation.fates import Limits, decide, keep, mended
from diorama.curation.manifest import Row
from diorama.errors import ConfigError

GOOD = Row(
    source="a", kind="video", end=4.0, width=320, height=240, motion=0.1, jitter=0.1, static=0.0, sharpness=0.5, brightness=0.4, quality=4.0,
    text_area=0.0, watermark=0.0, upside_down=0.3, aesthetic=3.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("small", {"width": 60}),
        ("short", {"end": 0.4}),
        ("dark", {"brightness": 0.01}),
        ("bright", {"brightness": 0.99}),
        ("static", {"static": 1.0}),
        ("jitter", {"jitter": 4.0}),
        ("upside down", {"upside_down": 0.99}),
        ("blurred", {"sharpness": 0.01}),
        ("poor quality", {"quality": 40.0}),
        ("text", {"text_area": 0.5}),
        ("watermark", {"watermark": 0.5}),
        ("unsightly", {"aesthetic": 0.5}),
    ],
)
def test_each_limit_has_its_reason(reason: str, change: dict[str, Any]) -> None:
    limits = Limits(min_aesthetic=1.0, max_watermark=0.1)
    assert decide(GOOD, limits) == GOOD
    row = decide(dataclasses.replace(GOOD, **change), limits)
    assert (row.fate, row.reason, row.stage) == ("dropped", reason, "fates")
    assert row.figure is not None
    assert row.limit is not None
    off = Limits(**{field.name: None for field in dataclasses.fields(Limits)})
    assert not decide(dataclasses.replace(GOOD, **change), off).fate


def test_what_was_not_measured_is_not_judged() -> None:
    assert not decide(Row(source="a", kind="image", width=320, height=240), Limits()).fate


def test_a_fate_stays() -> None:
    row = GOOD.dropped("black", "cuts", "black")
    assert decide(row, Limits()) == row == keep(row)


def test_kept_rows_say_what_was_done_to_them() -> None:
    row = keep(dataclasses.replace(GOOD, rotation=180, pixel_aspect=1.5, top=20, right=320, bottom=220, variable_rate=True))
    assert (row.fate, row.reason) == ("kept", "kept")
    assert list(mended(row)) == ["turned upright", "pixels made square", "bars cropped", "brought to a constant rate"]
    assert mended(GOOD) == {}
    assert [word for word in ("180", "1.500", "320x200", "constant rate") if word not in row.detail] == []


def test_limits_below_zero_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_jitter"):
        Limits(max_jitter=-1.0)
