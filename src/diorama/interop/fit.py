"""A model made to fit: its weights rounded, its parts placed as `Settings` say. It knows parts, not the pipeline that holds them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from diorama.autoencoder.model import Autoencoder
from diorama.interop.compile import check_compile, compile_transformers
from diorama.interop.offload import BlockOffload, Part, PartOffload
from diorama.interop.plan import AHEAD_LAYERS
from diorama.interop.quantise import QuantisedLinear, check_precision, quantise
from diorama.interop.settings import Settings
from diorama.text import OnDemandTextEncoder, TextEncoder, load_umt5
from diorama.transformer.model import Transformer

__all__ = ["check_settings", "fit_models", "fit_text_encoder"]

_TRANSFORMER = ("forward", "encode_text")
_AUTOENCODER = ("encode", "decode", "encode_chunk", "decode_chunk")


def check_settings(settings: Settings, device: torch.device) -> None:
    """Refuse settings that a device cannot follow, before a model is read.

    Raises:
        InputError: there are no products in fp8, no CUDA graphs, or no compiler for it.
    """
    check_precision(settings.quantise, device)
    check_compile(settings.compile, device)


def fit_models(transformers: Sequence[Transformer], autoencoder: Autoencoder, settings: Settings, device: torch.device) -> None:
    """Round, place and compile the parts of a model, in place.

    Args:
        transformers: One, or two experts; on the host, LoRAs merged.
        autoencoder: On the host.
        settings: How.
        device: Where it computes.
    """
    if settings.quantise is not None:
        for transformer in transformers:
            quantise(transformer.blocks, settings.quantise)
    _place(transformers, autoencoder, settings, device)
    compile_transformers(transformers, settings.compile)


def _place(transformers: Sequence[Transformer], autoencoder: Autoencoder, settings: Settings, device: torch.device) -> None:
    if settings.offload == "none":
        for module in (*transformers, autoencoder):
            module.to(device)
        return
    parts = [Part(module=autoencoder, entries=_AUTOENCODER)]
    for transformer in transformers:
        if settings.offload == "block":
            _offload_blocks(transformer, device)
        parts.append(Part(module=transformer, entries=_TRANSFORMER, moves=settings.offload == "model"))
    PartOffload(parts, device)


def _offload_blocks(transformer: Transformer, device: torch.device) -> None:
    largest = max(_bytes(layer) for layer in transformer.blocks.modules() if isinstance(layer, nn.Linear | QuantisedLinear))
    BlockOffload(transformer.blocks, device, AHEAD_LAYERS * largest)
    for name, child in transformer.named_children():
        if name != "blocks":
            child.to(device)
    for name, parameter in transformer.named_parameters(recurse=False):
        setattr(transformer, name, nn.Parameter(parameter.to(device), requires_grad=False))


def _bytes(layer: nn.Linear | QuantisedLinear) -> int:
    return layer.weight.numel() * layer.weight.element_size()


def fit_text_encoder(encoder: TextEncoder, settings: Settings, device: torch.device) -> TextEncoder:
    """Return a text encoder that is placed, and if it is large and ``settings`` round weights, rounded when it is read.

    Args:
        encoder: A module is moved to the device; one on demand is read there, or on the host where even blocks wait there.
        settings: How.
        device: Where its states go.
    """
    if isinstance(encoder, nn.Module):
        return encoder.to(device)
    if not isinstance(encoder, OnDemandTextEncoder):
        return encoder
    folder, place = encoder.folder, torch.device("cpu") if settings.offload == "block" else device
    dtype = settings.torch_dtype or torch.bfloat16

    def load() -> TextEncoder:
        made = load_umt5(folder, device="cpu", dtype=dtype)
        if settings.quantise is not None:
            # transformers looks at the format of one of its weights and knows whole numbers, not 8-bit floats.
            quantise(made.model, "int8")
        made.model.to(place)
        return made

    return OnDemandTextEncoder(folder, load, device)
