"""The picture encoder against diffusers' own use of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diorama.checkpoint import load_tensors, write_file
from diorama.errors import CheckpointError
from diorama.interop.image_encoder import load_image_encoder

pytestmark = pytest.mark.filterwarnings("ignore")


def test_states_are_those_of_diffusers(checkpoint: Any) -> None:
    from PIL import Image

    pipe, folder = checkpoint("i2v")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3)).astype(np.uint8)
    with torch.no_grad():
        expected = pipe.encode_image([Image.fromarray(picture) for picture in pictures], torch.device("cpu"))
    found = load_image_encoder(folder).encode(pictures)
    assert found.shape == (2, 5, 10)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_faults_name_the_tensor(checkpoint: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("i2v")[1], folder)
    path = folder / "image_encoder/model.safetensors"
    tensors = load_tensors(folder / "image_encoder")
    name = next(name for name in tensors if name.endswith("layers.1.mlp.fc1.weight"))
    write_file(path, {key: value for key, value in tensors.items() if key != name}, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks tensor '.*layers\.1\.mlp\.fc1\.weight' of shape \(20, 10\)"):
        load_image_encoder(folder)
    write_file(path, tensors | {name: torch.zeros(3, 10)}, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.fc1\.weight' has shape \(3, 10\), expected \(20, 10\)"):
        load_image_encoder(folder)
    shutil.rmtree(folder / "image_processor")
    write_file(path, tensors, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"picture encoder of .* cannot be read"):
        load_image_encoder(folder)
