"""Models read so that they fit, on the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diorama.errors import CheckpointError, InputError, TooLargeError
from diorama.interop.lora import Change, Lora, merge_lora, save_lora
from diorama.interop.plan import Work, read_blueprint
from diorama.interop.quantise import WeightOnlyLinear
from diorama.interop.settings import Settings
from diorama.media import Pixels
from diorama.pipeline import Pipeline, fitted
from diorama.pipeline.fitted import check_request, check_typed, load_fitted, memories, typed_work
from diorama.pipeline.load import Models, load_models

ASKED: dict[str, Any] = {"size": (64, 48), "num_frames": 5, "steps": 2, "seed": 3}


def frames(models: Models) -> Pixels:
    return Pipeline(models).generate("red ball", **ASKED).frames


@pytest.mark.parametrize("settings", [Settings(), Settings(offload="model"), Settings(offload="block"), Settings(tile=32)], ids=lambda s: s.flags)
def test_placing_changes_no_picture(folder: Path, settings: Settings) -> None:
    made = load_fitted(folder, "cpu", settings)
    assert made.tile == settings.tile
    assert made.hash == load_models(folder, "cpu").hash
    difference = frames(made).astype(int) - frames(load_models(folder, "cpu")).astype(int)
    assert np.abs(difference).max() <= (2 if settings.tile else 0)


def test_rounding_changes_little_and_the_model_is_still_known(folder: Path) -> None:
    made = load_fitted(folder, "cpu", Settings(quantise="int8"))
    assert any(isinstance(module, WeightOnlyLinear) for module in made.transformer.modules())
    assert made.hash == load_models(folder, "cpu").hash
    difference = np.abs(frames(made).astype(int) - frames(load_models(folder, "cpu")).astype(int))
    assert 0 < difference.mean() < 6


def test_a_format_that_is_typed_is_kept(folder: Path) -> None:
    exact = load_fitted(folder, "cpu", Settings(dtype="float32"))
    assert exact.exact
    assert {parameter.dtype for parameter in exact.transformer.parameters()} == {torch.float32}
    half = load_fitted(folder, "cpu", Settings(dtype="bf16"))
    assert half.transformer.get_parameter("blocks.0.attn1.to_q.weight").dtype == torch.bfloat16


def lora(seed: int = 0) -> Lora:
    generator = torch.Generator().manual_seed(seed)
    pair = {"down": torch.randn(2, 32, generator=generator), "up": torch.randn(32, 2, generator=generator)}
    return Lora(changes={"blocks.1.attn1.to_v": Change(**pair)})


def test_loras_are_merged_in_order_and_change_the_model(folder: Path, tmp_path: Path) -> None:
    first, second = (save_lora(lora(seed), tmp_path / f"{seed}.safetensors") for seed in (0, 1))
    made, plain = load_fitted(folder, "cpu", Settings(), [(first, 0.5), (second, 1.0)]), load_models(folder, "cpu")
    assert made.hash != plain.hash
    merge_lora(plain.transformer, lora(0), 0.5)
    merge_lora(plain.transformer, lora(1))
    assert np.array_equal(frames(made), frames(plain))
    wrong = save_lora(Lora(changes={"blocks.9.attn1.to_v": lora().changes["blocks.1.attn1.to_v"]}), tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match=r"wrong\.safetensors changes module 'blocks\.9\.attn1\.to_v', which this transformer lacks"):
        load_fitted(folder, "cpu", Settings(), [(wrong, 1.0)])


def test_a_tile_off_the_grid_is_refused_before_sampling(folder: Path) -> None:
    with pytest.raises(InputError, match="a tile of 100 pixels is off the grid"):
        load_fitted(folder, "cpu", Settings(tile=100))


def test_what_is_typed_is_what_is_planned(folder: Path) -> None:
    blueprint = read_blueprint(folder)
    assert typed_work(blueprint, {}, {}) == Work(width=128, height=128, num_frames=33)
    typed = {"size": (64, 48), "seconds": 1.0, "guidance_scale": 1.0, "window": 4, "fit": "crop", "cache_threshold": 0.1}
    assert typed_work(blueprint, typed, {"fps": 8.0}) == Work(width=64, height=48, num_frames=9, guided=False, window=4, cached=True)
    with pytest.raises(InputError, match="off the grid"):
        typed_work(blueprint, {"size": (60, 48)}, {})


def test_what_cannot_fit_is_refused_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, host = memories("cpu")
    assert card is None
    assert host > 2**28
    check_typed(folder, {}, Settings(), "cpu")
    monkeypatch.setattr(fitted, "memories", lambda device: (None, 100 * 2**20))
    with pytest.raises(TooLargeError, match=r"33 frames of 128x128 with .* take about 0\.\d GiB of 0\.1 on the host"):
        check_typed(folder, {}, Settings(), "cpu")
    check_typed(folder / "transformer", {}, Settings(), "cpu")  # not a model folder: reading it says what is wrong
    monkeypatch.setattr(fitted, "memories", lambda device: (2**21, 2**40))
    with pytest.raises(TooLargeError, match="on the card"):
        check_request(read_blueprint(folder), Work(width=512, height=512, num_frames=33), Settings(), "cpu")
