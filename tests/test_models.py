"""What travels in the package stays small and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diorama import Pipeline
from diorama.evaluation.judge import Judge
from diorama.pipeline.candidates import best_first
from diorama.pipeline.state import Cue

MODELS = Path(__file__).resolve().parents[1] / "src" / "diorama" / "models"


def test_all_weights_together_are_under_30_mib() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 30_000_000


def test_the_packaged_parts_load_and_fit_together() -> None:
    models = Pipeline.load(device="cpu").models
    assert models.transformer.config.in_channels == models.autoencoder.config.latent_channels
    assert models.transformer.config.text_dim == models.text_encoder.width
    assert Judge.load(MODELS / "judge") is not None
    assert models.captioner is not None
    assert models.captioner.config.num_queries == 11
    assert models.captioner_2 is not None
    assert models.scheduler.candidates > 1
    assert models.scheduler.takes > 1


def test_the_packaged_captioner_finds_the_picture_that_a_caption_was_written_for() -> None:
    pytest.importorskip("mujoco", reason="worlds are simulated by MuJoCo")
    from diorama.worlds.clip import make_clip

    models = Pipeline.load(device="cpu").models
    clips = [make_clip(seed, width=128, height=128, num_frames=1, num_bodies=2) for seed in range(900, 908)]
    pictures = [clip.frames.numpy() for clip in clips]
    found = [best_first(models, pictures, [Cue(clip.captions.dense, torch.ones(1))])[0] for clip in clips]
    assert sum(place == chosen for place, chosen in enumerate(found)) >= 7
