"""Weight-only quantisation against its plain twin."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from diorama.errors import InputError
from diorama.interop.quantise import Precision, WeightOnlyLinear, quantise
from diorama.transformer import Transformer, TransformerConfig

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LARGEST_ERROR = {"int8": 0.006, "fp8": 0.04}
"""Half a step of the row's scale, against the row's largest weight: 1 / 254, and 1 / 16 of a weight at most."""


def layer(bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    made = nn.Linear(48, 40, bias=bias).requires_grad_(False)
    made.weight *= torch.logspace(-3, 2, 40)[:, None]
    return made


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_plain_layer_with_rounded_weights_gradients_too(precision: Precision, bias: bool) -> None:
    made = WeightOnlyLinear(layer(bias), precision)
    twin = made.dequantised()
    inputs = [torch.randn(3, 5, 48, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    found, wanted = made(inputs[0]), twin(inputs[1])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    found.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_row_is_rounded_on_its_own_scale(precision: Precision) -> None:
    plain = layer()
    error = (WeightOnlyLinear(plain, precision).dequantised().weight - plain.weight).abs().amax(1) / plain.weight.abs().amax(1)
    assert 0 < error.max() < LARGEST_ERROR[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_weight_takes_a_byte_and_a_row_of_zeros_stays_zero(precision: Precision) -> None:
    plain = layer()
    plain.weight[3] = 0
    made = WeightOnlyLinear(plain, precision)
    assert made.weight.element_size() == 1
    assert sum(value.numel() * value.element_size() for value in made.state_dict().values()) == 40 * 48 + 2 * 4 * 40
    x = torch.randn(2, 48)
    assert torch.equal(made(x)[:, 3], plain.bias[3].expand(2))
    assert made(x).isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_are_in_the_format_of_the_input_or_of_autocast(precision: Precision) -> None:
    made, x = WeightOnlyLinear(layer(), precision), torch.randn(4, 48)
    assert made(x).dtype == torch.float32
    assert made(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = made(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), made(x), atol=0.3, rtol=0.05)


def velocity(model: Transformer) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    latents = [torch.randn(4, 2, 4, 6, generator=generator)]
    text = model.encode_text(torch.randn(1, 5, 16, generator=generator))
    return model(model.pack(latents, [0.6]), text)


@pytest.mark.parametrize(("precision", "largest"), [("int8", 0.02), ("fp8", 0.1)])
def test_a_transformer_keeps_its_velocity(precision: Precision, largest: float) -> None:
    size = {"num_attention_heads": 2, "attention_head_dim": 24, "in_channels": 4, "out_channels": 4, "text_dim": 16, "ffn_dim": 64, "num_layers": 2}
    model = Transformer(TransformerConfig(**size, patch_size=(1, 2, 2), pooled_dim=None, coordinates="index", place=False)).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    before, num_bytes = velocity(model), sum(value.numel() * value.element_size() for value in model.blocks.state_dict().values())
    assert quantise(model.blocks, precision) == 2 * 10
    after = velocity(model)
    assert 0 < (after - before).norm() / before.norm() < largest
    assert sum(value.numel() * value.element_size() for value in model.blocks.state_dict().values()) < 0.4 * num_bytes
    assert not any(isinstance(module, nn.Linear) for module in model.blocks.modules())


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="precision 'int9' is unknown; did you mean 'int8'"):
        quantise(nn.Sequential(layer()), "int9")  # type: ignore[arg-type]
