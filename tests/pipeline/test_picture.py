"""Given pictures beside the noise: what such a model sees, and what it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.media import Clip, to_tensor
from diorama.pipeline import Pipeline
from diorama.pipeline.generate import prepare
from diorama.pipeline.load import Models
from diorama.pipeline.picture import Given, take_pictures
from diorama.pipeline.request import Request
from diorama.pipeline.state import LatentState
from diorama.transformer import Transformer


@pytest.fixture(scope="module")
def animating(models: Models) -> Models:
    """Return the tiny model with a transformer that takes a picture's mask and latent beside the noise."""
    config = dataclasses.replace(models.transformer.config, in_channels=4 + 4 + 4)
    transformer = Transformer(config).eval().requires_grad_(False)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(1))
    return dataclasses.replace(models, transformer=transformer)


def frames(count: int, seed: int = 0) -> Clip:
    return Clip(np.random.default_rng(seed).integers(0, 256, (count, 32, 48, 3)).astype(np.uint8), 12.0)


def taken(models: Models, mode: str, *given: object, **options: object) -> tuple[Request, LatentState, LatentState, Given]:
    (shot, *_) = Pipeline(models).film(mode, *given, size=(48, 32), **options).shots
    before = prepare(models, shot.request, shot.items)
    after, beside = take_pictures(models, shot.request, before)
    assert beside is not None
    return shot.request, before, after, beside


def encoded(models: Models, video: Tensor) -> Tensor:
    with torch.no_grad():
        return models.autoencoder.encode(video)[0]


@torch.no_grad()
def test_a_picture_stands_beside_grey(animating: Models) -> None:
    still = frames(1)
    _, before, after, given = taken(animating, "animate", still, "red ball", num_frames=9)
    video = torch.zeros(1, 3, 9, 32, 48)
    video[:, :, :1] = to_tensor(still)
    torch.testing.assert_close(given.channels[4:], encoded(animating, video), atol=1e-5, rtol=1e-5)
    assert given.channels[:4].flatten(2).amax(2).tolist() == [[1, 0, 0]] * 4
    assert given.images is None
    assert not before.start[0].any(), "an ordinary model keeps the frame"
    assert bool((after.start == 1).all()), "this one makes all of it from noise"


@torch.no_grad()
def test_a_last_picture_counts_as_one_frame_of_four(animating: Models) -> None:
    _, _, _, given = taken(animating, "animate", frames(1), "red ball", num_frames=9, also=[(frames(1, 1), 0.7)])
    assert given.channels[:4, :, 0, 0].tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]]


@torch.no_grad()
def test_without_pixels_what_is_kept_is_decoded(animating: Models) -> None:
    _, before, _, given = taken(animating, "extend", frames(9), "red ball", more=0.7)
    kept = int((before.start == 0).flatten(1).all(1).sum())
    assert given.channels[:4].flatten(2).amin(2).sum(1).tolist() == [float(kept)] * 4
    # The autoencoder is causal, so the first latent frame of the decoded picture is what coding it again gives.
    video = animating.autoencoder.decode(before.latent[None, :, :1])
    again = to_tensor(Clip(((video[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy(), 12.0))
    torch.testing.assert_close(given.channels[4:, :1], encoded(animating, again), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_an_edit_begins_with_its_first_frame(animating: Models) -> None:
    _, before, after, given = taken(animating, "edit", frames(9), "red ball", strength=0.5)
    assert given.channels[:4].flatten(2).amax(2).tolist() == [[1, 0, 0]] * 4
    assert torch.equal(after.start, before.start)


def test_a_clip_is_made_and_the_picture_stays(animating: Models) -> None:
    still = frames(1)
    clip = Pipeline(animating).animate(still, "red ball", size=(48, 32), num_frames=9, steps=2)
    assert clip.frames.shape == (9, 32, 48, 3)
    assert np.array_equal(clip.frames[0], still.frames[0])


def test_other_models_keep_it_in_the_latent(models: Models) -> None:
    (shot,) = Pipeline(models).film("animate", frames(1), "red ball", size=(48, 32), num_frames=9).shots
    state = prepare(models, shot.request, shot.items)
    assert take_pictures(models, shot.request, state) == (state, None)


def test_what_it_cannot_do_is_said(animating: Models) -> None:
    pipe = Pipeline(animating)
    with pytest.raises(InputError, match="animates pictures and none is given for the first frame"):
        pipe.generate("red ball", size=(48, 32), num_frames=9, steps=1)
    with pytest.raises(InputError, match="at most 9 frames, and 17 frames cannot be made so"):
        pipe.animate(frames(1), "red ball", size=(48, 32), num_frames=17, window=3, steps=1)
    with pytest.raises(InputError, match="a ring cannot be made so"):
        pipe.loop("red ball", size=(48, 32), num_frames=9, steps=1)
