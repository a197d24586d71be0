"""Every mode is a list of items."""

from __future__ import annotations

import pytest

from diorama.errors import InputError
from diorama.pipeline import modes
from diorama.pipeline.items import Guide
from diorama.pipeline.request import Request


def test_text_is_its_prompt() -> None:
    assert modes.text(Request(prompt="a ball")) == [Guide(prompt="a ball")]


def test_image_is_one_frame() -> None:
    assert modes.image(Request(prompt="a ball", num_frames=1)) == [Guide(prompt="a ball")]
    with pytest.raises(InputError, match="1 frame"):
        modes.image(Request(prompt="a ball"))
