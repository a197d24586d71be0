"""The shape of an autoencoder: our default, Wan 2.1's and Wan 2.2's are values of one dataclass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from diorama.config import from_dict, to_dict
from diorama.errors import ConfigError
from diorama.shapes import Stride

__all__ = ["AutoencoderConfig", "config_from_json", "config_to_json"]


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Graph of an ``Autoencoder``.

    The defaults are the default model. Names of fields that Wan's graph has too are those of diffusers' ``AutoencoderKLWan``;
    ``widths``, ``factorized_time``, ``mid_block``, ``pointwise`` and ``even_joins`` go beyond it and are off in ``wan21()`` and ``wan22()``.
    """

    base_dim: int = 96
    """Channels of the finest level of the encoder, times ``dim_mult`` (unused with ``widths``)."""
    decoder_base_dim: int | None = None
    """The same for the decoder; ``base_dim`` if None."""
    z_dim: int = 32
    """Latent channels."""
    dim_mult: tuple[int, ...] = (1, 1, 1)
    """Width of each level in units of ``base_dim``, finest first (unused with ``widths``)."""
    num_res_blocks: int = 1
    """Residual blocks a level in the encoder; the decoder has one more."""
    attn_scales: tuple[float, ...] = ()
    """Kept for Wan's ``config.json``; must be empty, as it is in all published weights."""
    temperal_downsample: tuple[bool, ...] = (False, False)
    """Whether the step from each level to the next halves time too (diffusers' spelling)."""
    dropout: float = 0.0
    """Kept for Wan's ``config.json``; must be 0."""
    latents_mean: tuple[float, ...] | None = None
    """Mean of each raw latent channel over the training clips; zeros if None."""
    latents_std: tuple[float, ...] | None = None
    """Standard deviation of each raw latent channel; ones if None."""
    is_residual: bool = False
    """Parameter-free shortcuts around the steps between levels, as in Wan 2.2."""
    in_channels: int = 192
    """Channels after patchify: 3 times the volume of ``patch_size``."""
    out_channels: int = 192
    """Channels before unpatchify: 3 times the volume of ``patch_size``."""
    patch_size: int | tuple[int, int, int] | None = (4, 4, 4)
    """Pixels folded into channels before the first convolution: (time, height, width), or one number for height and width."""
    scale_factor_temporal: int = 4
    """Frames per latent frame; must agree with the graph."""
    scale_factor_spatial: int = 16
    """Pixels per latent cell; must agree with the graph."""
    widths: tuple[int, ...] | None = (96, 128, 160)
    """Channels of each level in encoder and decoder, finest first; replaces ``base_dim`` and ``dim_mult``."""
    factorized_time: bool = True
    """1x3x3 convolutions and one causal 3x1x1 convolution in each residual block in place of two 3x3x3."""
    mid_block: bool = False
    """Two residual blocks around a spatial attention at the coarsest level."""
    pointwise: bool = True
    """1x1 convolution as first layer and as last of the encoder, and 1x1 convolution with pixel shuffle to go up a level."""
    even_joins: bool = True
    """Whether what is shown of a decoded clip has the steps from one latent frame to the next evened, see ``joins``."""

    def __post_init__(self) -> None:
        if self.attn_scales or self.dropout:
            raise ConfigError("attn_scales and dropout are not supported: leave attn_scales empty and dropout 0")
        if min(self.z_dim, self.num_res_blocks, *self.encoder_widths, *self.decoder_widths, *self.patch) < 1:
            raise ConfigError("z_dim, num_res_blocks, widths and patch_size must be at least 1")
        steps = len(self.encoder_widths) - 1
        if len(self.temperal_downsample) != steps:
            raise ConfigError(f"temperal_downsample has {len(self.temperal_downsample)} values; {steps + 1} levels need {steps}")
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) != 3 * math.prod(self.patch):
                raise ConfigError(f"{name} is {getattr(self, name)}; patch_size {self.patch} needs {3 * math.prod(self.patch)}")
        time, space = self.patch[0] * 2 ** sum(self.temperal_downsample), self.patch[1] * 2**steps
        if self.patch[1] != self.patch[2] or (time, space) != (self.scale_factor_temporal, self.scale_factor_spatial):
            raise ConfigError(
                f"the graph shrinks time {time} and space {space} times and patches must be square; scale_factor_temporal "
                f"{self.scale_factor_temporal} and scale_factor_spatial {self.scale_factor_spatial} must say the same"
            )
        for name in ("latents_mean", "latents_std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.z_dim:
                raise ConfigError(f"{name} has {len(values)} values; z_dim needs {self.z_dim}")
        if self.latents_std is not None and min(self.latents_std) <= 0:
            raise ConfigError("latents_std holds a value that is not above 0; measure the latents again")
        if self.is_residual:
            self._check_shortcuts()

    def _check_shortcuts(self) -> None:
        if self.patch[0] > 1 or self.pointwise:
            raise ConfigError("is_residual needs pointwise = false and no patches in time")
        down, up = self.encoder_widths, self.decoder_widths[::-1]
        folds = [4 * (1 + time) for time in self.temperal_downsample]
        shrinks = all(before * fold % after == 0 for before, fold, after in zip(down[:1] + down[:-1], [*folds, 1], down, strict=True))
        grows = all(after * fold % before == 0 for before, fold, after in zip(up[:1] + up[:-2], folds[::-1], up[:-1], strict=True))
        if not (shrinks and grows):
            raise ConfigError("is_residual needs neighbouring widths that divide each other times the step between them")

    @classmethod
    def wan21(cls, **changes: Any) -> AutoencoderConfig:
        """Return the graph of Wan 2.1's autoencoder, with some fields changed."""
        return cls(**(_WAN21 | changes))

    @classmethod
    def wan22(cls, **changes: Any) -> AutoencoderConfig:
        """Return the graph of Wan 2.2's 4x16x16 autoencoder, with some fields changed."""
        return cls(**(_WAN21 | _WAN22 | changes))

    @property
    def patch(self) -> tuple[int, int, int]:
        """Patch size in time, height and width."""
        if isinstance(self.patch_size, int):
            return 1, self.patch_size, self.patch_size
        return self.patch_size or (1, 1, 1)

    @property
    def encoder_widths(self) -> tuple[int, ...]:
        """Channels of each encoder level, finest first."""
        return self.widths or tuple(self.base_dim * mult for mult in self.dim_mult)

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """Channels of each decoder level, finest first."""
        return self.widths or tuple((self.decoder_base_dim or self.base_dim) * mult for mult in self.dim_mult)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.z_dim

    @property
    def stride(self) -> Stride:
        """Frames and pixels that one latent cell covers."""
        return Stride(time=self.scale_factor_temporal, space=self.scale_factor_spatial)

    @property
    def encoder_halo(self) -> int:
        """Pixels around a tile that its latent depends on, rounded up to whole latent cells; attention is not counted."""
        step, reach = self.patch[1], 0 if self.pointwise else self.patch[1]
        for level in range(len(self.encoder_widths)):
            reach += 2 * self.num_res_blocks * step
            if level < len(self.encoder_widths) - 1:
                reach += 2 * step  # a 3-wide kernel at stride 2, padded on one side only
                step *= 2
        reach += 4 * self.mid_block * step + (0 if self.pointwise else step)
        return -(-reach // step) * step

    @property
    def decoder_halo(self) -> int:
        """Latent cells around a tile that its pixels depend on; attention is not counted."""
        levels = len(self.decoder_widths)
        whole = unit = 1 << (levels - 1)
        reach = unit + 4 * self.mid_block * unit
        for level in range(levels):
            reach += 2 * (self.num_res_blocks + 1) * unit
            if level < levels - 1:
                unit //= 2
                reach += 0 if self.pointwise else unit
        return -(-(reach + unit) // whole)


WAN21_MEAN = (
    -0.7571,
    -0.7089,
    -0.9113,
    0.1075,
    -0.1745,
    0.9653,
    -0.1517,
    1.5508,
    0.4134,
    -0.0715,
    0.5517,
    -0.3632,
    -0.1922,
    -0.9497,
    0.2503,
    -0.2921,
)
WAN21_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)
"""Statistics of Wan 2.1's latents, which its own checkpoints do not carry. Source: the model code of Wan 2.1."""
_WAN21: dict[str, Any] = {
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "temperal_downsample": (False, True, True),
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
    "scale_factor_spatial": 8,
    "widths": None,
    "factorized_time": False,
    "mid_block": True,
    "pointwise": False,
    "even_joins": False,
}
_WAN22: dict[str, Any] = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "temperal_downsample": (False, True, True),
}
_OURS = {"widths": None, "factorized_time": False, "mid_block": True, "pointwise": False}


def config_to_json(config: AutoencoderConfig) -> dict[str, Any]:
    """Return what goes into ``config.json``: diffusers' keys (and ``even_joins`` where it is on) if the graph is Wan's, all fields otherwise."""
    values = to_dict(config)
    if any(getattr(config, name) != off for name, off in _OURS.items()) or not isinstance(config.patch_size, int | None):
        return {"_class_name": "Autoencoder", **values}
    left_out = set(_OURS) if config.even_joins else {*_OURS, "even_joins"}
    return {"_class_name": "AutoencoderKLWan", **{key: value for key, value in values.items() if key not in left_out}}


def config_from_json(values: dict[str, Any]) -> AutoencoderConfig:
    """Read ``config.json`` as written here or by diffusers, whose missing keys mean Wan 2.1.

    Raises:
        ConfigError: an unknown key or a wrong value.
    """
    known = {key: value for key, value in values.items() if not key.startswith("_")}
    if values.get("_class_name") == "AutoencoderKLWan":
        known = _WAN21 | known
        if known["z_dim"] == len(WAN21_MEAN):
            known = {"latents_mean": WAN21_MEAN, "latents_std": WAN21_STD} | known
    return from_dict(AutoencoderConfig, known)
