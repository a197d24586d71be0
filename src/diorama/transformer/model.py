"""The transformer on a pack: velocities from noised tokens, their positions and flow times, and a text.

The graph is Wan's (2.1, and 2.2 with its flow time per token) with the same parameter names; `TransformerConfig.pooled_dim`,
``coordinates`` and ``place`` are what we add.

Source: Wan Team 2025, "Wan: Open and Advanced Large-Scale Video Generative Models"; names from diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count, repeat
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diorama.checkpoint import Weights, fill, open_weights, save_folder
from diorama.errors import InputError
from diorama.ops.rope import rope_table
from diorama.ops.spread import spread
from diorama.patches import Pack, pack
from diorama.patches.positions import NUM_PLACE_FEATURES, REFERENCE_FPS, places
from diorama.transformer.blocks import Block, Context, modulated_norm
from diorama.transformer.config import TransformerConfig, read_config, write_config
from diorama.transformer.embed import ConditionEmbedder, time_rows
from diorama.transformer.reuse import Reuse
from diorama.transformer.text import TextCache

__all__ = ["BATCHED_TOKENS", "Transformer"]

BATCHED_TOKENS = 16384
"""Tokens of a clip up to which several are evaluated at once, in a pack or on a CPU side by side; a larger one keeps a machine busy alone."""

_STEM = "diffusion_pytorch_model"
_FINE = ("time_embedder", "scale_shift_table", "norm1", "norm2")


class Transformer(nn.Module):
    """The diffusion transformer.

    Every block starts as the identity: output projections of attention and feed-forward are 0 and gates are 1, so that the
    first step already has a full gradient for them. The velocity starts at 0. Wan starts from random gates instead.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.patch_embedding = nn.Conv3d(config.in_channels, size, kernel_size=config.patch_size, stride=config.patch_size)
        self.place_embedder = nn.Linear(NUM_PLACE_FEATURES, size, bias=False) if config.place else None
        self.condition_embedder = ConditionEmbedder(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.proj_out = nn.Linear(size, config.out_channels * math.prod(config.patch_size))
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, size))
        self._turned: tuple[Tensor, Tensor] | None = None
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Set every parameter to its start.

        Args:
            generator: Where the random numbers come from; one of seed 0 if None.
        """
        if self.scale_shift_table.is_meta:
            return  # shapes alone: the numbers come from a file
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        zero = ("to_out.0.weight", "ffn.net.2.weight", "proj_out.weight", "time_proj.weight", "pooled_embedder.weight", "place_embedder.weight")
        for name, parameter in self.named_parameters():
            with torch.no_grad():
                if name.endswith(zero) or parameter.ndim == 1:
                    parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
                elif name.endswith("pos_embed"):
                    parameter.zero_()
                elif name.endswith("scale_shift_table"):
                    parameter.zero_()
                    parameter[:, 2::3] = 1.0
                else:
                    nn.init.xavier_uniform_(parameter.view(parameter.shape[0], -1), generator=generator)

    def encode_text(
        self, states: Tensor, mask: Tensor | None = None, pooled: Tensor | None = None, *, padded_to: int | None = None, images: Tensor | None = None
    ) -> TextCache:
        """Prepare texts, and pictures beside them, for any number of forward passes.

        Args:
            states: Text states ``[S, M, text_dim]``.
            mask: ``[S, M]`` bool, true on tokens, at least one a row; None shows all, as Wan does.
            pooled: ``[S, pooled_dim]``; needed if the config has ``pooled_dim``, and unused otherwise.
            padded_to: Tokens that every text is filled up to with states of 0 that are seen, as Wan was trained (512). All of them have one
                key and one value, so one token stands for them with their number in its score: the same result at the cost of the words.
            images: Image states ``[S, M, image_dim]``; needed if the config has ``image_dim``.

        Raises:
            InputError: the widths are not those of the config, or pooled text or image states are missing or not wanted.
        """
        config = self.config
        if states.shape[-1] != config.text_dim:
            raise InputError(
                f"text states are {states.shape[-1]} wide and this transformer takes {config.text_dim}; use the text encoder it was trained with"
            )
        if config.pooled_dim is not None and (pooled is None or pooled.shape[-1] != config.pooled_dim):
            got = "none is given" if pooled is None else f"it is {pooled.shape[-1]} wide"
            raise InputError(f"this transformer takes pooled text of width {config.pooled_dim} and {got}; use the text encoder it was trained with")
        if padded_to is not None:
            states, mask = _with_padding(states, mask, padded_to)
        embedded = self.condition_embedder.embed_text(states)
        keys, values = zip(*(cast(Block, block).attn2.text(embedded) for block in self.blocks), strict=True)
        image_keys, image_values = self._encode_images(images, len(states))
        return TextCache(
            keys=keys,
            values=values,
            mask=mask,
            pooled=None if config.pooled_dim is None or pooled is None else self.condition_embedder.embed_pooled(pooled),
            image_keys=image_keys,
            image_values=image_values,
        )

    def _encode_images(self, images: Tensor | None, num_texts: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        embedder, config = self.condition_embedder.image_embedder, self.config
        if embedder is None and images is None:
            return (), ()
        wanted = "no image states" if embedder is None else f"image states [{num_texts}, {config.pos_embed_seq_len or 'M'}, {config.image_dim}]"
        got = "none" if images is None else str(list(images.shape))
        fits = images is not None and images.ndim == 3 and len(images) == num_texts and images.shape[2] == config.image_dim
        if embedder is None or images is None or not fits or config.pos_embed_seq_len not in (None, images.shape[1]):
            raise InputError(f"this transformer takes {wanted} and got {got}; give pictures only, and always, to the checkpoints that look at them")
        embedded = embedder(images)
        keys, values = zip(*(cast(Block, block).attn2.image(embedded) for block in self.blocks), strict=True)
        return keys, values

    def forward(self, pack: Pack, text: TextCache, reuse: Reuse | None = None, watch: Callable[[int, Tensor], None] | None = None) -> Tensor:
        """Predict the velocity of every token.

        Args:
            pack: Noised tokens ``[L, prod(patch_size) * in_channels]`` with positions, flow times and clip sizes.
            text: One text a clip, from `encode_text`.
            reuse: What the blocks added in the last step of a sampler, to leave them out while it holds; None runs them always.
            watch: Called after each block with how many were run so far and the tokens between them, ``[L, hidden_size]`` float32.

        Returns:
            ``[L, prod(patch_size) * out_channels]`` float32; a token has the same order inside as in ``patchify``.

        Raises:
            InputError: tokens or texts do not fit the config or the pack.
        """
        config, weight = self.config, self.patch_embedding.weight
        if pack.tokens.shape[1] != config.token_dim or len(text.keys[0]) != pack.num_clips:
            raise InputError(
                f"a pack of {pack.num_clips} clips with tokens {pack.tokens.shape[1]} wide and {len(text.keys[0])} texts does not fit: "
                f"tokens must be {config.token_dim} wide, with one text a clip"
            )
        dtype = _compute_dtype(weight)
        # The residual stream stays in float32: eight blocks of bf16 sums would round away small updates.
        x = F.linear(pack.tokens.to(weight.dtype), weight.permute(0, 2, 3, 4, 1).flatten(1), self.patch_embedding.bias).float()
        if self.place_embedder is not None:
            told = torch.cat([places(grid, begins=begins) for grid, begins in zip(pack.grids, pack.begins, strict=True)])
            x = x + self.place_embedder(told.to(x.device, weight.dtype)).float()
        embedding, context = self._condition(pack, text, dtype)
        x = x.view(len(context.rows), -1, config.hidden_size)
        images = zip(text.image_keys, text.image_values, strict=True) if text.image_keys else repeat(None, len(self.blocks))
        layers = list(zip(count(1), self.blocks, text.keys, text.values, images, strict=False))

        def through(x: Tensor, layers: Sequence[tuple[Any, ...]]) -> Tensor:
            for number, block, key, value, image in layers:
                x = block(x, key, value, context, image)
                if watch is not None:
                    watch(number, x.flatten(0, 1))
            return x

        x = through(x, layers) if reuse is None else reuse.run(x, pack, lambda x: through(x, layers[:1]), lambda x: through(x, layers[1:]))
        shift, scale = (self.scale_shift_table + embedding[:, None]).unbind(1)
        shift, scale = spread(torch.cat([shift, scale + 1], dim=1).to(dtype), context.rows).unsqueeze(1).chunk(2, dim=2)
        velocity: Tensor = self.proj_out(modulated_norm(x, shift, scale, config.eps))
        return velocity.flatten(0, 1).float()

    def _condition(self, pack: Pack, text: TextCache, dtype: torch.dtype) -> tuple[Tensor, Context]:
        clips = torch.arange(pack.num_clips, device=pack.tokens.device)
        clips = clips.repeat_interleave(torch.tensor(pack.lengths, device=clips.device), output_size=len(pack.tokens))
        # Without pooled text all clips of one time share their modulation.
        times, row_clips, rows = time_rows(pack.times, clips if text.pooled is not None else torch.zeros_like(clips))
        embedding, modulation = self.condition_embedder.embed_time(times, None if text.pooled is None else text.pooled[row_clips])
        return embedding, Context(
            lengths=pack.lengths,
            rope=self._rope(pack.positions),
            modulation=modulation,
            rows=rows,
            text_mask=text.mask,
            dtype=dtype,
        )

    def _rope(self, positions: Tensor) -> Tensor:
        """Return the rotation of every token; while sampling that of the last call again, if the positions are the same."""
        if positions.device.type != "cpu" or torch.is_grad_enabled():
            return rope_table(positions, self.config.attention_head_dim)
        if self._turned is None or not torch.equal(self._turned[0], positions):
            self._turned = positions, rope_table(positions, self.config.attention_head_dim)
        return self._turned[1]

    def compile_blocks(self, **options: Any) -> None:
        """Compile every block on its own, in place: one compilation serves all of them. Options as of ``torch.compile``."""
        for block in self.blocks:
            block.compile(**options)

    def pack(
        self,
        latents: Sequence[Tensor],
        times: Sequence[Tensor | float],
        *,
        fps: float | Sequence[float] = REFERENCE_FPS,
        begins: bool | Sequence[bool] = True,
    ) -> Pack:
        """Pack latents as this model was trained to see them; see `diorama.patches.pack`."""
        return pack(latents, times, patch_size=self.config.patch_size, coordinates=self.config.coordinates, fps=fps, begins=begins)

    def num_flops(self, lengths: Sequence[int], num_text_tokens: int) -> int:
        """Return the floating-point operations of one forward pass, without the text's own; with the backward it is 3 times that.

        Args:
            lengths: Tokens of every clip.
            num_text_tokens: Text tokens that every clip attends to.
        """
        size, total = self.config.hidden_size, sum(lengths)
        outside = self.config.token_dim + self.proj_out.out_features
        products = self.config.num_layers * (6 * size + 2 * self.config.ffn_dim) + outside
        scores = self.config.num_layers * 2 * sum(length * (length + num_text_tokens) for length in lengths)
        return 2 * size * (total * products + scores)

    def save(self, folder: Path) -> None:
        """Write weights and ``config.json`` as a diffusers folder; a Wan graph opens in diffusers.

        Raises:
            CheckpointError: the disk is full or the place is not writable.
        """
        save_folder(Path(folder), self.state_dict(), write_config(self.config), stem=_STEM)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype | None = torch.float32, *, mapped: bool = False) -> Transformer:
        """Read a folder that `save` or diffusers wrote, ready to use.

        Args:
            folder: Where ``config.json`` and the weights are.
            dtype: Number format of the weights; None keeps that on disk.
            mapped: Whether weights that have the format already are mapped from their files, for models too large to be copied.

        Raises:
            CheckpointError: the folder cannot be read or its weights do not fit.
            ConfigError: ``config.json`` asks for what is not supported.
        """
        return cls.build(read_config(folder), open_weights(Path(folder), stem=_STEM), dtype, mapped=mapped)

    @classmethod
    def build(cls, config: TransformerConfig, weights: Weights, dtype: torch.dtype | None = torch.float32, *, mapped: bool = False) -> Transformer:
        """Return a transformer of weights on disk, without ever having them in memory twice; arguments and errors as `load`."""
        with torch.device("meta"):
            model = cls(config)
        fill(model, weights, lambda name, stored: _kept_dtype(name, dtype or stored), mapped=mapped)
        return model.eval().requires_grad_(False)


def _with_padding(states: Tensor, mask: Tensor | None, padded_to: int) -> tuple[Tensor, Tensor]:
    """Return states ``[S, M + 1, text_dim]`` with one of 0 behind them, and what to add to the scores ``[S, M + 1]``: it stands for all padding."""
    if mask is None:
        mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    counts = mask.sum(1, keepdim=True)
    if int(counts.max()) > padded_to:
        raise InputError(f"a text of {int(counts.max())} tokens cannot be filled up to {padded_to}; shorten it")
    shown = torch.zeros(mask.shape, device=states.device).masked_fill_(~mask, float("-inf"))
    # log(0) hides it where a text needs no padding.
    return F.pad(states, (0, 0, 0, 1)), torch.cat([shown, (padded_to - counts).float().log()], dim=1)


def _kept_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Return the number format of a parameter in a model of ``dtype``: time and norms are too fine for 16 bits, and small."""
    fine = dtype.itemsize <= 2 and dtype.is_floating_point and any(part in name for part in _FINE)
    return torch.float32 if fine else dtype


def _compute_dtype(weight: Tensor) -> torch.dtype:
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
