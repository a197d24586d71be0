"""The errors a user can meet.

Every message is one sentence that says what was given, what is allowed and what to do. The CLI prints it and
exits with status 2; the server answers with it in the OpenAI error shape. Programming faults use ``assert``.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DioramaError",
    "InputError",
    "MediaError",
    "MissingExtraError",
    "TooLargeError",
    "cannot_write",
    "nearest",
]


class DioramaError(Exception):
    """Base of every error whose message is meant for the user."""


class InputError(DioramaError):
    """A value in a request is outside what is allowed."""


class ConfigError(DioramaError):
    """A configuration file or override cannot be used."""


class CheckpointError(DioramaError):
    """Weights are missing, truncated, of the wrong shape, or cannot be written."""


class DataError(DioramaError):
    """A training set is empty, damaged or of the wrong kind."""


class MediaError(DioramaError):
    """A video or image file cannot be read or written."""


class MissingExtraError(DioramaError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}; install it with: pip install 'diorama[{extra}]'")


class TooLargeError(DioramaError):
    """A request needs more memory or disk than the machine has."""


def cannot_write(path: Path, error: OSError) -> DataError:
    """Return the error for data that a disk did not take, with the remedy where it is full."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error)
    why = "the disk is full; free some space and run the same command again, finished parts are kept"
    return DataError(f"{path} cannot be written: {why if full else (error.strerror or str(error)).lower()}")


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest allowed word, or an empty string.

    Args:
        word: What the user typed.
        allowed: The words that would have been accepted.
    """
    match = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""
