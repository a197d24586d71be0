"""Linear layers with weights in 8 bits: multiplied in the number format of their input, or in 8 bits themselves.

Every row of a weight has a scale of its own. The products of `WeightOnlyLinear` are those of the plain layer with rounded weights;
`Float8Linear` rounds every token of its input too and multiplies fp8 by fp8, which cards of compute capability 8.9 and more do at twice
the rate of bf16 by their data sheets (not measured here). Each has a plain twin. torchao's weight-only layers (0.18, eager) are as fast and
as exact, take seconds to import and leave autocast's number format (docs/log.md, 2026-11-21), so there is nothing to install.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diorama.errors import InputError, nearest

__all__ = ["Float8Linear", "Precision", "QuantisedLinear", "WeightOnlyLinear", "check_precision", "multiplies_fp8", "quantise"]

Precision = Literal["int8", "fp8", "fp8-products"]
"""8-bit whole numbers, or floating point with 4 bits of exponent and 3 of fraction; whole numbers are the finer of the two. With products
in fp8 the inputs are rounded too."""
_FORMATS = {"int8": (torch.int8, 127.0), "fp8": (torch.float8_e4m3fn, 448.0)}
_LEAST = 1e-30
"""Largest number of a row below which it counts as zeros."""
_FP8_CAPABILITY = (8, 9)
"""Ada, the first cards that multiply fp8."""
_FP8_GRID = 16
"""Widths of a layer must be multiples of this for a product in fp8."""


def _rounded(rows: Tensor, precision: Literal["int8", "fp8"]) -> tuple[Tensor, Tensor]:
    """Return rows ``[R, D]`` in 8 bits, and their scales ``[R]`` float32, by the number format of the rows."""
    dtype, largest = _FORMATS[precision]
    scale = rows.abs().amax(dim=1).clamp_(min=_LEAST) / largest
    scaled = rows / scale[:, None]
    return (scaled.round_() if precision == "int8" else scaled).clamp_(-largest, largest).to(dtype), scale.float()


def _product_dtype(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class WeightOnlyLinear(nn.Module):
    """A linear layer with an 8-bit weight.

    Args:
        layer: The layer to replace.
        precision: Number format of the weight.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear, precision: Literal["int8", "fp8"]) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        with torch.no_grad():
            weight, scale = _rounded(layer.weight.float(), precision)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., in]`` to ``[..., out]`` in the dtype of autocast, else of ``x``."""
        dtype = _product_dtype(x)
        y = F.linear(x.to(dtype), self.weight.to(dtype))
        scale = self.scale.to(dtype)
        return y * scale if self.bias is None else torch.addcmul(self.bias.to(dtype), y, scale)

    def dequantised(self) -> nn.Linear:
        """Return the plain layer in float32 that computes the same."""
        return _dequantised(self)


class Float8Linear(nn.Module):
    """A linear layer whose weight and input are multiplied in fp8, with a scale for each row of the one and each token of the other.

    Off such cards (see `multiplies_fp8`) the same rounded numbers are multiplied in float32, for tests and to see what rounding does.

    Args:
        layer: The layer to replace; its widths are multiples of 16.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        with torch.no_grad():
            weight, scale = _rounded(layer.weight.float(), "fp8")
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., in]`` to ``[..., out]`` in the dtype of autocast, else of ``x``; no gradient."""
        dtype = _product_dtype(x)
        tokens, scale = _rounded(x.to(dtype).flatten(0, -2), "fp8")
        y = (_multiplied if multiplies_fp8(x.device) else _multiplied_plain)(tokens, scale, self)
        return y.to(dtype).reshape(*x.shape[:-1], self.out_features)

    def dequantised(self) -> nn.Linear:
        """Return the plain layer in float32 that computes the same of inputs that need no rounding."""
        return _dequantised(self)


QuantisedLinear = WeightOnlyLinear | Float8Linear
"""What stands in the place of a linear layer."""


def _multiplied(tokens: Tensor, scale: Tensor, layer: Float8Linear) -> Tensor:
    """Return ``[L, out]`` bf16 of fp8 ``tokens [L, in]`` with their scales ``[L]``."""
    by_row = F.ScalingType.RowWise
    bias = None if layer.bias is None else layer.bias.to(torch.bfloat16)
    scales = scale[:, None], layer.scale[None]
    # The wider sums of slow accumulation cost what the format gains.
    return F.scaled_mm(tokens, layer.weight.t(), scales[0], by_row, scales[1], by_row, bias=bias, output_dtype=torch.bfloat16, use_fast_accum=True)


def _multiplied_plain(tokens: Tensor, scale: Tensor, layer: Float8Linear) -> Tensor:
    """Plain twin of `_multiplied`, in float32."""
    with torch.autocast(tokens.device.type, enabled=False):
        bias = None if layer.bias is None else layer.bias.float()
        return F.linear(tokens.float() * scale[:, None], layer.weight.float() * layer.scale[:, None], bias)


def _dequantised(quantised: QuantisedLinear) -> nn.Linear:
    layer = nn.Linear(quantised.in_features, quantised.out_features, bias=quantised.bias is not None, device=quantised.weight.device)
    with torch.no_grad():
        layer.weight.copy_(quantised.weight.float() * quantised.scale[:, None])
        if quantised.bias is not None:
            layer.bias.copy_(quantised.bias)
    return layer.requires_grad_(False)


def multiplies_fp8(device: torch.device) -> bool:
    """Return whether a device multiplies fp8: CUDA cards of compute capability 8.9 and more (Ada, Hopper, Blackwell)."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= _FP8_CAPABILITY


def check_precision(precision: Precision | None, device: torch.device) -> None:
    """Refuse what a device cannot do.

    Raises:
        InputError: products in fp8 are asked for and the device has none.
    """
    if precision == "fp8-products" and not multiplies_fp8(device):
        has = f"has {'.'.join(map(str, torch.cuda.get_device_capability(device)))}" if device.type == "cuda" else f"is a {device.type}"
        raise InputError(
            f"--quantise fp8-products needs a CUDA card of compute capability 8.9 or more (Ada, Hopper, Blackwell) and this one {has}; "
            "use --quantise fp8 or int8"
        )


def quantise(module: nn.Module, precision: Precision) -> int:
    """Replace every linear layer inside ``module`` by one with an 8-bit weight, one after the other, in place.

    Of a transformer give its ``blocks``: what embeds time and text is too fine for 8 bits, and small.

    Args:
        module: Weights may be mapped from disk; each is read once.
        precision: ``int8``, ``fp8`` or ``fp8-products``; of the last, layers whose widths are no multiples of 16 have 8-bit weights alone.

    Returns:
        How many layers were replaced.

    Raises:
        InputError: the precision is unknown.
    """
    allowed = get_args(Precision)
    if precision not in allowed:
        raise InputError(f"precision '{precision}' is unknown{nearest(precision, allowed) or '; allowed: ' + ', '.join(allowed)}")
    found = [(parent, name, child) for parent in module.modules() for name, child in parent.named_children() if isinstance(child, nn.Linear)]
    for parent, name, child in found:
        setattr(parent, name, _replaced(child, precision).train(child.training))
    return len(found)


def _replaced(layer: nn.Linear, precision: Precision) -> QuantisedLinear:
    if precision != "fp8-products":
        return WeightOnlyLinear(layer, precision)
    fits = layer.in_features % _FP8_GRID == 0 and layer.out_features % _FP8_GRID == 0
    return Float8Linear(layer) if fits else WeightOnlyLinear(layer, "fp8")
