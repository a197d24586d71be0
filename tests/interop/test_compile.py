"""Compiled blocks: what they compute stays, one compilation serves all, and what cannot be compiled here is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.interop import compile as compiling
from diorama.interop.compile import check_compile, compile_transformers
from diorama.interop.quantise import Precision, quantise
from diorama.runtime import autocast
from diorama.transformer import Transformer, TransformerConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def model(num_layers: int = 3) -> Transformer:
    size: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 24, "in_channels": 4, "out_channels": 4, "text_dim": 16, "ffn_dim": 64}
    config = TransformerConfig(**size, num_layers=num_layers, patch_size=(1, 2, 2), pooled_dim=None, coordinates="index", place=False)
    made = Transformer(config).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in made.parameters():
        parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return made


def velocity(net: Transformer, clips: Sequence[int] = (2,), side: int = 4, *, half: bool = False) -> Tensor:
    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(3)
    latents = [torch.randn(4, frames, side, side + 2, generator=generator).to(device) for frames in clips]
    with torch.inference_mode(), autocast(device, enabled=half):
        text = net.encode_text(torch.randn(len(latents), 5, 16, generator=generator).to(device), padded_to=9)
        return net(net.pack(latents, [0.6] * len(latents)), text).cpu()


@pytest.fixture(autouse=True)
def _forgotten() -> Any:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("precision", [None, "int8", "fp8", "fp8-products"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bf16"])
def test_a_block_is_one_graph_and_computes_the_same(precision: Precision | None, half: bool) -> None:
    plain = model()
    if precision is not None:
        quantise(plain.blocks, precision)
    net = copy.deepcopy(plain)
    compile_transformers([net], "blocks", backend="eager", fullgraph=True)
    made, wanted = velocity(net, half=half), velocity(plain, half=half)
    if half:  # attention is fused where it is compiled, which rounds otherwise on a CPU without AMX, and 8 bits make more of it
        assert (made - wanted).norm() < 0.08 * wanted.norm()
    else:
        torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)


def test_one_compilation_serves_all_blocks_and_a_second_one_all_other_sizes() -> None:
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    experts = [model(), model(2)]
    compile_transformers(experts, "blocks", backend=backend)
    for net in experts:
        for frames, side in ((2, 4), (3, 4), (3, 6), (5, 8)):
            velocity(net, (frames,), side)
    assert len(graphs) == 2  # the first size, and one for all others
    for frames, side in ((2, 4), (3, 4), (3, 6), (5, 8)):
        velocity(experts[0], (frames, frames), side)
    assert len(graphs) == 4


def test_what_is_not_asked_for_is_not_compiled() -> None:
    net = model()
    compile_transformers([net], "none")
    assert all(block._compiled_call_impl is None for block in net.blocks)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA card")
@pytest.mark.parametrize("how", ["blocks", "graphs"])
def test_a_card_replays_graphs(how: Any) -> None:
    plain = model().to(CUDA)
    net = copy.deepcopy(plain)
    check_compile(how, CUDA)
    compile_transformers([net], how)
    for side in (4, 6, 4):
        wanted = velocity(plain, (2, 2), side)
        for _ in range(4):  # measured, recorded, replayed
            torch.testing.assert_close(velocity(net, (2, 2), side), wanted, atol=1e-3, rtol=1e-3)


def test_graphs_are_refused_without_cuda() -> None:
    check_compile("none", CPU)
    with pytest.raises(InputError, match="--compile graphs replays CUDA graphs and this runs on cpu; use --compile blocks"):
        check_compile("graphs", CPU)


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"--compile blocks needs a C\+\+ compiler"):
        check_compile("blocks", CPU)
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="with triton, which is not installed"):
        check_compile("graphs", CUDA)
