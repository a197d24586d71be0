"""The video compression network: clips to normalised latents and back, whole, streamed in time or tiled in space.

Streaming and tiling give what the whole would give: every layer is causal in time and sees a bounded neighbourhood in space, so
a chunk needs the tails of the chunk before and a tile needs a halo. Only spatial attention (Wan's mid block) sees a whole frame;
with it a tile is an approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from diorama.autoencoder.blocks import patchify, unpatchify
from diorama.autoencoder.config import AutoencoderConfig, config_from_json, config_to_json
from diorama.autoencoder.decoder import Decoder
from diorama.autoencoder.encoder import Encoder
from diorama.checkpoint import Weights, fill, open_weights, read_json, save_folder
from diorama.errors import InputError
from diorama.ops.conv import CausalConv3d, TimeCache, lay_out

__all__ = ["ENCODING", "Autoencoder", "Tails"]

ENCODING = ("encoder.", "quant_conv.")
"""Beginnings of the names of those weights that latents depend on."""

Tails = tuple[tuple[Tensor, ...], ...]
"""What the causal layers remember between chunks: for every tile, the tails of a ``TimeCache``."""

_STEM = "diffusion_pytorch_model"
_FORMAT = torch.channels_last_3d  # on the CPU training is a third faster than with contiguous channels (norms and temporal convolutions most)


class Autoencoder(nn.Module):
    """Causal video autoencoder.

    Args:
        config: The graph and the statistics of its latents.
    """

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quant_conv = CausalConv3d(2 * config.z_dim, 2 * config.z_dim, (1, 1, 1))
        self.post_quant_conv = CausalConv3d(config.z_dim, config.z_dim, (1, 1, 1))
        self.decoder = Decoder(config)
        with torch.no_grad():  # the posterior begins narrow, or its noise would drown the mean
            assert self.quant_conv.bias is not None
            self.quant_conv.bias[config.z_dim :] = -6.0
        # Never on the meta device, since no file holds them.
        device = "cpu" if self.quant_conv.weight.is_meta else None
        mean = torch.tensor(config.latents_mean or (0.0,) * config.z_dim, device=device)
        std = torch.tensor(config.latents_std or (1.0,) * config.z_dim, device=device)
        self.register_buffer("latents_mean", mean.reshape(1, -1, 1, 1, 1), persistent=False)
        self.register_buffer("latents_std", std.reshape(1, -1, 1, 1, 1), persistent=False)

    @property
    def lookback(self) -> int:
        """Latent frames before its own that a decoded frame can depend on, at most."""
        return sum(module.kernel_size[0] - 1 for module in self.decoder.modules() if isinstance(module, CausalConv3d))

    def moments(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each ``[B, z_dim, 1 + k, h, w]`` and not normalised, of ``video [B, 3, T, H, W]`` in [-1, 1]."""
        mean, logvar = self._encode(video, TimeCache(), keep=False)[0].chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def reconstruct(self, raw: Tensor) -> Tensor:
        """Return the video ``[B, 3, T, H, W]``, not clamped, of a latent that is not normalised."""
        return self._decode(raw, TimeCache(), keep=False)[0]

    def encode(self, video: Tensor, tile: int | None = None) -> Tensor:
        """Encode a whole video.

        Args:
            video: ``[B, 3, 1 + k * time, H, W]`` in [-1, 1], sides on the grid of ``config.stride``.
            tile: Side in pixels of the tiles to work in, to save memory; None for one pass.

        Returns:
            Mean latent ``[B, z_dim, 1 + k, h, w]``, normalised per channel.

        Raises:
            InputError: the video or the tile is off the grid.
        """
        return self._encode_tiles(video, None, tile, keep=False)[0]

    def decode(self, latent: Tensor, tile: int | None = None) -> Tensor:
        """Decode a whole latent.

        Args:
            latent: ``[B, z_dim, 1 + k, h, w]``, normalised.
            tile: Side in pixels of the tiles to work in, to save memory; None for one pass.

        Returns:
            Video ``[B, 3, 1 + k * time, H, W]`` in [-1, 1].

        Raises:
            InputError: the tile is off the grid.
        """
        return self._decode_tiles(latent, None, tile, keep=False)[0]

    def encode_chunk(self, video: Tensor, tails: Tails | None = None, tile: int | None = None) -> tuple[Tensor, Tails]:
        """Encode the next chunk of a video.

        Args:
            video: ``[B, 3, T, H, W]``: 1 + k * time frames in the first chunk, k * time in later ones.
            tails: What the chunk before returned; None for the first.
            tile: As in ``encode``; the same for all chunks of a video.

        Returns:
            Latent of the chunk, and the tails for the next.
        """
        return self._encode_tiles(video, tails, tile, keep=True)

    def decode_chunk(self, latent: Tensor, tails: Tails | None = None, tile: int | None = None) -> tuple[Tensor, Tails]:
        """Decode the next chunk, of one or more frames, of a latent; arguments and tails as in ``encode_chunk``."""
        return self._decode_tiles(latent, tails, tile, keep=True)

    def encode_stream(self, chunks: Iterable[Tensor], tile: int | None = None) -> Iterator[Tensor]:
        """Encode a video that arrives in chunks of any lengths, in the memory of one chunk.

        Args:
            chunks: Pieces ``[B, 3, T, H, W]`` of one video in order.
            tile: As in ``encode``.

        Yields:
            Latents ``[B, z_dim, k, h, w]`` in order, together those of the whole.

        Raises:
            InputError: the frames are not 1 + k * time in all, or off the grid.
        """
        time, tails, rest = self.config.stride.time, None, None
        for chunk in chunks:
            frames = chunk if rest is None else torch.cat([rest, chunk], dim=2)
            alone = 1 if tails is None else 0
            ready = (frames.shape[2] - alone) // time * time + alone if frames.shape[2] else 0
            rest = frames[:, :, ready:]
            if ready:
                latent, tails = self.encode_chunk(frames[:, :, :ready], tails, tile)
                yield latent
        if rest is None or rest.shape[2]:
            left = 0 if rest is None else rest.shape[2]
            raise InputError(f"the stream ended with {left} frames left over; give 1 + a multiple of {time} frames in all")

    def decode_stream(self, latent: Tensor | Iterable[Tensor], num_frames: int = 1, tile: int | None = None) -> Iterator[Tensor]:
        """Decode piece by piece, in the memory of one piece.

        Args:
            latent: ``[B, z_dim, 1 + k, h, w]`` normalised, or pieces of it in order.
            num_frames: Latent frames to decode at once if ``latent`` is a tensor.
            tile: As in ``decode``.

        Yields:
            Videos ``[B, 3, T, H, W]`` in order, together the whole.
        """
        tails: Tails | None = None
        for piece in torch.split(latent, num_frames, dim=2) if isinstance(latent, Tensor) else latent:
            video, tails = self.decode_chunk(piece, tails, tile)
            yield video

    def save(self, folder: Path) -> None:
        """Write the weights in their own dtype and ``config.json`` as a diffusers folder."""
        save_folder(folder, self.state_dict(), config_to_json(self.config), stem=_STEM)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype | None = torch.float32, *, mapped: bool = False) -> Autoencoder:
        """Read a folder written by ``save``, or by diffusers for Wan's ``AutoencoderKLWan``, ready to use.

        Args:
            folder: Where ``config.json`` and the weights are.
            dtype: Number format of the weights; None keeps that on disk.
            mapped: Whether weights that have the format already are mapped from their files, for models too large to be copied.

        Raises:
            CheckpointError: the folder cannot be read or does not fit.
        """
        values = read_json(Path(folder) / "config.json")
        return cls.build(config_from_json(values), open_weights(Path(folder), stem=_STEM), dtype, mapped=mapped)

    @classmethod
    def build(cls, config: AutoencoderConfig, weights: Weights, dtype: torch.dtype | None = torch.float32, *, mapped: bool = False) -> Autoencoder:
        """Return an autoencoder of weights on disk, without ever having them in memory twice; arguments and errors as ``load``."""
        with torch.device("meta"):
            model = cls(config)
        fill(model, weights, lambda _, stored: dtype or stored, mapped=mapped)
        lay_out(model)
        return model.eval().requires_grad_(False)

    def _encode(self, video: Tensor, cache: TimeCache, *, keep: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        patches = patchify(video, self.config.patch, first=cache.first).contiguous(memory_format=_FORMAT)
        return self.quant_conv(self.encoder(patches, cache if keep else None)), tuple(cache.tails)

    def _decode(self, raw: Tensor, cache: TimeCache, *, keep: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        patches = self.decoder(self.post_quant_conv(raw.contiguous(memory_format=_FORMAT)), cache if keep else None)
        return unpatchify(patches, self.config.patch, first=cache.first), tuple(cache.tails)

    def _encode_tiles(self, video: Tensor, tails: Tails | None, tile: int | None, *, keep: bool) -> tuple[Tensor, Tails]:
        time, space = self.config.stride.time, self.config.stride.space
        t, h, w = video.shape[2:]
        if t < 1 or (t - (tails is None)) % time or h % space or w % space or min(h, w) < space:
            start = "1 + a multiple" if tails is None else "a multiple"
            raise InputError(
                f"{t} frames of {w}x{h} do not fit the autoencoder: give {start} of {time} frames and sides that are multiples of {space}"
            )
        step, halo = self._tile(tile, max(h, w)), self.config.encoder_halo // space
        run = lambda x, cache: self._encode(x, cache, keep=keep)  # noqa: E731
        moments, tails = _tiled(run, video, tails, (step, halo, space, 1))
        return (_wide(moments.chunk(2, dim=1)[0]) - self.latents_mean) / self.latents_std, tails

    def _decode_tiles(self, latent: Tensor, tails: Tails | None, tile: int | None, *, keep: bool) -> tuple[Tensor, Tails]:
        if latent.shape[1] != self.config.z_dim:
            raise InputError(f"the latent has {latent.shape[1]} channels; this autoencoder needs {self.config.z_dim}")
        space = self.config.stride.space
        raw = latent * self.latents_std + self.latents_mean
        step = self._tile(tile, space * max(latent.shape[3:]))
        run = lambda x, cache: self._decode(x, cache, keep=keep)  # noqa: E731
        video, tails = _tiled(run, raw, tails, (step, self.config.decoder_halo, 1, space))
        return _wide(video).clamp(-1, 1), tails

    def _tile(self, tile: int | None, largest: int) -> int:
        space = self.config.stride.space
        if tile is None:
            return -(-largest // space)
        if tile < space or tile % space:
            raise InputError(
                f"a tile of {tile} pixels is off the grid: give a multiple of {space}, for example {max(1, round(tile / space)) * space}"
            )
        return tile // space


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


Run = Callable[[Tensor, TimeCache], tuple[Tensor, tuple[Tensor, ...]]]


def _tiled(run: Run, x: Tensor, tails: Tails | None, grid: tuple[int, int, int, int]) -> tuple[Tensor, Tails]:
    """Apply a network tile by tile.

    Args:
        run: The network, from a tile and its cache to the output and the tails.
        x: ``[B, C, T, H, W]``.
        tails: Of the chunk before, one entry per tile.
        grid: Tile side and halo, both in latent cells, and the sizes of a cell in input and output.

    Returns:
        The whole output, and the tails of every tile.
    """
    step, halo, cell_in, cell_out = grid
    rows, columns = x.shape[3] // cell_in, x.shape[4] // cell_in
    corners = [(top, left) for top in range(0, rows, step) for left in range(0, columns, step)]
    whole, kept = x.new_empty(0), []
    for i, (top, left) in enumerate(corners):
        bottom, right = min(top + step, rows), min(left + step, columns)
        up, down, before, after = max(top - halo, 0), min(bottom + halo, rows), max(left - halo, 0), min(right + halo, columns)
        piece = x[:, :, :, up * cell_in : down * cell_in, before * cell_in : after * cell_in]
        y, tail = run(piece, TimeCache(None if tails is None else tails[i]))
        kept.append(tail)
        if len(corners) == 1:
            return y, tuple(kept)
        if not i:
            whole = y.new_empty(*y.shape[:3], rows * cell_out, columns * cell_out)
        inner = y[..., (top - up) * cell_out : (bottom - up) * cell_out, (left - before) * cell_out : (right - before) * cell_out]
        whole[..., top * cell_out : bottom * cell_out, left * cell_out : right * cell_out] = inner
    return whole, tuple(kept)
