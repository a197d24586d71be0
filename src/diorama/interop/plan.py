"""What a request takes in disk, host and device memory, and which settings fit a card, from configs alone: nothing is downloaded or loaded.

Weights are counted, activations come from a dry run (`dryrun`). The stages of a request are text, denoising and decoding; what
matters is the largest. Figures are peaks in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from diorama.autoencoder.config import AutoencoderConfig, config_from_json
from diorama.autoencoder.model import Autoencoder
from diorama.checkpoint import read_json
from diorama.errors import CheckpointError, InputError, TooLargeError
from diorama.interop.catalogue import CLIP_PARAMETERS, Known, T5Sizes
from diorama.interop.dryrun import decoding_bytes, denoising_bytes, encoding_bytes
from diorama.interop.settings import DTYPES, OFFLOADS, Settings
from diorama.runtime import fast_dtype
from diorama.shapes import VideoShape
from diorama.transformer.config import TransformerConfig, read_config
from diorama.transformer.model import BATCHED_TOKENS, Transformer

__all__ = [
    "AHEAD_LAYERS",
    "Blueprint",
    "Footprint",
    "Work",
    "blueprint_of",
    "candidates",
    "check_fits",
    "fitting",
    "footprint",
    "num_flops",
    "read_blueprint",
]

GIB = 2**30
PROCESS = int(0.45 * GIB)
"""Python with torch and the package, before any weights (measured, see docs/models.md)."""
OVER_CPU = 1.4
"""What the kernels of a CPU take beside the tensors that a dry run sees, as a factor (measured, see docs/models.md)."""
OVER_CPU_3D = 1.8
"""The same for an autoencoder of 3x3x3 kernels, whose inputs and sums the kernel library copies (measured)."""
USABLE = 0.92
"""Share of a card that tensors can have; the rest is the driver's, and lost between blocks."""
AHEAD_LAYERS = 8
"""Linear layers, of the largest kind, that block offload has on the card at once."""
RESIDUALS = 2
"""Token-wide tensors that residual caching keeps: what the first block added, and what the others did."""
ROUNDED = 3
"""Bytes beside each number of a layer's input while it is rounded for products in fp8: a scaled one in bf16 and the rounded one."""
TEXT_TOKENS = 192
"""Tokens of a long prompt."""
ENCODE_FRAMES = 16
"""Frames of a given clip that are encoded at once."""


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """A model as its configs describe it."""

    name: str
    """For messages."""
    transformer: TransformerConfig
    autoencoder: AutoencoderConfig
    disk: Mapping[str, int]
    """Bytes of every part's files."""
    experts: int = 1
    """Transformers of this graph."""
    text: T5Sizes | None = None
    """A T5 or UMT5, read when prompts come; None for the compact encoder, whose size is that of its files."""
    image_encoder: int = 0
    """Parameters of the encoder of pictures."""
    small: bool = False
    """Whether it is a model of ours, kept in float32 and computed in bf16."""

    @property
    def num_blocks(self) -> int:
        """Parameters of linear layers in the blocks of one transformer, those that can be quantised and offloaded."""
        return _counts(self.transformer)[0]

    @property
    def num_transformer(self) -> int:
        """Parameters of one transformer."""
        return sum(_counts(self.transformer))

    @property
    def num_autoencoder(self) -> int:
        """Parameters of the autoencoder."""
        return _autoencoder_count(self.autoencoder)


@cache
def _counts(config: TransformerConfig) -> tuple[int, int]:
    """Return parameters of linear layers in the blocks, and all others."""
    with torch.device("meta"):
        model = Transformer(replace(config, num_layers=1))
    linear = sum(m.weight.numel() for m in model.blocks.modules() if isinstance(m, torch.nn.Linear))
    block, whole = (sum(p.numel() for p in m.parameters()) for m in (model.blocks, model))
    return config.num_layers * linear, config.num_layers * (block - linear) + whole - block


@cache
def _autoencoder_count(config: AutoencoderConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in Autoencoder(config).parameters())


def blueprint_of(known: Known) -> Blueprint:
    """Return the blueprint of an open model, its files as published."""
    plain = Blueprint(
        name=known.repository,
        transformer=known.transformer,
        autoencoder=known.autoencoder,
        experts=known.experts,
        text=known.text,
        image_encoder=CLIP_PARAMETERS if known.image_encoder else 0,
        disk={},
    )
    numbers = {"transformer": plain.num_transformer, "text_encoder": known.text.num_parameters, "vae": plain.num_autoencoder}
    if known.experts > 1:
        numbers["transformer_2"] = plain.num_transformer
    if known.image_encoder:
        numbers["image_encoder"] = CLIP_PARAMETERS
    return replace(plain, disk={part: count * known.stored.get(part, 4) for part, count in numbers.items()})


def read_blueprint(folder: Path) -> Blueprint:
    """Read the blueprint of a model folder from its configs and the sizes of its files.

    Raises:
        CheckpointError: a part or its config is missing or not understood.
        ConfigError: a config asks for what is not supported.
    """
    folder = Path(folder)
    parts = [part for part in ("transformer", "transformer_2", "vae", "text_encoder", "image_encoder") if (folder / part).is_dir()]
    missing = [part for part in ("transformer", "vae", "text_encoder") if part not in parts]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {', '.join(missing)}, so no plan can be made; give a model folder or one of the names of 'models list'"
        )
    disk = {part: sum(file.stat().st_size for file in (folder / part).iterdir() if file.is_file()) for part in parts}
    text = read_json(folder / "text_encoder" / "config.json")
    compact = text.get("_class_name") == "CompactTextEncoder"
    try:
        sizes = None if compact else _t5_sizes(text)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'text_encoder'} is no T5 or UMT5 encoder ({error} is not in its config); no plan can be made") from error
    return Blueprint(
        name=str(folder),
        transformer=read_config(folder / "transformer"),
        autoencoder=config_from_json(read_json(folder / "vae" / "config.json")),
        disk=disk,
        experts=1 + ("transformer_2" in parts),
        text=sizes,
        image_encoder=CLIP_PARAMETERS if "image_encoder" in parts else 0,
        small=compact,
    )


def _t5_sizes(values: Mapping[str, Any]) -> T5Sizes:
    names = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
    vocab_size, d_model, d_kv, d_ff, num_layers, num_heads = (int(values[name]) for name in names)
    gated = "gated" in str(values.get("feed_forward_proj", ""))
    return T5Sizes(vocab_size=vocab_size, d_model=d_model, d_kv=d_kv, d_ff=d_ff, num_layers=num_layers, num_heads=num_heads, gated=gated)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is asked of a model."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    num_frames: int
    """Frames."""
    guided: bool = True
    """Whether the model is evaluated with and without the prompt."""
    window: int | None = None
    """Latent frames that the model sees at once; None for all."""
    cached: bool = False
    """Whether what the blocks added is kept for the next step, by each expert."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Peaks in bytes."""

    disk: int
    """Files of the model."""
    host: int
    """Memory of the process, its own included."""
    card: int
    """Memory of the card; 0 on a CPU."""
    stages: Mapping[str, int] = field(default_factory=dict)
    """What each stage takes where it is computed: text, encode, denoise, decode."""


def grid_of(blueprint: Blueprint, work: Work) -> tuple[int, int, int]:
    """Return the tokens of a clip that are seen at once, along time, height and width.

    Raises:
        InputError: the size is off the model's grid.
    """
    stride, patch = blueprint.autoencoder.stride, blueprint.transformer.patch_size
    whole = replace(stride, time=stride.time * patch[0], space=stride.space * patch[1])
    shape = VideoShape(num_frames=work.num_frames, height=work.height, width=work.width).check(whole)
    frames, height, width = shape.latent(stride)
    return -(-min(frames, work.window or frames) // patch[0]), height // patch[1], width // patch[2]


def num_flops(blueprint: Blueprint, work: Work) -> int:
    """Return the floating-point operations of one step of the solver, with guidance two evaluations."""
    config, length = blueprint.transformer, math.prod(grid_of(blueprint, work))
    products = blueprint.num_blocks * length + config.num_layers * 2 * config.hidden_size * length * (length + TEXT_TOKENS)
    return (1 + work.guided) * 2 * products


def footprint(blueprint: Blueprint, work: Work, settings: Settings, *, device: str = "cuda") -> Footprint:
    """Return what a request takes.

    Args:
        blueprint: The model.
        work: The request.
        settings: How the model is read.
        device: ``cuda`` or ``cpu``.

    Raises:
        InputError: the size or the tile is off the model's grid.
    """
    # Small models keep float32 weights unless they are told a format; everything multiplies in bf16 where that is fast.
    dtype = DTYPES[settings.dtype] if settings.dtype else fast_dtype(torch.device(device))
    item = 4 if blueprint.small and settings.dtype is None else dtype.itemsize
    linear, fine = blueprint.num_blocks, blueprint.num_transformer - blueprint.num_blocks
    blocks = linear * (1 if settings.quantise else item)
    rest, vae = fine * 4, blueprint.num_autoencoder * item
    text = _text_bytes(blueprint, settings)
    pictures = blueprint.image_encoder * item
    transient = 0 if item == dtype.itemsize and not settings.quantise else 2 * _largest_layer(blueprint.transformer)
    stages = {"text": text + pictures, **_stages(blueprint, work, settings, (dtype, device))}
    stages["denoise"] += transient
    if device == "cpu":
        coding = OVER_CPU if blueprint.autoencoder.factorized_time else OVER_CPU_3D
        stages |= {stage: round((OVER_CPU if stage == "denoise" else coding) * stages[stage]) for stage in stages if stage != "text"}
    # A card's share of each stage, and what stays on the host meanwhile.
    everything = blueprint.experts * (blocks + rest) + vae
    if device == "cpu":
        frames = 2 * 3 * work.width * work.height * work.num_frames
        return _whole(blueprint, PROCESS + everything + frames + max(stages.values()), 0, stages)
    ahead = min(blocks, AHEAD_LAYERS * _largest_layer(blueprint.transformer) * (1 if settings.quantise else item))
    here = {"none": everything, "model": blocks + rest, "block": blueprint.experts * rest + ahead}[settings.offload]
    coder = everything if settings.offload == "none" else vae
    beside = everything if settings.offload == "none" else 0
    used = {"text": beside, "encode": coder, "denoise": here, "decode": coder}
    # Where even blocks come one by one, a text encoder of gigabytes computes its few tokens on the host.
    stages_here = [stage for stage in stages if stage != "text" or settings.offload != "block"]
    card = max(stages[stage] + used[stage] for stage in stages_here)
    waiting = 0 if settings.offload == "none" else everything
    # Weights pass through the host one part at a time, in their number format before they are quantised.
    loading = max(linear * item + rest, waiting - blocks + linear * item if waiting else 0, waiting + text)
    host = PROCESS + max(loading, waiting) + 2 * 3 * work.width * work.height * work.num_frames
    return _whole(blueprint, host, card, stages)


def _whole(blueprint: Blueprint, host: int, card: int, stages: Mapping[str, int]) -> Footprint:
    return Footprint(disk=sum(blueprint.disk.values()), host=host, card=card, stages=dict(stages))


def _text_bytes(blueprint: Blueprint, settings: Settings) -> int:
    if blueprint.text is None:
        return 2 * blueprint.disk["text_encoder"]  # float16 on disk, float32 in memory
    item = 4 if settings.dtype == "float32" else 2
    linear = blueprint.text.num_linear
    return linear * (1 if settings.quantise else item) + (blueprint.text.num_parameters - linear) * item


def _largest_layer(config: TransformerConfig) -> int:
    return config.hidden_size * max(config.hidden_size, config.ffn_dim)


def _stages(blueprint: Blueprint, work: Work, settings: Settings, how: tuple[torch.dtype, str]) -> dict[str, int]:
    dtype, device = how
    grid, coder = grid_of(blueprint, work), blueprint.autoencoder
    denoise = _denoising(blueprint.transformer, grid, 1 + work.guided, dtype, device)
    if settings.quantise == "fp8-products":
        denoise += ROUNDED * _together(grid, 1 + work.guided) * math.prod(grid) * blueprint.transformer.ffn_dim
    if work.cached:
        tokens = (1 + work.guided) * math.prod(grid)
        denoise += RESIDUALS * blueprint.experts * tokens * blueprint.transformer.hidden_size * dtype.itemsize
    side = settings.tile
    region = coded_region((work.height // coder.stride.space, work.width // coder.stride.space), coder, side)
    stages = {"denoise": denoise, "decode": _decoding(coder, region, dtype)}
    if blueprint.transformer.in_channels > blueprint.transformer.out_channels:
        stages["encode"] = _encoding(coder, (work.height, work.width), dtype)
    return stages


@cache
def _denoising(config: TransformerConfig, grid: tuple[int, int, int], clips: int, dtype: torch.dtype, device: str) -> int:
    together = _together(grid, clips)
    return denoising_bytes(config, grid, clips, dtype=dtype, device=device, num_text=TEXT_TOKENS, together=together)


def _together(grid: tuple[int, int, int], clips: int) -> int:
    """Return how many clips are evaluated side by side: large ones go one by one."""
    return clips if math.prod(grid) <= BATCHED_TOKENS else 1


@cache
def _decoding(config: AutoencoderConfig, region: tuple[int, int], dtype: torch.dtype) -> int:
    return decoding_bytes(config, region, dtype=dtype)


@cache
def _encoding(config: AutoencoderConfig, size: tuple[int, int], dtype: torch.dtype) -> int:
    return encoding_bytes(config, size, dtype=dtype, num_frames=ENCODE_FRAMES)


def coded_region(size: tuple[int, int], config: AutoencoderConfig, tile: int | None) -> tuple[int, int]:
    """Return the latent cells, along height and width, of the largest tile of a frame with the surroundings that it depends on.

    Raises:
        InputError: the tile is off the grid.
    """
    if tile is None:
        return size
    space = config.stride.space
    if tile % space:
        raise InputError(f"a tile of {tile} pixels is off the grid: give a multiple of {space}, for example {max(1, round(tile / space)) * space}")
    height, width = (min(side, tile // space + 2 * config.decoder_halo) for side in size)
    return height, width


def candidates(blueprint: Blueprint, settings: Settings) -> Iterator[Settings]:
    """Yield settings that leave what was typed as it is, the fastest first."""
    tiles = (settings.tile,) if settings.tile else (None, *(side for side in (512, 256) if side % blueprint.autoencoder.stride.space == 0))
    for offload in ("none", "model", "block") if settings.offload == "none" else (settings.offload,):
        for precision in (None, "int8") if settings.quantise is None and not blueprint.small else (settings.quantise,):
            for tile in tiles if offload in OFFLOADS[settings.compile] else ():
                yield replace(settings, offload=offload, quantise=precision, tile=tile)


def fitting(blueprint: Blueprint, work: Work, settings: Settings, *, card: int | None, host: int | None) -> list[tuple[Settings, Footprint]]:
    """Return the settings under which a request fits, the fastest first.

    Args:
        blueprint: The model.
        work: The request.
        settings: What was typed.
        card: Bytes of the card's memory; None for a CPU.
        host: Bytes of the host's memory; None if it does not matter.
    """
    found = []
    for choice in candidates(blueprint, settings) if card is not None else [settings]:
        taken = footprint(blueprint, work, choice, device="cpu" if card is None else "cuda")
        if (card is None or taken.card <= USABLE * card) and (host is None or taken.host <= USABLE * host):
            found.append((choice, taken))
    return found


def check_fits(blueprint: Blueprint, work: Work, settings: Settings, *, card: int | None, host: int | None) -> Footprint:
    """Return what a request takes.

    Raises:
        TooLargeError: it does not fit; the message names settings that would, or a smaller request.
        InputError: the size is off the model's grid.
    """
    taken = footprint(blueprint, work, settings, device="cpu" if card is None else "cuda")
    if (card is None or taken.card <= USABLE * card) and (host is None or taken.host <= USABLE * host):
        return taken
    others = fitting(blueprint, work, settings, card=card, host=host)
    remedy = f"add {others[0][0].flags}" if others else _smaller(blueprint, work, settings, card, host)
    too_much = [f"{taken.card / GIB:.1f} GiB of {card / GIB:.1f} on the card"] if card is not None and taken.card > USABLE * card else []
    if host is not None and taken.host > USABLE * host:
        too_much.append(f"{taken.host / GIB:.1f} GiB of {host / GIB:.1f} on the host")
    asked = f"{work.num_frames} frames of {work.width}x{work.height}"
    raise TooLargeError(f"{asked} with {blueprint.name} take about {' and '.join(too_much)}; {remedy}")


def _smaller(blueprint: Blueprint, work: Work, settings: Settings, card: int | None, host: int | None) -> str:
    """Return the remedy where no settings fit: fewer frames, or smaller ones, or another model."""
    time = blueprint.autoencoder.stride.time
    for frames in (1 + time * round((work.num_frames - 1) * share / time) for share in (0.75, 0.5, 0.25, 0.0)):
        if frames < work.num_frames and (fits := fitting(blueprint, replace(work, num_frames=frames), settings, card=card, host=host)):
            flags = fits[0][0].flags
            return f"ask for at most {frames} frames{f' and add {flags}' if flags else ''}"
    step = blueprint.autoencoder.stride.space * blueprint.transformer.patch_size[1]
    for share in (0.75, 0.5, 0.25):
        width, height = (max(step, step * math.floor(side * share / step)) for side in (work.width, work.height))
        if fits := fitting(blueprint, replace(work, width=width, height=height, num_frames=1), settings, card=card, host=host):
            return f"ask for 1 frame of {width}x{height} at most, or use a smaller model"
    return "use a smaller model or a larger machine: no settings make this one fit"
