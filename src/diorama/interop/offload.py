"""Models larger than their card: weights wait in the host's memory and come when they are used.

`PartOffload` has one part at a time on the device, for the stage that uses it (denoising, decoding). `BlockOffload` keeps the linear
weights of a transformer's blocks on the host and brings each for its own product, the next ones already on their way in a stream of
their own; norms, biases and tables stay on the device. Either changes no number.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diorama.interop.quantise import QuantisedLinear

__all__ = ["BlockOffload", "Part", "PartOffload"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a model that is used in a stage of its own."""

    module: nn.Module
    """Its weights."""
    entries: tuple[str, ...]
    """Methods through which it is used."""
    moves: bool = True
    """Whether its weights come and go; if not, its use only sends the others home."""


class PartOffload:
    """Parts that take turns on a device: a part comes when one of its methods is called, and the one before goes home.

    The host keeps every weight, so that going home copies nothing.

    Args:
        parts: They are on the host.
        device: Where they compute.
    """

    def __init__(self, parts: Sequence[Part], device: torch.device) -> None:
        self.device, self.parts = device, list(parts)
        self._here: int | None = None
        self._host: list[list[tuple[dict[str, Any], str, Tensor]]] = []
        for index, part in enumerate(self.parts):
            self._host.append([entry for module in part.module.modules() for entry in self._entries(module)] if part.moves else [])
            for name in part.entries:
                setattr(part.module, name, functools.partial(self._call, index, getattr(part.module, name)))

    def _entries(self, module: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
        """Yield where a module keeps its tensors, under which name, and the tensor on the host."""
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    if self.device.type == "cuda":
                        tensor.data = tensor.detach().cpu().pin_memory()
                    yield table, name, tensor

    def _call(self, index: int, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self._bring(index)
        return method(*given, **named)

    def _bring(self, index: int) -> None:
        if self._here == index:
            return
        self.home()
        for table, name, host in self._host[index]:
            copy = host.detach().to(self.device, copy=True, non_blocking=True)
            table[name] = nn.Parameter(copy, requires_grad=False) if isinstance(host, nn.Parameter) else copy
        self._here = index

    def home(self) -> None:
        """Send every part home."""
        if self._here is not None:
            for table, name, host in self._host[self._here]:
                table[name] = host
            self._here = None
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


@dataclass(kw_only=True)
class _Layer:
    module: nn.Module
    host: Tensor
    num_bytes: int
    here: Tensor | None = None
    """Copy on the device."""
    ready: Any = None
    """Event after which the copy is complete."""
    follows: int | None = None
    """Layer that was used after this one the last time."""


class BlockOffload:
    """Linear layers whose weights come to the device for each use.

    The order of use is learnt on the way: behind every layer come those that followed it the last time.

    Args:
        module: Its linear layers, quantised or not, are offloaded; everything else in it is moved to ``device``.
        device: Where it computes.
        ahead: Bytes of weights that may be on the device at once; the layer in use is always there.
    """

    def __init__(self, module: nn.Module, device: torch.device, ahead: int) -> None:
        self.device, self.ahead, self.held, self.peak = device, ahead, 0, 0
        self._layers: list[_Layer] = []
        self._last: int | None = None
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._used: deque[tuple[Any, Tensor]] = deque()
        """Copies whose product may not be done, with the event that says so."""
        self._handles: list[Any] = []
        large = [layer for layer in module.modules() if isinstance(layer, nn.Linear | QuantisedLinear)]
        weights = [layer.weight for layer in large]
        for layer in large:
            _put(layer, None)
        module.to(device)
        for layer, weight in zip(large, weights, strict=True):
            if self._stream is not None:
                weight.data = weight.detach().cpu().pin_memory()
            # Between calls a layer has its weight on the host, so that saving and hashing find it.
            _put(layer, weight)
            self._add(layer, weight)

    def _add(self, module: nn.Module, host: Tensor) -> None:
        index = len(self._layers)
        self._layers.append(_Layer(module=module, host=host, num_bytes=_size(host)))
        self._handles += [
            module.register_forward_pre_hook(lambda _module, _inputs: self._enter(index)),
            module.register_forward_hook(lambda _module, _inputs, _output: self._leave(index), always_call=True),
        ]

    def remove(self) -> None:
        """Stop offloading; the weights are on the host."""
        for handle in self._handles:
            handle.remove()
        for layer in self._layers:
            self._drop(layer)
        self._make_room(self.ahead)
        self._layers.clear()

    def _enter(self, index: int) -> None:
        layer = self._layers[index]
        if self._last is not None:
            self._layers[self._last].follows = index
        self._last = index
        if layer.here is None and self.held + layer.num_bytes > self.ahead:
            # What was fetched in another order gives way.
            for other in self._layers:
                self._drop(other)
        here = self._bring(layer)
        if layer.ready is not None:
            torch.cuda.current_stream(self.device).wait_event(layer.ready)
        _put(layer.module, here)
        self._prefetch(index)

    def _leave(self, index: int) -> None:
        layer = self._layers[index]
        _put(layer.module, layer.host)
        self._drop(layer)

    def _prefetch(self, index: int) -> None:
        following, seen = self._layers[index].follows, {index}
        while following is not None and following not in seen:
            seen.add(following)
            layer = self._layers[following]
            if layer.here is None and not self._make_room(layer.num_bytes):
                return
            self._bring(layer)
            following = layer.follows

    def _bring(self, layer: _Layer) -> Tensor:
        if layer.here is None:
            self._make_room(layer.num_bytes)
            with torch.cuda.stream(self._stream) if self._stream is not None else contextlib.nullcontext():
                layer.here = layer.host.detach().to(self.device, copy=True, non_blocking=True)
                if self._stream is not None:
                    layer.ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
                    layer.ready.record(self._stream)
            self.held += layer.num_bytes
            self.peak = max(self.peak, self.held)
        return layer.here

    def _make_room(self, num_bytes: int) -> bool:
        """Wait for products whose weights are no longer wanted until ``num_bytes`` fit, and return whether they do."""
        while self._used and (self.held + num_bytes > self.ahead or self._used[0][0].query()):
            event, copy = self._used.popleft()
            # Memory is given back only behind its product, or copies made ahead of time would fill the device.
            event.synchronize()
            self.held -= _size(copy)
        return self.held + num_bytes <= self.ahead

    def _drop(self, layer: _Layer) -> None:
        copy, layer.here, layer.ready = layer.here, None, None
        if copy is None:
            return
        if self._stream is None:
            self.held -= layer.num_bytes
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        self._used.append((event, copy))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _put(module: nn.Module, weight: Tensor | None) -> None:
    """Set the weight without the checks that would refuse a plain tensor on another device."""
    values: dict[str, Any] = module._parameters if "weight" in module._parameters else module._buffers
    values["weight"] = weight
