"""Five steps of the whole pipeline against diffusers', from the same noise: every published kind of checkpoint, both schedulers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diorama import Pipeline
from diorama.media import Clip
from diorama.pipeline.generate import decode, denoise, prepare

pytestmark = pytest.mark.filterwarnings("ignore")
PROMPT, NEGATIVE = "a red ball bounces past the blue cube", "slowly"
STEPS = 5


def picture(seed: int, width: int = 64, height: int = 32) -> Clip:
    """Return a still with structure at every scale."""
    g = np.random.default_rng(seed)
    coarse = np.kron(g.integers(0, 200, (1, height // 8, width // 8, 3)), np.ones((1, 8, 8, 1)))
    return Clip((coarse + g.integers(0, 55, (1, height, width, 3))).astype(np.uint8), 16.0)


def ours(folder: Path, mode: str, given: tuple[Any, ...], **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the noise, the latent and the frames ``[T, H, W, 3]`` of a run."""
    pipe = Pipeline.load(folder, "cpu", torch.float32)
    film = pipe.film(mode, *given, size=(64, 32), num_frames=9, steps=STEPS, guidance_scale=3.0, negative_prompt=NEGATIVE, seed=3, **options)
    (shot,) = film.shots
    state = prepare(pipe.models, shot.request, shot.items)
    latent, _ = denoise(pipe.models, shot.request, state)
    return state.noise, latent, torch.from_numpy(decode(pipe.models, latent, 16.0).copy())


def theirs(pipe: Any, noise: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
    """Return the latent and the frames of diffusers' run from the same noise."""
    options = {"height": 32, "width": 64, "num_frames": 9, "num_inference_steps": STEPS, "guidance_scale": 3.0, "negative_prompt": NEGATIVE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        latent = pipe(prompt=PROMPT, latents=noise[None].clone(), output_type="latent", **options, **given).frames
        mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (pipe.vae.config.latents_mean, pipe.vae.config.latents_std))
        with torch.no_grad():
            video = pipe.vae.decode(latent * std + mean).sample
    return latent[0], (video[0].permute(1, 2, 3, 0) + 1) / 2


def same(latent: Tensor, frames: Tensor, expected: tuple[Tensor, Tensor]) -> None:
    assert expected[0].std() > 0.3
    assert (latent - expected[0]).abs().max() <= 1e-3 * expected[0].abs().max()
    assert (frames.float() - expected[1] * 255).abs().max() <= 1.0  # ours are rounded to whole levels


@pytest.mark.parametrize("scheduler", ["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"])
@pytest.mark.parametrize("kind", ["t2v", "a14b t2v", "ti2v"])
def test_text_to_video(kind: str, scheduler: str, checkpoint: Any) -> None:
    pipe, folder = checkpoint(kind, scheduler)
    noise, latent, frames = ours(folder, "text", (PROMPT,))
    same(latent, frames, theirs(pipe, noise))


@pytest.mark.parametrize("scheduler", ["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"])
@pytest.mark.parametrize("second", [1.0, 5.0])
def test_each_expert_has_its_guidance(scheduler: str, second: float, checkpoint: Any) -> None:
    pipe, folder = checkpoint("a14b t2v", scheduler)
    noise, latent, frames = ours(folder, "text", (PROMPT,), guidance_scale_2=second)
    same(latent, frames, theirs(pipe, noise, guidance_scale_2=second))
    assert (latent - ours(folder, "text", (PROMPT,))[1]).abs().max() > 0.01 * latent.abs().max()


@pytest.mark.parametrize("kind", ["i2v", "a14b i2v"])
def test_image_to_video(kind: str, checkpoint: Any) -> None:
    from PIL import Image

    pipe, folder = checkpoint(kind)
    still = picture(0)
    noise, latent, frames = ours(folder, "animate", (still, PROMPT))
    same(latent, frames, theirs(pipe, noise, image=Image.fromarray(still.frames[0])))
    pipe, folder = checkpoint(kind, "FlowMatchEulerDiscreteScheduler")
    noise, latent, frames = ours(folder, "animate", (still, PROMPT))
    same(latent, frames, theirs(pipe, noise, image=Image.fromarray(still.frames[0])))


def test_first_and_last_frame(checkpoint: Any) -> None:
    from PIL import Image

    pipe, folder = checkpoint("flf2v")
    first, last = picture(0), picture(1)
    noise, latent, frames = ours(folder, "animate", (first, PROMPT), also=[(last, 0.5)])
    same(latent, frames, theirs(pipe, noise, image=Image.fromarray(first.frames[0]), last_image=Image.fromarray(last.frames[0])))


@pytest.mark.parametrize("scheduler", ["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_ti2v_keeps_its_first_frame(scheduler: str, checkpoint: Any, diffusers: Any) -> None:
    from PIL import Image

    pipe, folder = checkpoint("ti2v", scheduler)
    parts = {name: getattr(pipe, name) for name in ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")}
    animating = diffusers.WanImageToVideoPipeline(**parts, expand_timesteps=True)
    animating.set_progress_bar_config(disable=True)
    still = picture(2)
    noise, latent, frames = ours(folder, "animate", (still, PROMPT))
    same(latent, frames, theirs(animating, noise, image=Image.fromarray(still.frames[0])))


def test_the_experts_change_at_the_boundary(checkpoint: Any) -> None:
    """Each of the two has a say: a run with one of them alone is another."""
    pipe, folder = checkpoint("a14b t2v")
    noise, latent, _ = ours(folder, "text", (PROMPT,))
    expected = theirs(pipe, noise)[0]
    pipe.register_to_config(boundary_ratio=0.0)
    alone = theirs(pipe, noise)[0]
    pipe.register_to_config(boundary_ratio=0.875)
    assert (alone - expected).abs().max() > 0.05
    assert (latent - alone).abs().max() > 0.05
