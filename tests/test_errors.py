from __future__ import annotations

import errno
from pathlib import Path

from diorama.errors import DioramaError, MissingExtraError, cannot_write, nearest


def test_nearest_names_the_closest_word() -> None:
    assert nearest("stepz", ["steps", "seed"]) == "; did you mean 'steps'?"


def test_nearest_is_silent_when_nothing_is_close() -> None:
    assert nearest("zzz", ["steps", "seed"]) == ""


def test_missing_extra_says_what_to_install() -> None:
    error = MissingExtraError("mujoco", "train", "simulating worlds")
    assert isinstance(error, DioramaError)
    assert "pip install 'diorama[train]'" in str(error)


def test_a_full_disk_comes_with_its_remedy_and_other_faults_with_their_name() -> None:
    assert "the disk is full; free some space" in str(cannot_write(Path("out"), OSError(errno.ENOSPC, "No space left on device")))
    assert str(cannot_write(Path("out"), OSError(errno.EACCES, "Permission denied"))) == "out cannot be written: permission denied"
