"""Given pictures for the models that take them beside the noise: Wan's image-to-video checkpoints.

Such a transformer sees, in channels of its own, which frames are given and the latent of a video that holds them and is grey
elsewhere. It makes every frame anew; given frames are put back behind it, as in every mode.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.media import Clip, Pixels, from_tensor, to_tensor
from diorama.pipeline.load import Models
from diorama.pipeline.request import Request
from diorama.pipeline.state import LatentState, Picture

__all__ = ["Given", "take_pictures"]

_CHUNK = 16


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the transformer sees beside the noise."""

    channels: Tensor
    """``[stride + C, T, h, w]``: for each frame of a latent frame whether it is given, and the latent of the given video."""
    images: Tensor | None
    """States of the given pictures ``[M, image_dim]``, for transformers that look at them; None for others."""


def take_pictures(models: Models, request: Request, state: LatentState) -> tuple[LatentState, Given | None]:
    """Move what a state keeps into the channels of a model that animates; other models keep it in the latent.

    Args:
        models: The model.
        request: What is asked for.
        state: With every item applied.

    Returns:
        The state to sample from, and what stands beside it; None for a model that takes nothing there.

    Raises:
        InputError: the model needs a picture that is not given, or the clip is longer than it can make, or a ring.
    """
    if not models.animates:
        return state, None
    frames = 1 + (state.grid[0] - 1) * models.autoencoder.config.stride.time
    window = request.window or models.scheduler.window or state.grid[0]
    if state.ring or state.grid[0] > window:
        longest = 1 + (window - 1) * models.autoencoder.config.stride.time
        raise InputError(
            f"this checkpoint animates one picture for at most {longest} frames, and {'a ring' if state.ring else f'{frames} frames'} cannot be made "
            "so; ask for a shorter clip and extend it, or use a text-to-video checkpoint"
        )
    video, shown = _video(models, request, state, frames)
    if not bool(shown[0]):
        raise InputError("this checkpoint animates pictures and none is given for the first frame; use animate, or a text-to-video checkpoint")
    chunks = (video[:, :, i : i + _CHUNK].to(models.device) for i in range(0, frames, _CHUNK))
    latent = torch.cat(list(models.autoencoder.encode_stream(chunks)), dim=2)[0]
    channels = torch.cat([_mask(shown, state.grid, models.autoencoder.config.stride.time).to(latent), latent])
    # What is given stands beside the noise, so all of it is made from noise; what is edited still starts from the content.
    start = torch.where(state.start == 0, torch.ones_like(state.start), state.start)
    return dataclasses.replace(state, start=start), Given(channels=channels, images=_images(models, video, shown))


def _video(models: Models, request: Request, state: LatentState, frames: int) -> tuple[Tensor, Tensor]:
    """Return the video ``[1, 3, F, H, W]`` that holds what is given and grey elsewhere, and which frames are given ``[F]``."""
    video, shown = torch.zeros(1, 3, frames, request.height, request.width), torch.zeros(frames, dtype=torch.bool)
    for picture in state.pictures or _decoded(models, state):
        last = picture.first + len(picture.frames)
        video[0, :, picture.first : last] = to_tensor(Clip(picture.frames, 1.0))[0]
        shown[picture.first : last] = True
    return video, shown


def _decoded(models: Models, state: LatentState) -> list[Picture]:
    """Return the frames of latents that are kept or begun from, decoded: all that is kept whole, or the first of an edit."""
    kept = (state.start == 0).flatten(1).all(1)
    begun = (state.start < 1).flatten(1).all(1)
    known = kept if bool(kept.any()) else begun & (torch.arange(len(begun)) == 0)
    if not bool(known.any()):
        return []
    last = int(torch.nonzero(known).max()) + 1
    decoded = models.autoencoder.decode_stream(state.latent[None, :, :last].to(models.device))
    pieces: list[Pixels] = [from_tensor(video, 1.0).frames for video in decoded]
    begins = np.cumsum([0, *(len(piece) for piece in pieces)])
    return [Picture(pieces[i], int(begins[i])) for i in torch.nonzero(known).flatten().tolist()]


def _mask(shown: Tensor, grid: tuple[int, int, int], stride: int) -> Tensor:
    """Return ``[stride, T, h, w]``: for each latent frame which of its frames are given; the first codes one frame, which counts for all."""
    whole = torch.cat([shown[:1].repeat(stride), shown[1:]]).reshape(grid[0], stride).T.float()
    return whole[:, :, None, None].expand(-1, *grid).clone()


def _images(models: Models, video: Tensor, shown: Tensor) -> Tensor | None:
    if models.image_encoder is None or models.transformer.config.image_dim is None:
        return None
    both = models.transformer.config.pos_embed_seq_len is not None
    if both and not bool(shown[-1]):
        raise InputError(
            "this checkpoint goes from a first to a last picture and the last is not given; give animate one more with also=[(picture, seconds)]"
        )
    frames = [0, video.shape[2] - 1] if both else [0]
    pictures = np.stack([from_tensor(video[:, :, i : i + 1], 1.0).frames[0] for i in frames])
    return models.image_encoder.encode(pictures).flatten(0, 1)
