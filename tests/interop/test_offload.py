"""Offloading between two devices: the CPU, and the meta device, which knows shapes and places but no numbers; CUDA where there is one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diorama.interop.offload import BlockOffload, Part, PartOffload
from diorama.interop.quantise import quantise
from diorama.transformer import Transformer, TransformerConfig

CPU = torch.device("cpu")
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"))


def transformer() -> Transformer:
    size = {"num_attention_heads": 2, "attention_head_dim": 24, "in_channels": 4, "out_channels": 4, "text_dim": 16, "ffn_dim": 64, "num_layers": 3}
    model = Transformer(TransformerConfig(**size, patch_size=(1, 2, 2), pooled_dim=None, coordinates="index", place=False)).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model


@torch.inference_mode()
def velocity(model: Transformer, device: torch.device = CPU) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    latents = [torch.randn(4, 2, 4, 6, generator=generator).to(device)]
    text = model.encode_text(torch.randn(1, 5, 16, generator=generator).to(device))
    return model(model.pack(latents, [0.6]), text).cpu()


def layers(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("quantised", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("budget", [0, 20_000, 10**9], ids=["one-layer", "some", "all"])
@pytest.mark.parametrize("name", ["cpu", CUDA])
def test_it_changes_no_bit_and_keeps_to_its_memory(name: str, budget: int, quantised: bool) -> None:
    device, model = torch.device(name), transformer()
    if quantised:
        quantise(model.blocks, "int8")
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    wanted = velocity(copy.deepcopy(model).to(device), device)
    offload = BlockOffload(model.blocks, device, budget)
    model.to(device) if name == "cpu" else [part.to(device) for part in model.children() if part is not model.blocks]
    for _ in range(3):
        assert torch.equal(velocity(model, device), wanted)
    largest = max(48 * 64, 48 * 48) * (1 if quantised else 4)
    assert offload.peak <= max(budget, largest)
    assert all(torch.equal(value.cpu(), weights[key]) for key, value in model.state_dict().items())
    offload.remove()
    assert offload.held == 0
    assert torch.equal(velocity(copy.deepcopy(model).to(device), device), wanted)


def test_weights_are_on_the_device_in_use_and_on_the_host_between() -> None:
    block = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 4, bias=False))
    seen: list[tuple[str, str]] = []
    offload = BlockOffload(block, torch.device("meta"), 10**6)
    for layer in layers(block):
        layer.register_forward_pre_hook(lambda module, inputs: seen.append((module.weight.device.type, inputs[0].device.type)))
    out = block(torch.empty(3, 4, device="meta"))
    assert out.device.type == "meta"
    assert seen == [("meta", "meta")] * 2
    assert [layer.weight.device.type for layer in layers(block)] == ["cpu", "cpu"]
    assert block[0].bias.device.type == block[1].weight.device.type == "meta", "what is small stays"
    assert offload.peak == 4 * (4 * 8)


def test_the_second_pass_fetches_ahead_in_the_order_of_the_first() -> None:
    first, second, third = (nn.Linear(8, 8) for _ in range(3))
    both = nn.ModuleList([first, second, third])
    order: list[int] = []
    offload = BlockOffload(both, CPU, 3 * 4 * 64)
    x = torch.ones(1, 8)

    def run() -> None:
        for layer in (third, first, second):
            layer(x)
            order.append(offload.held // (4 * 64))

    run()
    assert order == [0, 0, 0], "nothing is known of the order yet"
    run()
    assert order[3:] == [2, 2, 2], "the two that follow wait on the device, around the end of the pass"
    assert offload.peak == 3 * 4 * 64


def test_another_order_than_learnt_is_right_too() -> None:
    torch.manual_seed(0)
    both = nn.ModuleList(nn.Linear(8, 8) for _ in range(3)).requires_grad_(False)
    plain, offload = copy.deepcopy(both), BlockOffload(both, CPU, 2 * 4 * 64)
    x = torch.randn(2, 8)
    for order in ((0, 1, 2), (0, 1, 2), (2, 1, 0), (1, 1, 2), (0, 2, 1)):
        for index in order:
            assert torch.equal(both[index](x), plain[index](x))
    assert offload.peak <= 2 * 4 * 64


def test_a_failing_product_leaves_the_weights_at_home() -> None:
    block: Any = nn.Sequential(nn.Linear(4, 8))
    weight = block[0].weight.detach().clone()
    offload = BlockOffload(block, CPU, 0)
    with pytest.raises(RuntimeError):
        block(torch.ones(1, 3))
    assert offload.held == 0
    assert torch.equal(block[0].weight, weight)


def parts(device: torch.device) -> tuple[PartOffload, list[nn.Module]]:
    torch.manual_seed(0)
    modules: list[nn.Module] = [nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval().requires_grad_(False) for _ in range(2)]
    return PartOffload([Part(module=module, entries=("forward", "extra_repr")) for module in modules], device), modules


def places(module: nn.Module) -> set[str]:
    return {tensor.device.type for tensor in [*module.parameters(), *module.buffers()]}


def test_parts_take_turns_on_the_device() -> None:
    offload, (first, second) = parts(torch.device("meta"))
    x = torch.empty(4, 2, device="meta")
    assert places(first) == places(second) == {"cpu"}
    assert first(x).is_meta
    assert (places(first), places(second)) == ({"meta"}, {"cpu"})
    second.extra_repr()
    assert (places(first), places(second)) == ({"cpu"}, {"meta"}), "any of the methods brings a part"
    offload.home()
    assert places(first) == places(second) == {"cpu"}


@pytest.mark.parametrize("name", ["cpu", CUDA])
def test_parts_compute_what_they_did(name: str) -> None:
    device = torch.device(name)
    _, plain = parts(CPU)
    _, modules = parts(device)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    for index in (0, 1, 1, 0):
        with torch.inference_mode():
            assert torch.equal(modules[index](x.to(device)), copy.deepcopy(plain[index]).to(device)(x.to(device)))


def test_a_part_that_stays_sends_the_others_home() -> None:
    moving, staying = nn.Linear(2, 2), nn.Linear(2, 2)
    PartOffload(
        [Part(module=moving, entries=("forward",)), Part(module=staying, entries=("forward",), moves=False)],
        torch.device("meta"),
    )
    moving(torch.empty(1, 2, device="meta"))
    staying(torch.ones(1, 2))
    assert places(moving) == places(staying) == {"cpu"}
