from __future__ import annotations

from diorama.errors import DioramaError, MissingExtraError, nearest


def test_nearest_names_the_closest_word() -> None:
    assert nearest("stepz", ["steps", "seed"]) == "; did you mean 'steps'?"


def test_nearest_is_silent_when_nothing_is_close() -> None:
    assert nearest("zzz", ["steps", "seed"]) == ""


def test_missing_extra_says_what_to_install() -> None:
    error = MissingExtraError("mujoco", "train", "simulating worlds")
    assert isinstance(error, DioramaError)
    assert "pip install 'diorama[train]'" in str(error)
