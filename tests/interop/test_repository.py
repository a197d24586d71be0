"""A folder as the Wan repositories have it: files of any name, put together by what they hold, the same video as from diffusers' folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diorama import Pipeline
from diorama.checkpoint import load_tensors, save_folder, write_file
from diorama.errors import CheckpointError
from diorama.interop.folder import open_folder
from diorama.interop.repository import looks_original, open_original
from diorama.media import Clip

pytestmark = pytest.mark.filterwarnings("ignore")
CPU = torch.device("cpu")
STEM = "diffusion_pytorch_model"


@pytest.fixture
def original(checkpoint: Any, original_names: Any, tmp_path: Path) -> Any:
    """Return a function from a kind to diffusers' folder and one of original files with the same weights."""

    def make(kind: str) -> tuple[Path, Path]:
        theirs, folder = checkpoint(kind)[1], tmp_path / "original"
        transformers = (
            {"transformer": STEM} if not (theirs / "transformer_2").exists() else {"transformer": "high_noise", "transformer_2": "low_noise"}
        )
        for part, name in transformers.items():
            tensors = original_names.transformer(load_tensors(theirs / part, stem=STEM))
            if len(transformers) == 1:
                write_file(folder / f"{name}.safetensors", tensors)
            else:
                save_folder(folder / name, tensors, {}, stem=STEM)
        vae = load_tensors(theirs / "vae", stem=STEM)
        torch.save(original_names.vae(vae, 2, (theirs / "vae/config.json").read_text().count('"is_residual": true') > 0), folder / "a-vae.pth")
        torch.save(original_names.text_encoder(load_tensors(theirs / "text_encoder")), folder / "t5.pth")
        if (theirs / "image_encoder").exists():
            torch.save(original_names.image_encoder(load_tensors(theirs / "image_encoder")), folder / "clip.pth")
        shutil.copytree(theirs / "tokenizer", folder / "google" / "umt5-xxl")
        return theirs, folder

    return make


@pytest.fixture
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the tiny models the head size they have; published ones have 128."""
    monkeypatch.setattr("diorama.interop.original.HEAD_DIM", 12)


@pytest.mark.usefixtures("small_heads")
@pytest.mark.parametrize("kind", ["a14b t2v", "i2v", "ti2v"])
def test_the_same_parts_as_from_diffusers_folder(kind: str, original: Any) -> None:
    theirs, folder = original(kind)
    assert looks_original(folder)
    expected, parts = open_folder(theirs, CPU, torch.float32), open_original(folder, CPU, torch.float32)
    for name in ("transformer", "transformer_2", "autoencoder"):
        one, other = getattr(expected, name), getattr(parts, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.state_dict().keys() == other.state_dict().keys()
            assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())
    assert parts.transformer.config == expected.transformer.config
    assert parts.boundary == expected.boundary
    assert parts.scheduler.times == "unipc"
    prompts = ["a red ball", "blue cube and"]
    # The tiny encoder is not gated as the published one is, so it is another graph; its tokens are the same.
    assert parts.text_encoder.encode(prompts).mask.tolist() == expected.text_encoder.encode(prompts).mask.tolist()
    assert (parts.image_encoder is None) == (expected.image_encoder is None)


@pytest.mark.usefixtures("small_heads")
def test_a_clip_is_made_of_it(original: Any) -> None:
    _, folder = original("i2v")
    pipe = Pipeline.load(folder, "cpu", torch.float32)
    still = Clip(np.full((1, 32, 32, 3), 90, np.uint8), 16.0)
    clip = pipe.animate(still, "a red ball", size=(32, 32), num_frames=5, steps=2)
    assert clip.frames.shape == (5, 32, 32, 3)
    assert np.array_equal(clip.frames[0], still.frames[0])


@pytest.mark.usefixtures("small_heads")
def test_what_is_missing_or_twice_is_said(original: Any) -> None:
    _, folder = original("a14b t2v")
    shutil.move(folder / "low_noise", folder / "other")
    with pytest.raises(CheckpointError, match=r"two transformers, .* name one 'high_noise' and the other 'low_noise'"):
        open_original(folder, CPU)
    shutil.rmtree(folder / "other")
    shutil.copy(folder / "a-vae.pth", folder / "b-vae.pth")
    with pytest.raises(CheckpointError, match=r"a-vae\.pth, b-vae\.pth are a Wan vae"):
        open_original(folder, CPU)
    (folder / "a-vae.pth").unlink()
    (folder / "b-vae.pth").unlink()
    with pytest.raises(CheckpointError, match="none are a Wan vae"):
        Pipeline.load(folder, "cpu")


@pytest.mark.usefixtures("small_heads")
def test_a_text_encoder_needs_its_tokenizer(original: Any) -> None:
    _, folder = original("ti2v")
    shutil.rmtree(folder / "google")
    parts = open_original(folder, CPU, torch.float32)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        parts.text_encoder.encode(["a"])


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    assert not looks_original(tmp_path)
    assert not looks_original(tmp_path / "absent")
