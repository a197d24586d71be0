"""The open models: sizes that their names and repositories state."""

from __future__ import annotations

import pytest
import torch

from diorama.autoencoder.model import Autoencoder
from diorama.errors import InputError
from diorama.interop.catalogue import KNOWN, T5Sizes, find_known, known_as
from diorama.interop.plan import blueprint_of

BILLIONS = {
    "wan2.1-t2v-1.3b": 1.42,
    "wan2.1-t2v-14b": 14.29,
    "wan2.1-i2v-14b-480p": 16.39,
    "wan2.1-i2v-14b-720p": 16.39,
    "wan2.1-flf2v-14b-720p": 16.40,
    "wan2.2-t2v-a14b": 14.29,
    "wan2.2-i2v-a14b": 14.29,
    "wan2.2-ti2v-5b": 5.00,
}


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_of_the_published_weights(name: str) -> None:
    blueprint = blueprint_of(KNOWN[name])
    assert blueprint.num_transformer / 1e9 == pytest.approx(BILLIONS[name], abs=0.01)
    assert blueprint.num_autoencoder / 1e6 == pytest.approx(704.7 if "5b" in name else 126.9, abs=0.1)
    assert blueprint.text is not None
    assert blueprint.text.num_parameters / 1e9 == pytest.approx(5.68, abs=0.01)
    assert blueprint.disk["vae"] == 4 * blueprint.num_autoencoder
    assert ("transformer_2" in blueprint.disk) == ("a14b" in name)
    assert ("image_encoder" in blueprint.disk) == ("2.1-i2v" in name or "flf2v" in name)


def test_counts_are_those_of_the_modules() -> None:
    pytest.importorskip("transformers", reason="the extra 'hub' is not installed")
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    sizes = {"vocab_size": 30, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 3, "num_heads": 2}
    gated = UMT5EncoderModel(UMT5Config(**sizes, feed_forward_proj="gated-gelu"))
    assert T5Sizes(**sizes).num_parameters == sum(p.numel() for p in gated.parameters())
    assert T5Sizes(**sizes).num_linear == sum(m.weight.numel() for m in gated.modules() if isinstance(m, torch.nn.Linear))
    plain = T5EncoderModel(T5Config(**sizes, feed_forward_proj="relu"))
    # T5 has one table of relative positions, UMT5 one a layer.
    assert T5Sizes(**sizes, gated=False).num_parameters - 2 * 32 * 2 == sum(p.numel() for p in plain.parameters())
    config = KNOWN["wan2.2-ti2v-5b"].autoencoder
    with torch.device("meta"):
        assert blueprint_of(KNOWN["wan2.2-ti2v-5b"]).num_autoencoder == sum(p.numel() for p in Autoencoder(config).parameters())


def test_models_are_found_by_name_and_by_repository() -> None:
    known = KNOWN["wan2.1-t2v-1.3b"]
    for name in ("wan2.1-t2v-1.3b", "Wan2.1-T2V-1.3B", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "wan-ai/wan2.1-t2v-1.3b"):
        assert find_known(name) is known
    assert find_known("runs/mine") is None
    assert known_as("Wan-AI/Wan2.2-TI2V-5B-Diffusers@main") is KNOWN["wan2.2-ti2v-5b"]
    assert known_as("wan2.1-t2v-13b") is None
    with pytest.raises(InputError, match=r"no open model 'wan2\.1-t2v-13b'; did you mean 'wan2\.1-t2v-1\.3b'"):
        find_known("wan2.1-t2v-13b")
