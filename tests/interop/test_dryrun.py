"""Dry runs against the same modules with numbers in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.interop.dryrun import _Counter, decoding_bytes, denoising_bytes, encoding_bytes, peak_bytes
from diorama.transformer import Transformer, TransformerConfig

SMALL: dict[str, Any] = {
    "our": {"z_dim": 4, "widths": (8, 16, 16)},
    "wan21": {"base_dim": 8, "z_dim": 4},
    "wan22": {"base_dim": 16, "decoder_base_dim": 16, "z_dim": 4},
}


def autoencoder(name: str) -> AutoencoderConfig:
    return {"our": AutoencoderConfig, "wan21": AutoencoderConfig.wan21, "wan22": AutoencoderConfig.wan22}[name](**SMALL[name])


def test_what_is_alive_at_once_is_counted() -> None:
    def run() -> torch.Tensor:
        first = torch.empty(1000)
        second = first * 2
        del first
        view = second[:500]
        return view.reshape(5, 100).double()

    assert peak_bytes(run) == 8000, "two of 4000 bytes; then one of 4000 and one of 4000, views are free"
    assert peak_bytes(lambda: torch.empty(3, 7, dtype=torch.bfloat16)) == 42
    outside = torch.empty(1000, device="meta")
    assert peak_bytes(lambda: outside[:10]) == 4000, "what a result shows counts whole, wherever it came from"
    assert peak_bytes(lambda: None) == 0


@pytest.mark.parametrize("name", SMALL)
def test_decoding_takes_what_it_does_with_numbers(name: str) -> None:
    config = autoencoder(name)
    model, tails = Autoencoder(config).requires_grad_(False), None
    with torch.inference_mode(), _Counter() as counter:
        for _ in range(3):
            _video, tails = model.decode_chunk(torch.zeros(1, config.z_dim, 1, 4, 6), tails)
    assert decoding_bytes(config, (4, 6), dtype=torch.float32) == pytest.approx(counter.peak, rel=0.1)


@pytest.mark.parametrize("name", SMALL)
def test_encoding_takes_what_it_does_with_numbers(name: str) -> None:
    config = autoencoder(name)
    model = Autoencoder(config).requires_grad_(False)
    with torch.inference_mode(), _Counter() as counter:
        _latent, tails = model.encode_chunk(torch.zeros(1, 3, 1, 64, 96))
        for _ in range(2):
            _latent, tails = model.encode_chunk(torch.zeros(1, 3, 8, 64, 96), tails)
    assert encoding_bytes(config, (64, 96), dtype=torch.float32, num_frames=8) == pytest.approx(counter.peak, rel=0.1)


def transformer(**changes: Any) -> TransformerConfig:
    size = {"patch_size": (1, 2, 2), "num_attention_heads": 4, "attention_head_dim": 32, "in_channels": 4, "out_channels": 4, "text_dim": 16}
    return TransformerConfig(**{**size, "ffn_dim": 512, "num_layers": 3, "pooled_dim": None, "coordinates": "index", "place": False, **changes})


def test_denoising_takes_what_a_whole_transformer_does_with_numbers() -> None:
    config, grid = transformer(), (4, 8, 8)
    model = Transformer(config).requires_grad_(False)
    with torch.inference_mode(), _Counter() as counter:
        text = model.encode_text(torch.zeros(2, 9, 16))
        latents = [torch.zeros(4, 4, 16, 16) for _ in range(2)]
        model(model.pack(latents, [0.5, 0.5]), text)
    assert denoising_bytes(config, grid, 2, dtype=torch.float32, device="cpu", num_text=9) == pytest.approx(counter.peak, rel=0.15)
    with torch.inference_mode(), _Counter() as counter:
        text = model.encode_text(torch.zeros(2, 9, 16))
        both = [model(model.pack([latents[i]], [0.5]), text.select([i])) for i in range(2)]
    del both
    taken = denoising_bytes(config, grid, 2, dtype=torch.float32, device="cpu", num_text=9, together=1)
    assert taken == pytest.approx(counter.peak, rel=0.15)


def test_more_of_anything_takes_more() -> None:
    config = transformer()

    def need(config: TransformerConfig = config, grid: tuple[int, int, int] = (4, 8, 8), clips: int = 2, **how: Any) -> int:
        return denoising_bytes(config, grid, clips, **{"dtype": torch.bfloat16, "device": "cuda", "num_text": 16, **how})

    assert need(grid=(8, 8, 8)) == pytest.approx(2 * need(), rel=0.05)
    assert need(clips=1) == pytest.approx(need() / 2, rel=0.05)
    assert need(dtype=torch.float32) > 1.4 * need()
    assert need(transformer(ffn_dim=2048)) > need()
    assert need(transformer(num_layers=30)) > need()
    assert need(device="cpu") < need() + 3 * 2**24 + 1, "a CPU shares the modulation of a clip and writes scores out"
