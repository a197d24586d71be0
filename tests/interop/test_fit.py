"""Parts fitted to a device: what they compute stays, where they are changes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.interop.fit import fit_models, fit_text_encoder
from diorama.interop.quantise import WeightOnlyLinear
from diorama.interop.settings import Settings
from diorama.text import OnDemandTextEncoder, load_umt5
from diorama.transformer import Transformer, TransformerConfig

CPU, META = torch.device("cpu"), torch.device("meta")


def models() -> tuple[Transformer, Autoencoder]:
    torch.manual_seed(0)
    size: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 24, "in_channels": 4, "out_channels": 4, "text_dim": 16, "ffn_dim": 64}
    config = TransformerConfig(**size, num_layers=2, patch_size=(1, 2, 2), pooled_dim=None, coordinates="index", place=False)
    transformer = Transformer(config).requires_grad_(False).eval()
    for parameter in transformer.parameters():
        parameter.normal_(std=0.1)
    return transformer, Autoencoder(AutoencoderConfig(z_dim=4, widths=(8, 8, 8))).requires_grad_(False).eval()


@torch.inference_mode()
def results(transformer: Transformer, autoencoder: Autoencoder) -> tuple[Tensor, Tensor]:
    text = transformer.encode_text(torch.ones(1, 3, 16))
    velocity = transformer(transformer.pack([torch.ones(4, 2, 4, 4)], [0.5]), text)
    return velocity, torch.cat(list(autoencoder.decode_stream(torch.ones(1, 4, 2, 2, 2))), dim=2)


@pytest.mark.parametrize("offload", ["none", "model", "block"])
def test_placing_changes_no_bit(offload: Any) -> None:
    transformer, autoencoder = models()
    wanted = results(copy.deepcopy(transformer), autoencoder)
    fit_models([transformer], autoencoder, Settings(offload=offload), CPU)
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(results(transformer, autoencoder), wanted, strict=True))


@pytest.mark.parametrize("offload", ["none", "model", "block"])
def test_rounding_goes_with_every_place(offload: Any) -> None:
    transformer, autoencoder = models()
    wanted = results(transformer, autoencoder)
    fit_models([transformer], autoencoder, Settings(offload=offload, quantise="int8"), CPU)
    found = results(transformer, autoencoder)
    assert 0 < (found[0] - wanted[0]).norm() / wanted[0].norm() < 0.02
    assert torch.equal(found[1], wanted[1])
    assert sum(isinstance(module, WeightOnlyLinear) for module in transformer.modules()) == 2 * 10


def bytes_on(device: str, module: nn.Module) -> int:
    return sum(x.numel() * x.element_size() for x in [*module.parameters(), *module.buffers()] if x.device.type == device)


def test_only_the_part_in_use_is_on_the_device() -> None:
    (first, autoencoder), (second, _) = models(), models()
    fit_models([first, second], autoencoder, Settings(offload="model"), META)
    assert bytes_on("meta", first) == bytes_on("meta", second) == bytes_on("meta", autoencoder) == 0
    first.encode_text(torch.ones(1, 3, 16, device="meta"))
    assert bytes_on("cpu", first) == bytes_on("meta", second) == 0
    second.encode_text(torch.ones(1, 3, 16, device="meta"))
    assert bytes_on("cpu", second) == bytes_on("meta", first) == 0
    list(autoencoder.decode_stream(torch.ones(1, 4, 2, 2, 2, device="meta")))
    assert bytes_on("cpu", autoencoder) == bytes_on("meta", second) == 0


def test_blocks_wait_on_the_host_and_the_rest_is_on_the_device() -> None:
    transformer, autoencoder = models()
    fit_models([transformer], autoencoder, Settings(offload="block"), META)
    linear = [module for module in transformer.blocks.modules() if isinstance(module, nn.Linear)]
    assert bytes_on("cpu", transformer) == sum(4 * module.weight.numel() for module in linear)
    assert transformer.encode_text(torch.ones(1, 3, 16, device="meta")).keys[0].is_meta
    assert bytes_on("cpu", transformer) == sum(4 * module.weight.numel() for module in linear)


def test_a_large_text_encoder_is_rounded_when_it_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra 'hub' is not installed")
    pytest.importorskip("ftfy", reason="the extra 'hub' is not installed")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "red", "ball"])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(
        tmp_path / "tokenizer"
    )
    torch.manual_seed(0)
    sizes = {"vocab_size": 5, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    transformers.UMT5EncoderModel(transformers.UMT5Config(**sizes)).save_pretrained(tmp_path / "text_encoder")
    plain = OnDemandTextEncoder(tmp_path, lambda: load_umt5(tmp_path, dtype=torch.float32))
    wanted = plain.encode(["red ball"]).states
    for precision in ("int8", "fp8"):
        settings = Settings(dtype="float32", quantise=precision)  # type: ignore[arg-type]
        found = fit_text_encoder(plain, settings, CPU).encode(["red ball"]).states
        assert 0 < (found - wanted).norm() / wanted.norm() < 0.03
    same = fit_text_encoder(plain, Settings(dtype="float32", offload="block"), CPU)
    torch.testing.assert_close(same.encode(["red ball"]).states, wanted)
    assert isinstance(fit_text_encoder(nn.Linear(2, 2), Settings(), CPU), nn.Linear)  # type: ignore[arg-type]
