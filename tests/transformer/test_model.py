"""The transformer: packed as separate, time per token, text, folders, and parity with diffusers' Wan."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections import Counter

import pytest
import torch
from torch import Tensor

from diorama.checkpoint import load_tensors
from diorama.errors import CheckpointError, InputError
from diorama.patches import pack, unpack
from diorama.transformer import Residuals, TextCache, Transformer, TransformerConfig

TINY = TransformerConfig(
    num_attention_heads=2, attention_head_dim=12, in_channels=3, out_channels=3, text_dim=10, freq_dim=16, ffn_dim=40, num_layers=2, pooled_dim=6
)
WAN = dataclasses.replace(TINY, patch_size=(1, 2, 2), pooled_dim=None, coordinates="index", place=False)


def model(config: TransformerConfig = TINY) -> Transformer:
    """A model whose every parameter is random, so that nothing hides behind a zero."""
    made = Transformer(config)
    g = torch.Generator().manual_seed(7)
    for name, parameter in made.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter.data, std=0.2, generator=g)
        else:
            torch.nn.init.uniform_(parameter.data, 0.5, 1.5, generator=g)
    return made


def texts(num: int, config: TransformerConfig = TINY) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    mask = torch.arange(5) < torch.tensor([5, 3, 4, 1])[:num, None]
    return torch.randn(num, 5, config.text_dim, generator=g), mask, torch.randn(num, 6, generator=g)


def clips() -> tuple[list[Tensor], list[Tensor]]:
    g = torch.Generator().manual_seed(5)
    shapes = [(3, 2, 3), (3, 2, 3), (1, 4, 2), (2, 3, 2)]
    return [torch.randn(3, *shape, generator=g) for shape in shapes], [torch.rand(shape[0], generator=g) for shape in shapes]


def test_packed_equals_separate_with_gradients():
    latents, times = clips()
    states, mask, pooled = texts(4)
    together, apart = model(), model()
    packed = together.pack(latents, times)
    out = unpack(together(packed, together.encode_text(states, mask, pooled)), packed.grids)
    sum(x.square().sum() for x in out).backward()
    for i, (latent, time) in enumerate(zip(latents, times, strict=True)):
        one = apart.pack([latent], [time])
        (alone,) = unpack(apart(one, apart.encode_text(states[i : i + 1], mask[i : i + 1], pooled[i : i + 1])), one.grids)
        torch.testing.assert_close(out[i], alone, atol=2e-5, rtol=1e-4)
        alone.square().sum().backward()
    for (name, a), b in zip(together.named_parameters(), apart.parameters(), strict=True):
        assert a.grad is not None, name
        assert a.grad.abs().max() > 0, name
        torch.testing.assert_close(a.grad, b.grad, atol=1e-3, rtol=1e-3, msg=name)


def test_where_a_token_is_and_where_a_clip_begins_matter_if_they_are_told():
    states, mask, pooled = texts(1)
    flat = [torch.ones(3, 2, 4, 4)]
    for told in (True, False):
        net = model(dataclasses.replace(TINY, place=told))
        text = net.encode_text(states, mask, pooled)
        whole, window = (net(net.pack(flat, [0.5], begins=begins), text) for begins in (True, False))
        assert torch.equal(whole, window) != told
        # Tokens in mirrored places see the same distances, so without places only the order tells them apart.
        rows = whole.reshape(2, 4, 4, 3)[1]
        assert (rows[0] - rows[3]).abs().max() > 1e-3 or not told


def test_time_of_one_frame_matters_and_stays_in_its_clip():
    latents, times = clips()
    net = model()
    text = net.encode_text(*texts(4))
    with torch.no_grad():
        before = net(net.pack(latents, times), text)
        changed = [t.clone() for t in times]
        changed[0][1] = 0.9
        after = net(net.pack(latents, changed), text)
    frames = (before - after)[:18].reshape(3, 6, -1).abs().amax(dim=(1, 2))
    assert (frames > 1e-4).all()
    assert torch.equal(before[18:], after[18:])


def test_time_by_token_equals_time_by_frame():
    latents, times = clips()
    net = model()
    text = net.encode_text(*texts(4))
    by_token = [t[:, None, None].expand(x.shape[1:]) for t, x in zip(times, latents, strict=True)]
    with torch.no_grad():
        assert torch.equal(net(net.pack(latents, times), text), net(net.pack(latents, by_token), text))


def test_hidden_text_and_order_of_texts():
    latents, times = clips()
    net = model()
    states, mask, pooled = texts(4)
    noisy = torch.where(mask[..., None], states, states + 5)
    packed = net.pack(latents, times)
    with torch.no_grad():
        cache = net.encode_text(states, mask, pooled)
        out = net(packed, cache)
        torch.testing.assert_close(out, net(packed, net.encode_text(noisy, mask, pooled)))
        swapped = net.encode_text(states.flip(0), mask.flip(0), pooled.flip(0))
        assert not torch.allclose(out, net(packed, swapped), atol=1e-3)
        assert torch.equal(out, net(packed, swapped.select([3, 2, 1, 0])))
        other = dataclasses.replace(cache, pooled=cache.pooled + 1)
        assert not torch.allclose(out, net(packed, other), atol=1e-3)


def test_starts_at_zero_velocity_with_a_gradient_for_the_output():
    net = Transformer(TINY)
    latents, times = clips()
    out = net(net.pack(latents, times), net.encode_text(*texts(4)))
    assert not out.any()
    (out - 1).square().mean().backward()
    assert net.proj_out.weight.grad.abs().max() > 0


def test_autocast_stays_close():
    net = model()
    latents, times = clips()
    with torch.no_grad():
        exact = net(net.pack(latents, times), net.encode_text(*texts(4)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = net(net.pack(latents, times), net.encode_text(*texts(4)))
    assert rounded.dtype == torch.float32
    assert (rounded - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()


def test_default_model_has_nine_million_parameters():
    with torch.device("meta"):
        count = sum(p.numel() for p in Transformer(TransformerConfig()).parameters())
    assert count == 9_152_800


def test_flops_follow_the_formula():
    net = Transformer(TINY)
    d, total = 24, 8
    linear = total * (2 * (6 * d * d + 2 * d * 40) + (3 + 3) * d)
    scores = 2 * 2 * d * (3 * (3 + 5) + 5 * (5 + 5))
    assert net.num_flops((3, 5), 5) == 2 * (linear + scores)


@pytest.mark.parametrize("config", [TINY, WAN], ids=["ours", "wan"])
def test_folder_round_trip(config, tmp_path):
    net = model(config)
    net.save(tmp_path / "transformer")
    values = json.loads((tmp_path / "transformer" / "config.json").read_text())
    assert values["_class_name"] == ("WanTransformer3DModel" if config is WAN else "Transformer")
    assert (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors").is_file()
    back = Transformer.load(tmp_path / "transformer")
    assert back.config == config
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), back.state_dict().values(), strict=True))


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        Transformer.load(tmp_path)
    net = Transformer(TINY)
    states, mask, pooled = texts(2)
    with pytest.raises(InputError, match="text states are 4 wide"):
        net.encode_text(states[..., :4], mask, pooled)
    with pytest.raises(InputError, match="none is given"):
        net.encode_text(states, mask)
    text = net.encode_text(states, mask, pooled)
    with pytest.raises(InputError, match="one text a clip"):
        net(net.pack([torch.zeros(3, 1, 2, 2)], [0.0]), text)


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="diffusers is not installed (extra dev)")
@pytest.mark.filterwarnings("ignore")
def test_equals_diffusers_wan(tmp_path):
    from diffusers import WanTransformer3DModel

    net = model(WAN)
    net.save(tmp_path / "transformer")
    # Not from_pretrained: for Wan it needs accelerate, which nothing else here does.
    theirs = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(tmp_path / "transformer"))
    theirs.load_state_dict(load_tensors(tmp_path / "transformer", stem="diffusion_pytorch_model"))
    g = torch.Generator().manual_seed(1)
    latent, states = torch.randn(2, 3, 3, 4, 6, generator=g), torch.randn(2, 5, 10, generator=g)
    times = torch.rand(2, 3, generator=g)
    by_token = times.repeat_interleave(6, dim=1) * 1000
    with torch.no_grad():
        expected = theirs(latent, by_token, states).sample
        packed = pack(list(latent), list(times), patch_size=(1, 2, 2), coordinates="index")
        text: TextCache = net.encode_text(states)
        got = torch.stack(unpack(net(packed, text), packed.grids, (1, 2, 2)))
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
        shared = theirs(latent, times[:, 0] * 1000, states).sample
        packed = pack(list(latent), list(times[:, 0]), patch_size=(1, 2, 2), coordinates="index")
        torch.testing.assert_close(torch.stack(unpack(net(packed, text), packed.grids, (1, 2, 2))), shared, atol=1e-4, rtol=1e-4)


def test_one_token_stands_for_the_padding():
    net = model(WAN)
    states, mask, _ = texts(2)
    states = states * mask[..., None]
    wide = torch.nn.functional.pad(states, (0, 0, 0, 3))
    clips = net.pack([torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))] * 2, [0.3, 0.8])
    with torch.no_grad():
        plain = net(clips, net.encode_text(wide))
        torch.testing.assert_close(net(clips, net.encode_text(states, mask, padded_to=8)), plain, atol=1e-5, rtol=1e-4)
        full = net(clips, net.encode_text(wide, padded_to=8))
        torch.testing.assert_close(full, plain, atol=1e-5, rtol=1e-4)
        with pytest.raises(InputError, match="8 tokens cannot be filled up to 4"):
            net.encode_text(wide, padded_to=4)


def test_pictures_belong_to_models_that_look_at_them():
    net = model(dataclasses.replace(WAN, image_dim=6, added_kv_proj_dim=24))
    states, _, _ = texts(2)
    pictures = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(4))
    clips = net.pack([torch.zeros(3, 1, 2, 4)] * 2, [0.3, 0.8])
    with torch.no_grad():
        text = net.encode_text(states, images=pictures)
        both = net(clips, text)
        one = net.pack([torch.zeros(3, 1, 2, 4)], [0.8])
        torch.testing.assert_close(net(one, text.select([1])), both[2:], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(net(clips, net.encode_text(states, images=pictures.flip(0))), both)
    for wrong in (None, pictures[:1], pictures[..., :5]):
        with pytest.raises(InputError, match="takes image states"):
            net.encode_text(states, images=wrong)
    with pytest.raises(InputError, match="takes no image states"):
        model(WAN).encode_text(states, images=pictures)


def test_a_model_in_half_precision_keeps_time_fine(tmp_path):
    net = model(WAN)
    net.save(tmp_path / "t")
    half = Transformer.load(tmp_path / "t", torch.bfloat16)
    assert {value.dtype for name, value in half.state_dict().items() if "time_embedder" in name or "table" in name} == {torch.float32}
    assert half.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16
    mapped = Transformer.load(tmp_path / "t", None, mapped=True)
    assert all(torch.equal(value, mapped.state_dict()[name]) for name, value in net.state_dict().items())
    with torch.no_grad():
        mapped.scale_shift_table.fill_(9.0)  # a private copy: the file stays as it is
    assert torch.equal(Transformer.load(tmp_path / "t").scale_shift_table, net.scale_shift_table)


def test_rotations_are_kept_between_steps_and_not_between_shapes():
    net, (states, _, _) = model(WAN), texts(1)
    with torch.inference_mode():
        text = net.encode_text(states)
        packs = [net.pack([torch.randn(3, n, 4, 4, generator=torch.Generator().manual_seed(n))], [0.5]) for n in (1, 2, 1)]
        apart = [model(WAN)(one, text) for one in packs]
        assert all(torch.equal(net(one, text), other) for one, other in zip(packs, apart, strict=True))
    got = net(packs[0].replace(packs[0].tokens.clone(), packs[0].times.clone()), net.encode_text(states))
    got.sum().backward()  # what was kept while sampling is not used for training
    assert net.proj_out.weight.grad is not None


def test_compiled_blocks_are_the_same():
    net, (states, _, _) = model(WAN), texts(1)
    with torch.no_grad():
        text = net.encode_text(states)
        clips = net.pack([torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))], [0.5])
        plain = net(clips, text)
        net.compile_blocks(backend="eager")
        torch.testing.assert_close(net(clips, text), plain, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("config", [TINY, WAN], ids=["ours", "wan"])
def test_blocks_are_left_out_while_the_first_changes_little(config: TransformerConfig):
    net, (states, mask, pooled) = model(config), texts(2)
    with torch.no_grad():
        text = net.encode_text(states, mask, pooled)
        packed = net.pack([torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(2)], [0.5, 0.5])
        plain = net(packed, text)
        for threshold, skipped in ((0.0, 0), (0.5, 2)):
            residuals = Residuals(threshold)
            reuse = residuals.of(0, 0)
            assert torch.equal(net(packed, text, reuse), plain)
            torch.testing.assert_close(net(packed, text, reuse), plain)
            nearly = net(packed.replace(packed.tokens * 1.01, packed.times * 0.99), text, reuse)
            assert (nearly - plain).abs().max() > 0
            assert residuals.counts == Counter(computed=3 - skipped, skipped=skipped)
