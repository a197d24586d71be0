"""Turning a picture over turns the verdict over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation.orientation import orientation_features, upside_down
from diorama.media.scan import scan


@pytest.mark.parametrize("seed", range(4))
def test_features_change_their_sign_and_nothing_else(seed: int) -> None:
    frame = pan(seed, 1)[0]
    np.testing.assert_allclose(orientation_features(frame[::-1]), -orientation_features(frame), atol=1e-4)
    assert upside_down([frame]) == pytest.approx(1 - upside_down([frame[::-1]]), abs=1e-4)


@pytest.mark.parametrize("name", ["CarND-LaneLines-P1__solidWhiteRight.mp4", "gpmf-parser__karma.mp4"])
def test_real_clips_with_plain_signs_are_told(shared: Path, name: str) -> None:
    frames = []
    for frame in scan(shared / "video" / name):
        if frame.medium is not None:
            frames.append(frame.medium)
        if len(frames) == 3:
            break
    assert upside_down(frames) < 0.2
    assert upside_down([frame[::-1, ::-1] for frame in frames]) > 0.8
