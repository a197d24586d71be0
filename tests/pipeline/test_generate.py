"""The loop on a tiny model: kept parts, cues, progress, memory."""

from __future__ import annotations

import pytest
import torch

from diorama import runtime
from diorama.errors import InputError, TooLargeError
from diorama.pipeline.generate import decode, denoise, generate, memory_needed, prepare
from diorama.pipeline.items import Guide, Keep, Region, StartFrom
from diorama.pipeline.load import Models
from diorama.pipeline.request import Request

REQUEST = Request(prompt="red ball", width=48, height=32, num_frames=9, steps=3)


def known(models: Models) -> torch.Tensor:
    return torch.randn(models.autoencoder.config.latent_channels, 3, 2, 3, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("solver", ["euler", "heun", "multistep"])
def test_kept_parts_come_out_bit_equal(models: Models, solver: str) -> None:
    given = known(models)
    request = Request(prompt="red ball", width=48, height=32, num_frames=9, steps=2, solver=solver)  # type: ignore[arg-type]
    first = denoise(models, request, prepare(models, request, [Guide(prompt="red ball"), Keep(latent=given[:, :1])]))[0]
    assert torch.equal(first[:, :1], given[:, :1])
    assert not torch.equal(first[:, 1:], given[:, 1:])
    mask = torch.zeros(2, 3)
    mask[0, 0] = 1
    region = [StartFrom(latent=given, strength=0.7), Region(mask=mask), Guide(prompt="red ball")]
    inside = denoise(models, request, prepare(models, request, region))[0]
    assert torch.equal(inside[..., 1:], given[..., 1:])
    assert torch.equal(inside[:, :, 1], given[:, :, 1])
    assert (inside[:, :, 0, 0] != given[:, :, 0, 0]).all()


def test_strength_zero_is_the_input_and_one_is_the_prompt_alone(models: Models) -> None:
    given, guide = known(models), Guide(prompt="red ball")
    none = denoise(models, REQUEST, prepare(models, REQUEST, [StartFrom(latent=given, strength=0.0), guide]))[0]
    assert torch.equal(none, given)
    whole = denoise(models, REQUEST, prepare(models, REQUEST, [StartFrom(latent=given, strength=1.0), guide]))[0]
    assert torch.equal(whole, denoise(models, REQUEST, prepare(models, REQUEST, [guide]))[0])


def test_a_cue_of_no_weight_says_nothing(models: Models) -> None:
    both = [Guide(prompt="red ball"), Guide(prompt="blue cube", weight=torch.zeros(3))]
    alone = denoise(models, REQUEST, prepare(models, REQUEST, both[:1]))[0]
    torch.testing.assert_close(denoise(models, REQUEST, prepare(models, REQUEST, both))[0], alone, atol=0.02, rtol=0.02)
    other = denoise(models, REQUEST, prepare(models, REQUEST, [both[0], Guide(prompt="blue cube")]))[0]
    assert not torch.allclose(other, alone, atol=0.02)


def test_guidance_one_ignores_the_negative_prompt(models: Models) -> None:
    def latent(scale: float, negative: str) -> torch.Tensor:
        request = Request(prompt="red ball", negative_prompt=negative, width=32, height=32, num_frames=5, steps=2, guidance_scale=scale)
        return denoise(models, request, prepare(models, request, [Guide(prompt="red ball")]))[0]

    assert torch.equal(latent(1.0, "ball"), latent(1.0, "cube"))
    assert not torch.equal(latent(4.0, "ball"), latent(4.0, "cube"))


def test_streamed_decode_is_the_whole(models: Models) -> None:
    given = known(models)
    with torch.inference_mode(), runtime.autocast(models.device):
        whole = models.autoencoder.decode(given[None])
    frames = decode(models, given, 12.0)
    assert frames.shape == (9, 32, 48, 3)
    assert abs(frames.astype(int) - whole[0].add(1).mul(127.5).permute(1, 2, 3, 0).numpy()).max() <= 2


def test_progress_names_both_stages(models: Models) -> None:
    calls: list[tuple[str, int, int]] = []
    generate(models, REQUEST, [Guide(prompt="red ball")], progress=lambda *step: calls.append(step))
    assert calls == [("denoise", i, 3) for i in range(4)] + [("decode", i, 3) for i in range(4)]


def test_too_long_a_prompt_is_noted(models: Models) -> None:
    assert generate(models, REQUEST, [Guide(prompt="red ball")])[1] == []
    assert "left out" in generate(models, REQUEST, [Guide(prompt="red ball " * 50)])[1][0]


def test_off_the_grid_is_refused(models: Models) -> None:
    with pytest.raises(InputError, match="nearest size is 32x32"):
        generate(models, Request(prompt="", width=40, height=32), [])


def test_no_prompt_at_all_is_a_bug_of_the_mode(models: Models) -> None:
    with pytest.raises(AssertionError, match="Guide"):
        generate(models, REQUEST, [])


def test_memory_grows_with_the_request_and_is_checked_first(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Request(prompt="", width=1920, height=1088, num_frames=481)
    assert memory_needed(models, large) > memory_needed(models, REQUEST)
    monkeypatch.setattr(runtime, "available_memory", lambda device: 10_000_000)
    with pytest.raises(TooLargeError, match="ask for less than 481 frames of 1920x1088"):
        generate(models, large, [Guide(prompt="red ball")])
