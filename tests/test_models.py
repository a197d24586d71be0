"""What travels in the package stays small and whole."""

from __future__ import annotations

from pathlib import Path

from diorama import Pipeline
from diorama.evaluation.judge import Judge
from diorama.text import Captioner

MODELS = Path(__file__).resolve().parents[1] / "src" / "diorama" / "models"


def test_all_weights_together_are_under_30_mib() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 30_000_000


def test_the_packaged_parts_load_and_fit_together() -> None:
    models = Pipeline.load(device="cpu").models
    assert models.transformer.config.in_channels == models.autoencoder.config.latent_channels
    assert models.transformer.config.text_dim == models.text_encoder.width
    assert Judge.load(MODELS / "judge") is not None
    assert Captioner.load(MODELS / "captioner").config.num_queries == 11
