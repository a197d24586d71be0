"""Diorama: an open, trainable, self-hosted successor to Sora.

``from diorama import Pipeline`` is the way in. Torch is imported when that name is first used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diorama.pipeline import Pipeline

__all__ = ["Pipeline", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "Pipeline":
        from diorama.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module 'diorama' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
