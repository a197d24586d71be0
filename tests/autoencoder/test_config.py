from __future__ import annotations

from typing import Any

import pytest

from diorama.autoencoder.config import AutoencoderConfig, config_from_json, config_to_json
from diorama.errors import ConfigError
from diorama.shapes import Stride


def test_strides() -> None:
    assert AutoencoderConfig().stride == Stride(time=4, space=16)
    assert AutoencoderConfig.wan21().stride == Stride(time=4, space=8)
    assert AutoencoderConfig.wan22().stride == Stride(time=4, space=16)


@pytest.mark.parametrize(
    "config",
    [AutoencoderConfig(latents_std=(2.0,) * 32), AutoencoderConfig.wan21(), AutoencoderConfig.wan22(), AutoencoderConfig.wan21(even_joins=True)],
)
def test_json_round_trip(config: AutoencoderConfig) -> None:
    assert config_from_json(config_to_json(config)) == config


def test_wan_json_has_only_keys_of_diffusers() -> None:
    values = config_to_json(AutoencoderConfig.wan22())
    assert values["_class_name"] == "AutoencoderKLWan"
    assert not {"widths", "factorized_time", "mid_block", "pointwise", "even_joins"} & set(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_dim": 0}, "at least 1"),
        ({"widths": (8, 8)}, "2 levels need 1"),
        ({"in_channels": 3}, "needs 192"),
        ({"scale_factor_spatial": 8}, "space 16 times"),
        ({"latents_mean": (0.0,)}, "1 values; z_dim needs 32"),
        ({"latents_std": (0.0,) * 32}, "not above 0"),
        ({"dropout": 0.1}, "dropout 0"),
        ({"is_residual": True}, "pointwise = false"),
    ],
)
def test_faults(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AutoencoderConfig(**changes)


def test_residual_widths_must_divide() -> None:
    with pytest.raises(ConfigError, match="divide"):
        AutoencoderConfig.wan22(base_dim=10, dim_mult=(1, 3, 7, 11))
