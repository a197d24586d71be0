from __future__ import annotations

from pathlib import Path

import pytest

from diorama.cli.train import run
from diorama.errors import ConfigError, DataError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_help_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("autoencoder", "transformer", "text", "judge", "--train.minutes"))


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'train\.stepz'; did you mean 'steps'"):
        run(["autoencoder", str(CONFIGS / "autoencoder.toml"), "--out", str(tmp_path), "--train.stepz", "3"])


def test_a_flag_without_value() -> None:
    with pytest.raises(ConfigError, match="--out needs a value"):
        run(["autoencoder", str(CONFIGS / "autoencoder.toml"), "--out"])


def test_an_empty_training_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="empty"):
        run(["autoencoder", str(CONFIGS / "autoencoder.toml"), "--out", str(tmp_path / "run"), "--data", str(tmp_path / "none"), "--device", "cpu"])


def test_the_shipped_configs_are_valid() -> None:
    from diorama.config import load_toml
    from diorama.train.autoencoder import AutoencoderTraining
    from diorama.train.distill import DistillConfig
    from diorama.train.judge import JudgeTraining
    from diorama.train.transformer import TransformerTrainConfig

    load_toml(AutoencoderTraining, CONFIGS / "autoencoder.toml")
    load_toml(DistillConfig, CONFIGS / "text.toml")
    load_toml(JudgeTraining, CONFIGS / "judge.toml")
    load_toml(TransformerTrainConfig, CONFIGS / "transformer.toml")
