"""Models read so that they fit, on the tiny model."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diorama.checkpoint import load_file, write_file
from diorama.errors import CheckpointError, InputError, TooLargeError
from diorama.interop.compile import compile_transformers
from diorama.interop.lora import Change, Lora, LoraFile, merge_lora, save_lora
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
    made, plain = load_fitted(folder, "cpu", Settings(), [LoraFile(first, 0.5), LoraFile(second)]), load_models(folder, "cpu")
    assert made.hash != plain.hash
    merge_lora(plain.transformer, lora(0), 0.5)
    merge_lora(plain.transformer, lora(1))
    assert np.array_equal(frames(made), frames(plain))
    wrong = save_lora(Lora(changes={"blocks.9.attn1.to_v": lora().changes["blocks.1.attn1.to_v"]}), tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match=r"wrong\.safetensors changes module 'blocks\.9\.attn1\.to_v', which this transformer lacks"):
        load_fitted(folder, "cpu", Settings(), [LoraFile(wrong)])


def test_a_lora_is_for_all_transformers_or_for_one_of_two(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_models(folder, "cpu").transformer
    name, file = "blocks.1.attn1.to_v.weight", save_lora(lora(), tmp_path / "a.safetensors")

    def changed(wanted: LoraFile, wide: bool) -> list[bool]:
        models = load_models(folder, "cpu")
        models = dataclasses.replace(models, transformer_2=copy.deepcopy(models.transformer), boundary=0.9) if wide else models
        monkeypatch.setattr(fitted, "load_models", lambda *_: models)
        made = load_fitted(folder, "cpu", Settings(), [wanted])
        both = [made.transformer] if made.transformer_2 is None else [made.transformer, made.transformer_2]
        return [not torch.equal(one.get_parameter(name), plain.get_parameter(name)) for one in both]

    assert changed(LoraFile(file), wide=False) == [True]
    assert changed(LoraFile(file), wide=True) == [True, True]
    assert changed(LoraFile(file, expert="high"), wide=True) == [True, False]
    assert changed(LoraFile(file, expert="low"), wide=True) == [False, True]
    with pytest.raises(InputError, match="has one transformer; leave ':low' out"):
        changed(LoraFile(file, expert="low"), wide=False)
    tensors, _ = load_file(file)
    write_file(file, {key.replace("transformer.", "transformer_2.", 1): value for key, value in tensors.items()})
    assert changed(LoraFile(file), wide=True) == [False, True]
    with pytest.raises(InputError, match="nothing for the transformer of high noise"):
        changed(LoraFile(file, expert="high"), wide=True)


def test_what_the_device_cannot_do_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    for settings, message in (
        (Settings(compile="graphs"), "--compile graphs replays CUDA graphs and this runs on cpu"),
        (Settings(quantise="fp8-products"), "--quantise fp8-products needs a CUDA card"),
    ):
        with pytest.raises(InputError, match=message):
            load_fitted(tmp_path / "nothing", "cpu", settings)


def test_compiled_blocks_change_no_picture(folder: Path) -> None:
    """In float32, for where they are compiled attention is fused, which in bf16 rounds otherwise on a CPU without AMX."""
    plain = load_fitted(folder, "cpu", Settings(dtype="float32"))
    torch.compiler.reset()
    compiled = copy.deepcopy(plain)
    fitted.fit_models([compiled.transformer], compiled.autoencoder, Settings(), torch.device("cpu"))
    compile_transformers([compiled.transformer], "blocks", backend="eager")
    assert np.abs(frames(compiled).astype(int) - frames(plain)).max() <= 1
    torch.compiler.reset()


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
    for name in ("wan2.1-t2v-1.3b", Path("Wan-AI/Wan2.2-T2V-A14B-Diffusers@main")):  # nothing is downloaded
        with pytest.raises(TooLargeError, match=r"81 frames of \d+x\d+ with Wan-AI/.* take about .* on the host"):
            check_typed(name, {}, Settings(), "cpu")
    check_typed("someone/else", {}, Settings(), "cpu")
    check_typed(folder / "transformer", {}, Settings(), "cpu")  # not a model folder: reading it says what is wrong
    monkeypatch.setattr(fitted, "memories", lambda device: (2**21, 2**40))
    with pytest.raises(TooLargeError, match="on the card"):
        check_request(read_blueprint(folder), Work(width=512, height=512, num_frames=33), Settings(), "cpu")
