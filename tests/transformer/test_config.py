"""The transformer's config: diffusers' keys, our own off for Wan, faults in one sentence."""

from __future__ import annotations

import json

import pytest

from diorama.errors import CheckpointError, ConfigError
from diorama.transformer import TransformerConfig
from diorama.transformer.config import read_config, write_config


def test_our_fields_are_off_in_a_folder_that_lacks_them(tmp_path):
    wan = {"_class_name": "WanTransformer3DModel", "_diffusers_version": "0.36", "patch_size": [1, 2, 2], "in_channels": 16, "image_dim": None}
    (tmp_path / "config.json").write_text(json.dumps(wan))
    config = read_config(tmp_path)
    assert config.is_wan
    assert config.patch_size == (1, 2, 2)
    assert config.token_dim == 64
    assert not {"pooled_dim", "coordinates", "place"} & write_config(config).keys()


def test_ours_is_written_whole(tmp_path):
    config = TransformerConfig(num_layers=3)
    (tmp_path / "config.json").write_text(json.dumps(write_config(config)))
    assert read_config(tmp_path) == config
    assert not config.is_wan
    assert config.hidden_size == 256


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_dim", 1280), ("added_kv_proj_dim", 64), ("attention_head_dim", 7), ("freq_dim", 0), ("num_layers", 0), ("pooled_dim", 0), ("eps", 0.0)],
)
def test_faults_name_field_and_value(field, value):
    with pytest.raises(ConfigError, match=f"{field} is {value}"):
        TransformerConfig(**{field: value})


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_unreadable_file(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_dim": 1280, "added_kv_proj_dim": 64}, "the hidden size 256"),
        ({"pos_embed_seq_len": 514}, "without image_dim"),
        ({"image_dim": 0, "added_kv_proj_dim": 256}, "at least 1"),
    ],
)
def test_image_fields_go_together(values, message):
    with pytest.raises(ConfigError, match=message):
        TransformerConfig(**values)


def test_a_wan_folder_may_leave_out_what_diffusers_knows(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "WanTransformer3DModel", "num_layers": 30, "out_channels": None}))
    config = read_config(tmp_path)
    assert (config.hidden_size, config.num_layers, config.in_channels, config.out_channels, config.text_dim) == (5120, 30, 16, 16, 4096)
