"""Plans: what they count, how they order settings, what they refuse and what they offer instead."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.model import Autoencoder
from diorama.errors import CheckpointError, InputError, TooLargeError
from diorama.interop.catalogue import T5Sizes
from diorama.interop.plan import USABLE, Blueprint, Work, check_fits, coded_region, fitting, footprint, grid_of, read_blueprint
from diorama.interop.settings import Settings
from diorama.pipeline.load import model_folder
from diorama.transformer import Transformer, TransformerConfig
from diorama.transformer.model import BATCHED_TOKENS

MIB = 2**20
WAN = TransformerConfig(
    patch_size=(1, 2, 2),
    num_attention_heads=16,
    attention_head_dim=32,
    in_channels=4,
    out_channels=4,
    text_dim=64,
    ffn_dim=1024,
    num_layers=48,
    pooled_dim=None,
    coordinates="index",
    place=False,
)
TEXT = T5Sizes(vocab_size=900, d_model=512, d_kv=64, d_ff=2048, num_layers=4, num_heads=8)
MODEL = Blueprint(name="m", transformer=WAN, autoencoder=AutoencoderConfig.wan21(base_dim=4, z_dim=4), disk={"transformer": 7}, text=TEXT)
WORK = Work(width=256, height=192, num_frames=17)


def test_a_cpu_that_is_slow_at_bf16_is_planned_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def host(fast: torch.dtype, settings: Settings) -> int:
        monkeypatch.setattr("diorama.interop.plan.fast_dtype", lambda device: fast)
        return footprint(MODEL, WORK, settings, device="cpu").host

    assert host(torch.float32, Settings()) == host(torch.bfloat16, Settings(dtype="float32")) > host(torch.bfloat16, Settings())
    assert host(torch.float32, Settings(dtype="bf16")) == host(torch.bfloat16, Settings(dtype="bf16"))


def test_the_packaged_model_is_read_from_its_files() -> None:
    folder = model_folder(None)
    found = read_blueprint(folder)
    assert found.small
    assert found.num_transformer == sum(p.numel() for p in Transformer.load(folder / "transformer").parameters())
    assert found.num_autoencoder == sum(p.numel() for p in Autoencoder.load(folder / "vae").parameters())
    assert sum(found.disk.values()) <= sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert footprint(found, replace(WORK, window=9), Settings(), device="cpu").host < 2**30


def test_a_saved_folder_is_counted_as_it_is(tmp_path: Path) -> None:
    Transformer(replace(WAN, num_layers=2)).save(tmp_path / "transformer")
    Autoencoder(MODEL.autoencoder).save(tmp_path / "vae")
    with pytest.raises(CheckpointError, match="lacks text_encoder, so no plan can be made"):
        read_blueprint(tmp_path)
    (tmp_path / "text_encoder").mkdir()
    config = tmp_path / "text_encoder" / "config.json"
    config.write_text(
        '{"vocab_size": 900, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 4, "num_heads": 8, "feed_forward_proj": "gated-gelu"}'
    )
    found = read_blueprint(tmp_path)
    assert found.text == TEXT
    assert found.disk["transformer"] == pytest.approx(4 * found.num_transformer, rel=0.01)
    config.write_text('{"hidden_size": 3}')
    with pytest.raises(CheckpointError, match="no T5 or UMT5 encoder"):
        read_blueprint(tmp_path)


def test_every_setting_takes_less_than_the_one_before() -> None:
    plain, rounded = footprint(MODEL, WORK, Settings()), footprint(MODEL, WORK, Settings(quantise="int8"))
    linear = MODEL.num_blocks
    assert plain.stages["decode"] == rounded.stages["decode"]
    assert plain.card > rounded.card
    assert plain.stages["text"] == 2 * TEXT.num_parameters
    assert rounded.stages["text"] == 2 * TEXT.num_parameters - TEXT.num_linear
    parts, blocks = (footprint(MODEL, WORK, Settings(offload=offload)) for offload in ("model", "block"))
    assert plain.card > parts.card > blocks.card
    assert blocks.host >= plain.host, "what is not on the card waits on the host"
    assert parts.card >= 2 * linear + parts.stages["denoise"]
    assert footprint(MODEL, WORK, Settings(offload="block", tile=64)).stages["decode"] <= blocks.stages["decode"]
    exact = footprint(MODEL, WORK, Settings(dtype="float32"))
    assert exact.card > 1.5 * plain.card
    assert footprint(replace(MODEL, experts=2), WORK, Settings()).card - plain.card >= 2 * MODEL.num_blocks
    assert footprint(MODEL, WORK, Settings(), device="cpu").card == 0
    assert plain.disk == 7


def test_more_frames_take_more_and_a_window_bounds_them() -> None:
    one, two = (footprint(MODEL, replace(WORK, num_frames=frames), Settings()) for frames in (17, 33))
    assert two.stages["denoise"] > 1.3 * one.stages["denoise"]
    assert two.stages["decode"] == one.stages["decode"], "decoding streams"
    bounded = footprint(MODEL, replace(WORK, num_frames=33, window=5), Settings())
    assert bounded.stages["denoise"] == one.stages["denoise"]
    assert footprint(MODEL, replace(WORK, guided=False), Settings()).stages["denoise"] < one.stages["denoise"]


def test_large_clips_are_evaluated_one_by_one() -> None:
    guided, alone = (replace(WORK, width=1024, height=1024, num_frames=frames, guided=True) for frames in (13, 17))
    small, large = math.prod(grid_of(MODEL, guided)), math.prod(grid_of(MODEL, alone))
    assert small <= BATCHED_TOKENS < large
    two, one = (footprint(MODEL, work, Settings()).stages["denoise"] for work in (guided, alone))
    assert 1.1 * two * large / small / 2 > one > two * large / small / 2
    unguided = footprint(MODEL, replace(alone, guided=False), Settings()).stages["denoise"]
    assert unguided < one < 1.2 * unguided, "the second text and velocity remain"


def test_what_products_in_fp8_round_takes_memory() -> None:
    weights, products = (footprint(MODEL, WORK, Settings(quantise=precision)).stages["denoise"] for precision in ("fp8", "fp8-products"))
    assert products - weights == 3 * 2 * math.prod(grid_of(MODEL, WORK)) * WAN.ffn_dim


def test_what_is_kept_for_the_next_step_takes_memory_for_each_expert() -> None:
    plain, kept = (footprint(MODEL, replace(WORK, cached=cached), Settings()).stages["denoise"] for cached in (False, True))
    tokens = math.prod(grid_of(MODEL, WORK))
    assert kept - plain == 2 * 2 * tokens * MODEL.transformer.hidden_size * 2  # two tensors of two clips in bf16
    two = [footprint(replace(MODEL, experts=2), replace(WORK, cached=cached), Settings()).stages["denoise"] for cached in (False, True)]
    assert two[1] - two[0] == 2 * (kept - plain)


def test_pictures_are_encoded_where_the_transformer_takes_them() -> None:
    given = replace(MODEL, transformer=replace(WAN, in_channels=9), image_encoder=1000)
    taken = footprint(given, WORK, Settings())
    assert taken.stages["encode"] > 0
    assert taken.stages["text"] == 2 * TEXT.num_parameters + 2000


def test_tiles_are_on_the_grid_and_have_their_surroundings() -> None:
    config = MODEL.autoencoder
    assert coded_region((24, 32), config, None) == (24, 32)
    assert coded_region((100, 20), config, 64) == (8 + 2 * config.decoder_halo, 20)
    with pytest.raises(InputError, match="a tile of 100 pixels is off the grid: give a multiple of 8"):
        coded_region((24, 32), config, 100)
    with pytest.raises(InputError, match="off the grid"):
        footprint(MODEL, replace(WORK, width=250), Settings())


def parsed(flags: str) -> Settings:
    words = shlex.split(flags)
    values: dict[str, Any] = dict(zip([word.removeprefix("--") for word in words[::2]], words[1::2], strict=True))
    return Settings(**{name: int(value) if name == "tile" else value for name, value in values.items()})


def test_what_cannot_fit_is_refused_with_settings_that_do() -> None:
    plain = footprint(MODEL, WORK, Settings())
    enough = int(plain.card / USABLE) + 1
    assert check_fits(MODEL, WORK, Settings(), card=enough, host=None) == plain
    least = min(footprint(MODEL, WORK, choice).card for choice, _ in fitting(MODEL, WORK, Settings(), card=2**40, host=None))
    for card in range(int(least / USABLE) + 1, enough - 1, (enough - least) // 5):
        with pytest.raises(TooLargeError, match=r"17 frames of 256x192 with m take about .* on the card; add --") as caught:
            check_fits(MODEL, WORK, Settings(), card=card, host=None)
        flags = re.search(r"add (--.*)$", str(caught.value))
        assert flags is not None
        assert footprint(MODEL, WORK, parsed(flags[1])).card <= USABLE * card


def test_where_no_settings_fit_less_is_offered() -> None:
    least = footprint(MODEL, replace(WORK, num_frames=1), Settings(quantise="int8", offload="block", tile=256)).card
    asked = replace(WORK, num_frames=65)
    with pytest.raises(TooLargeError, match=r"ask for at most \d+ frames") as caught:
        check_fits(MODEL, asked, Settings(), card=int(least * 1.25), host=None)
    offered = re.search(r"at most (\d+) frames(?: and add (.*))?$", str(caught.value))
    assert offered is not None
    taken = footprint(MODEL, replace(asked, num_frames=int(offered[1])), parsed(offered[2] or ""))
    assert taken.card <= USABLE * int(least * 1.25)
    with pytest.raises(TooLargeError, match="smaller model"):
        check_fits(MODEL, asked, Settings(), card=4 * MIB, host=None)
    with pytest.raises(TooLargeError, match=r"GiB of 0\.1 on the host"):
        check_fits(MODEL, asked, Settings(), card=None, host=100 * MIB)


def test_what_was_typed_stays() -> None:
    for choice, _ in fitting(MODEL, WORK, Settings(quantise="fp8", tile=64), card=2**40, host=None):
        assert (choice.quantise, choice.tile) == ("fp8", 64)
    assert {choice.offload for choice, _ in fitting(MODEL, WORK, Settings(compile="blocks"), card=2**40, host=None)} == {"none", "model"}
    assert {choice.offload for choice, _ in fitting(MODEL, WORK, Settings(compile="graphs"), card=2**40, host=None)} == {"none"}
    first, *_ = fitting(MODEL, WORK, Settings(), card=2**40, host=2**40)
    assert first[0] == Settings(), "the fastest comes first"
    assert torch.float32 not in {choice.torch_dtype for choice, _ in fitting(MODEL, WORK, Settings(), card=2**40, host=None)}
