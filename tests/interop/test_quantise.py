"""Linear layers in 8 bits against their plain twins."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from diorama.errors import InputError
from diorama.interop.quantise import Float8Linear, Precision, WeightOnlyLinear, check_precision, multiplies_fp8, quantise
from diorama.transformer import Transformer, TransformerConfig

Stored = Literal["int8", "fp8"]
PRECISIONS: tuple[Stored, ...] = ("int8", "fp8")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LARGEST_ERROR = {"int8": 0.006, "fp8": 0.04}
"""Half a step of the row's scale, against the row's largest weight: 1 / 254, and 1 / 16 of a weight at most."""


def layer(bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    made = nn.Linear(48, 40, bias=bias).requires_grad_(False)
    made.weight *= torch.logspace(-3, 2, 40)[:, None]
    return made


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_plain_layer_with_rounded_weights_gradients_too(precision: Stored, bias: bool) -> None:
    made = WeightOnlyLinear(layer(bias), precision)
    twin = made.dequantised()
    inputs = [torch.randn(3, 5, 48, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    found, wanted = made(inputs[0]), twin(inputs[1])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    found.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_row_is_rounded_on_its_own_scale(precision: Stored) -> None:
    plain = layer()
    error = (WeightOnlyLinear(plain, precision).dequantised().weight - plain.weight).abs().amax(1) / plain.weight.abs().amax(1)
    assert 0 < error.max() < LARGEST_ERROR[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_weight_takes_a_byte_and_a_row_of_zeros_stays_zero(precision: Stored) -> None:
    plain = layer()
    plain.weight[3] = 0
    made = WeightOnlyLinear(plain, precision)
    assert made.weight.element_size() == 1
    assert sum(value.numel() * value.element_size() for value in made.state_dict().values()) == 40 * 48 + 2 * 4 * 40
    x = torch.randn(2, 48)
    assert torch.equal(made(x)[:, 3], plain.bias[3].expand(2))
    assert made(x).isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_are_in_the_format_of_the_input_or_of_autocast(precision: Stored) -> None:
    made, x = WeightOnlyLinear(layer(), precision), torch.randn(4, 48)
    assert made(x).dtype == torch.float32
    assert made(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = made(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), made(x), atol=0.3, rtol=0.05)


@pytest.mark.parametrize("bias", [True, False])
def test_products_in_fp8_are_those_of_rounded_tokens_and_weights(bias: bool) -> None:
    plain = nn.Linear(64, 48, bias=bias).requires_grad_(False)
    made, x = Float8Linear(plain), torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(1))
    x[1, 2] = 0
    x[0, 1] *= 1e4  # a token has its own scale
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 448
    rounded = (x / scale).to(torch.float8_e4m3fn).float() * scale
    torch.testing.assert_close(made(x), made.dequantised()(rounded), atol=1e-4, rtol=1e-4)
    assert torch.equal(made(x)[1, 2], torch.zeros(48) if plain.bias is None else plain.bias)
    error = (made(x) - plain(x)).norm(dim=-1) / plain(x).norm(dim=-1)
    assert 0 < error[0].max() < 0.06
    assert made(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(x).dtype == torch.bfloat16
    assert made.weight.element_size() == 1


def test_widths_that_fp8_products_do_not_take_have_weights_in_fp8_alone() -> None:
    module = nn.Sequential(nn.Linear(64, 48), nn.Linear(48, 40), nn.Linear(40, 48))
    assert quantise(module, "fp8-products") == 3
    assert [type(child) for child in module] == [Float8Linear, WeightOnlyLinear, WeightOnlyLinear]
    assert module[1].weight.dtype == torch.float8_e4m3fn


@pytest.mark.skipif(not (torch.cuda.is_available() and multiplies_fp8(CUDA)), reason="needs a CUDA card that multiplies fp8")
@pytest.mark.parametrize("tokens", [1, 7, 128, 1000])
@pytest.mark.parametrize("bias", [True, False])
def test_a_card_multiplies_fp8_as_the_plain_twin_does(tokens: int, bias: bool) -> None:
    made = Float8Linear(nn.Linear(256, 384, bias=bias).requires_grad_(False))
    x = torch.randn(2, tokens, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    wanted, found = made(x.float()), made.to(CUDA)(x.to(CUDA))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float().cpu(), wanted, atol=0.02, rtol=0.02)


def test_fp8_products_are_refused_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in (None, "int8", "fp8"):
        check_precision(precision, CPU)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"--quantise fp8-products needs a CUDA card of compute capability 8\.9 .* this one is a cpu; use --quantise fp8"
    ):
        check_precision("fp8-products", CPU)
    capability: list[Any] = [(8, 6)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability[-1])
    with pytest.raises(InputError, match=r"this one has 8\.6"):
        check_precision("fp8-products", CUDA)
    for newer in ((8, 9), (9, 0), (12, 0)):
        capability.append(newer)
        check_precision("fp8-products", CUDA)


def velocity(model: Transformer) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    latents = [torch.randn(4, 2, 4, 6, generator=generator)]
    text = model.encode_text(torch.randn(1, 5, 16, generator=generator))
    return model(model.pack(latents, [0.6]), text)


@pytest.mark.parametrize(("precision", "largest"), [("int8", 0.02), ("fp8", 0.1), ("fp8-products", 0.15)])
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
    assert any(isinstance(module, Float8Linear) for module in model.blocks.modules()) == (precision == "fp8-products")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="precision 'int9' is unknown; did you mean 'int8'"):
        quantise(nn.Sequential(layer()), "int9")  # type: ignore[arg-type]
