"""The UMT5 adapter, on tiny random models, against transformers and diffusers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from diorama.errors import CheckpointError, InputError, MissingExtraError
from diorama.text.states import TextEncoder, TextStates
from diorama.text.umt5 import OnDemandTextEncoder, Umt5TextEncoder, clean_prompt, load_umt5

transformers = pytest.importorskip("transformers", reason="the extra 'hub' is not installed")
pytest.importorskip("ftfy", reason="the extra 'hub' is not installed")

PROMPTS = ["red  ball", "a blue &amp;amp; cube ball", "", "red blue ball cube red blue ball cube red ball", "caf\u00c3\u00a9 cube"]
UMT5: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}


def make_encoder(max_tokens: int = 8, *, kind: str = "UMT5", **changes: Any) -> Umt5TextEncoder:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "red", "blue", "ball", "cube", "&"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(vocab_size=8, **UMT5 | changes)
    return Umt5TextEncoder(getattr(transformers, f"{kind}EncoderModel")(config), fast, max_tokens)


def filled(texts: TextStates) -> torch.Tensor:
    """Return states with the padding that Wan's transformer sees."""
    assert texts.padded_to == 8
    assert not texts.states[~texts.mask].any()
    return torch.nn.functional.pad(texts.states, (0, 0, 0, 8 - texts.states.shape[1]))


@pytest.mark.parametrize(
    ("kind", "changes"), [("UMT5", {}), ("UMT5", {"feed_forward_proj": "gated-gelu", "num_layers": 3, "d_kv": 4}), ("T5", {"num_heads": 1})]
)
def test_states_are_those_of_diffusers_wan_pipeline(kind: str, changes: dict[str, Any]) -> None:
    pipeline_wan = pytest.importorskip("diffusers.pipelines.wan.pipeline_wan", reason="diffusers is not installed")
    encoder = make_encoder(kind=kind, **changes)
    peer = pipeline_wan.WanPipeline(tokenizer=encoder.tokenizer, text_encoder=encoder.model, vae=None, scheduler=None)
    with torch.no_grad():
        wanted, negative = peer.encode_prompt(PROMPTS, ["red"] * len(PROMPTS), max_sequence_length=8, device=torch.device("cpu"))
    found = encoder.encode(PROMPTS)
    torch.testing.assert_close(filled(found), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(filled(encoder.encode(["red"])), negative[:1], atol=1e-4, rtol=1e-4)


def test_prompts_are_cleaned_as_diffusers_does() -> None:
    pipeline_wan = pytest.importorskip("diffusers.pipelines.wan.pipeline_wan", reason="diffusers is not installed")
    for prompt in [
        *PROMPTS,
        " \u2003a\n\tball\u00a0\u00a0rolls \x1f end ",
        "&lt;ball&gt; &quot;red&quot;",
        "\u201cquoted\u201d \u00e2\u20ac\u201c dash",
    ]:
        assert clean_prompt(prompt) == pipeline_wan.prompt_clean(prompt)
    assert clean_prompt("caf\u00c3\u00a9 &amp;amp;  cube") == "caf\u00e9 & cube"


def test_it_gives_the_same_kind_of_states() -> None:
    encoder: TextEncoder = make_encoder()
    found = encoder.encode(["red ball", "a blue cube ball", ""])
    assert found.states.shape == (3, 5, encoder.width) == (3, 5, 16)
    assert found.mask.sum(1).tolist() == [3, 5, 1]
    assert not found.states[0, 3:].any()
    assert found.unknown == (0, 1, 0)
    alone = encoder.encode(["red ball"])
    torch.testing.assert_close(alone.states, found.states[:1, :3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone.pooled[0], alone.states[0].mean(0))


def test_long_prompts_say_what_was_left_out() -> None:
    found = make_encoder(4).encode(["red blue ball cube red", "red"])
    assert found.truncated == (2, 0)
    assert found.mask.sum(1).tolist() == [4, 2]


def test_no_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="0 prompts"):
        make_encoder().encode([])


def saved(folder: Path) -> Umt5TextEncoder:
    encoder = make_encoder()
    encoder.model.save_pretrained(folder / "text_encoder")
    encoder.tokenizer.save_pretrained(folder / "tokenizer")
    return encoder


def test_a_folder_is_read_back(tmp_path: Path) -> None:
    encoder = saved(tmp_path)
    again = load_umt5(tmp_path, dtype=torch.float32, max_tokens=8)
    torch.testing.assert_close(again.encode(["red cube"]).states, encoder.encode(["red cube"]).states)
    assert again.state_dict().keys() == encoder.state_dict().keys()


def test_an_encoder_on_demand_is_read_once_for_the_same_prompts_and_released(tmp_path: Path) -> None:
    import gc
    import weakref

    encoder = saved(tmp_path)
    alive: list[weakref.ref[Any]] = []

    def load() -> TextEncoder:
        made = load_umt5(tmp_path, dtype=torch.float32, max_tokens=8)
        alive.append(weakref.ref(made.model))
        return made

    lazy = OnDemandTextEncoder(tmp_path, load)
    assert lazy.width == 16
    assert not alive, "the width comes from the config"
    wanted = encoder.encode(["red", ""])
    for _ in range(2):
        torch.testing.assert_close(lazy.encode(["red", ""]).states, wanted.states)
    assert len(alive) == 1
    gc.collect()
    assert alive[0]() is None, "the encoder stayed in memory"
    lazy.encode(["blue"])
    assert len(alive) == 2


def test_an_encoder_on_demand_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        _ = OnDemandTextEncoder(tmp_path, make_encoder).width


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_umt5(tmp_path)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    encoder = saved(tmp_path)
    place = tmp_path / "text_encoder"
    whole = {name: value.clone() for name, value in encoder.model.state_dict().items() if name != "encoder.embed_tokens.weight"}
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    encoder.model.save_pretrained(place, state_dict={key: value for key, value in whole.items() if key != name})
    with pytest.raises(CheckpointError, match=r"lacks tensor 'encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight' of shape \(16, 16\)"):
        load_umt5(tmp_path, dtype=torch.float32)
    encoder.model.save_pretrained(place, state_dict={**whole, name: torch.zeros(8, 16)})
    with pytest.raises(CheckpointError, match=r"shape \(8, 16\), expected \(16, 16\)"):
        load_umt5(tmp_path, dtype=torch.float32)
    encoder.model.save_pretrained(place)
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_umt5(tmp_path, dtype=torch.float32)


def test_a_foreign_encoder_is_named(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "bert"}))
    with pytest.raises(CheckpointError, match="holds a bert model; allowed: umt5, t5"):
        load_umt5(tmp_path)


@pytest.mark.parametrize("package", ["transformers", "ftfy"])
def test_without_its_packages_the_extra_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder()
    monkeypatch.setitem(__import__("sys").modules, package, None)
    use = {"transformers": lambda: load_umt5(tmp_path), "ftfy": lambda: encoder.encode(["red"])}[package]
    with pytest.raises(MissingExtraError, match=rf"{package}.*diorama\[hub\]"):
        use()
