"""The video compression network: clips to latents and back, causal in time, streamed and tiled with the result of the whole.

It knows ``[B, 3, T, H, W]`` RGB in [-1, 1] and normalised latents ``[B, C, 1 + k, h, w]``, and uint8 frames ``[T, H, W, 3]`` whose joins are
evened to be shown; no files of media.
"""

from __future__ import annotations

from diorama.autoencoder.config import AutoencoderConfig
from diorama.autoencoder.joins import decode_evenly, even_joins
from diorama.autoencoder.model import Autoencoder, Tails

__all__ = ["Autoencoder", "AutoencoderConfig", "Tails", "decode_evenly", "even_joins"]
