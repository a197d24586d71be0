"""The mean of two trainings of one model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from diorama.checkpoint import load_tensors, open_weights, read_json, save_folder
from diorama.cli import main
from diorama.errors import CheckpointError, InputError
from diorama.interop.average import average_folders
from diorama.pipeline.load import load_models, model_folder

STEM = "diffusion_pytorch_model"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The packaged model as if it had been trained further."""
    folder = tmp_path / "trained"
    shutil.copytree(model_folder(None), folder)
    moved = {name: value + 0.5 for name, value in load_tensors(folder / "transformer", stem=STEM).items()}
    save_folder(folder / "transformer", moved, read_json(folder / "transformer" / "config.json"), stem=STEM)
    return folder


def change(folder: Path, part: str, stem: str, name: str) -> None:
    tensors = load_tensors(folder / part, stem=stem)
    tensors[name] = tensors[name] + 1
    save_folder(folder / part, tensors, read_json(folder / part / "config.json"), stem=stem)


def test_it_lies_between_both_and_opens(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "average", str(model_folder(None)), str(trained), str(tmp_path / "mean"), "--share", "0.25"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "mean")
    start, end, mean = (open_weights(folder / "transformer", stem=STEM).tensors for folder in (model_folder(None), trained, tmp_path / "mean"))
    for name, stored in mean.items():
        assert stored.dtype == end[name].dtype == torch.float16
        expected = 0.75 * start[name].read().float() + 0.25 * end[name].read().float()
        torch.testing.assert_close(stored.read().float(), expected, atol=1e-3, rtol=1e-3)
    models = load_models(tmp_path / "mean", "cpu")
    assert models.captioner is not None
    assert models.captioner_2 is not None


def test_the_ends_are_the_models_themselves(trained: Path, tmp_path: Path) -> None:
    for share, source in ((0.0, model_folder(None)), (1.0, trained)):
        average_folders(model_folder(None), trained, tmp_path / f"{share}", share=share)
        there, here = (load_tensors(folder / "transformer", stem=STEM) for folder in (source, tmp_path / f"{share}"))
        assert all(torch.equal(value, here[name]) for name, value in there.items())


def test_a_newer_decoder_is_no_hindrance(trained: Path, tmp_path: Path) -> None:
    change(trained, "vae", STEM, next(name for name in open_weights(trained / "vae", stem=STEM).tensors if name.startswith("decoder.")))
    average_folders(model_folder(None), trained, tmp_path / "mean")
    theirs, ours = (load_tensors(folder / "vae", stem=STEM) for folder in (trained, tmp_path / "mean"))
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())


@pytest.mark.parametrize(("part", "stem", "beginning"), [("vae", STEM, "encoder."), ("text_encoder", "model", "")])
def test_transformers_that_speak_of_other_things_are_refused(trained: Path, tmp_path: Path, part: str, stem: str, beginning: str) -> None:
    change(trained, part, stem, next(name for name in open_weights(trained / part, stem=stem).tensors if name.startswith(beginning)))
    with pytest.raises(InputError, match=f"not two trainings of one model: {part} differs"):
        average_folders(model_folder(None), trained, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_latents_of_another_scale_are_refused(trained: Path, tmp_path: Path) -> None:
    path = trained / "vae" / "config.json"
    config = read_json(path)
    path.write_text(json.dumps(config | {"latents_std": [2 * value for value in config["latents_std"]]}))
    with pytest.raises(InputError, match="vae differs"):
        average_folders(model_folder(None), trained, tmp_path / "mean")


def test_what_cannot_be_averaged_is_told_in_a_sentence(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"share 1\.5 is out of range"):
        average_folders(model_folder(None), trained, tmp_path / "mean", share=1.5)
    with pytest.raises(InputError, match="exists already"):
        average_folders(model_folder(None), trained, trained)
    with pytest.raises(InputError, match="would be copied into itself"):
        average_folders(model_folder(None), trained, trained / "vae" / "mean")
    with pytest.raises(CheckpointError, match=r"is no model folder: model_index\.json is missing"):
        average_folders(tmp_path / "nowhere", trained, tmp_path / "mean")
    config = trained / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"ffn_dim": 1024', '"ffn_dim": 512'))
    with pytest.raises(InputError, match="the config of transformer differs"):
        average_folders(model_folder(None), trained, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
