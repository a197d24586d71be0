"""Weight-only quantisation: linear layers keep their weights in 8 bits and multiply in the number format of their input.

Every row of a weight has a scale of its own. The products are those of the plain layer with rounded weights: `dequantised` is the
plain twin. torchao's layers of the same kind (0.18, eager) are as fast and as exact, take seconds to import and leave autocast's
number format (docs/log.md, 2026-11-21), so there is nothing to install.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diorama.errors import InputError, nearest

__all__ = ["Precision", "WeightOnlyLinear", "quantise"]

Precision = Literal["int8", "fp8"]
"""8-bit whole numbers, or floating point with 4 bits of exponent and 3 of fraction; whole numbers are the finer of the two."""
_FORMATS = {"int8": (torch.int8, 127.0), "fp8": (torch.float8_e4m3fn, 448.0)}


class WeightOnlyLinear(nn.Module):
    """A linear layer with an 8-bit weight.

    Args:
        layer: The layer to replace.
        precision: Number format of the weight.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear, precision: Precision) -> None:
        super().__init__()
        dtype, largest = _FORMATS[precision]
        self.in_features, self.out_features = layer.in_features, layer.out_features
        with torch.no_grad():
            weight = layer.weight.float()
            scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / largest
            scaled = weight / scale[:, None]
            self.register_buffer("weight", (scaled.round() if precision == "int8" else scaled).clamp(-largest, largest).to(dtype))
            self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., in]`` to ``[..., out]`` in the dtype of autocast, else of ``x``."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        y = F.linear(x.to(dtype), self.weight.to(dtype))
        scale = self.scale.to(dtype)
        return y * scale if self.bias is None else torch.addcmul(self.bias.to(dtype), y, scale)

    def dequantised(self) -> nn.Linear:
        """Return the plain layer in float32 that computes the same."""
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device=self.weight.device)
        with torch.no_grad():
            layer.weight.copy_(self.weight.float() * self.scale[:, None])
            if self.bias is not None:
                layer.bias.copy_(self.bias)
        return layer.requires_grad_(False)


def quantise(module: nn.Module, precision: Precision) -> int:
    """Replace every linear layer inside ``module`` by one with an 8-bit weight, one after the other, in place.

    Of a transformer give its ``blocks``: what embeds time and text is too fine for 8 bits, and small.

    Args:
        module: Weights may be mapped from disk; each is read once.
        precision: ``int8`` or ``fp8``.

    Returns:
        How many layers were replaced.

    Raises:
        InputError: the precision is unknown.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision '{precision}' is unknown{nearest(precision, get_args(Precision)) or '; allowed: int8, fp8'}")
    found = [(parent, name, child) for parent in module.modules() for name, child in parent.named_children() if isinstance(child, nn.Linear)]
    for parent, name, child in found:
        setattr(parent, name, WeightOnlyLinear(child, precision).train(child.training))
    return len(found)
