"""Cards on a timeline."""

from __future__ import annotations


class Storyboard:
    """Cards."""


def read_storyboard(path: object) -> Storyboard:
    """Read."""
    raise NotImplementedError
