"""Training of the transformer on cached latents and text states.

Clips of any size and length train together: a batch is a pack of about ``data.tokens`` tokens. Every clip draws its
own noise pattern, so that one model serves every prompting mode.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from diorama import runtime
from diorama.config import to_dict
from diorama.data import CacheConfig, Draw, LatentCache, PackConfig, PackSampler, Text, padded
from diorama.data.coverage import KINDS, camera_kind
from diorama.data.provenance import write_provenance
from diorama.errors import CheckpointError, ConfigError, DataError
from diorama.flow import FrameTimes, Mixture, frame_losses, interpolate, sample_frame_times, velocity_target
from diorama.interop.folder import class_in, read_index
from diorama.interop.scheduler import read_scheduler
from diorama.media import contact_sheet, save_image
from diorama.patches import grid_of, patchify
from diorama.pipeline import Models, Pipeline, SchedulerConfig, write_index
from diorama.pipeline.load import load_captioner, model_folder, save_models
from diorama.text.encoder import CompactTextEncoder
from diorama.train.cache import FrozenEncoders, load_encoders, open_cache
from diorama.train.log import Work
from diorama.train.loop import LoopConfig, Result, Task, run
from diorama.train.lora import LoraConfig, LoraTask
from diorama.train.naming import NAMED, NamingConfig, NamingHead, WithNaming, naming_loss
from diorama.train.optim import OptimConfig
from diorama.train.preferences import PreferenceConfig, PreferenceTask, draw_captions
from diorama.train.rewards import Critic, RewardConfig, RewardTask
from diorama.transformer import Transformer, TransformerConfig
from diorama.worlds.words import SYNONYMS

__all__ = [
    "ClipData",
    "PackBatch",
    "SampleConfig",
    "TransformerTask",
    "TransformerTrainConfig",
    "first_transformer",
    "models_with",
    "pack_loss",
    "train_transformer",
    "with_base",
]

PROMPTS = (
    "a red ball bounces on a checker floor, the camera orbits left",
    "a blue cube rests beside a yellow cylinder on a wooden floor at sunset, static camera",
    "a green cone slides across grass by day, the camera dollies in",
    "a white ball rolls behind a purple box, the camera is still",
    "an orange capsule falls onto a brick floor at night, the camera cranes up",
    "a pink ball hits a black box on a striped floor, the camera pans right",
)


@dataclass(frozen=True, kw_only=True)
class ClipData:
    """What is trained on and how it is shown."""

    shards: tuple[Path, ...]
    """Folders of shards."""
    cache: Path = Path("runs/latents")
    """Where latents and text states are kept; what is missing is encoded at the start."""
    encode: CacheConfig = field(default_factory=CacheConfig)
    """What is kept of each clip."""
    pack: PackConfig = field(default_factory=PackConfig)
    """How batches are filled; its seed decides clips, captions and noise patterns."""
    max_tokens_per_clip: int | None = None
    """Leave longer clips out, for a first phase on small ones; they are counted at the start."""
    text_drop: float = 0.1
    """Share of clips shown with the empty prompt, for guidance."""
    token_drop: float = 0.0
    """Up to this share of a text's tokens is left out, so that no single word is relied on: how much is drawn for each; one is always left."""
    text_noise: float = 0.0
    """Largest standard deviation of the noise added to text states, in units of theirs; it too is drawn for each text."""
    dense_share: float = 0.5
    """Share of clips shown with a dense caption, the others with a short one; a clip that has one kind only is shown with that."""
    mixture: Mixture = field(default_factory=Mixture)
    """Noise patterns."""
    later_share: float = 0.25
    """Share of clips that begin later than at the first latent frame, as windows of long videos and of rings do."""
    object_weight: float = 1.0
    """How much a place that shows an object counts, beside 1 for one of the background; for samples whose record says where objects are."""

    def __post_init__(self) -> None:
        if self.max_tokens_per_clip is not None and self.max_tokens_per_clip < 1:
            raise ConfigError(f"data.max_tokens_per_clip is {self.max_tokens_per_clip}; it must be at least 1, or left out")
        if not 0 <= self.text_drop <= 1:
            raise ConfigError(f"data.text_drop is {self.text_drop}; it is a share from 0 to 1")
        if not 0 <= self.token_drop < 1 or not 0 <= self.text_noise < math.inf:
            raise ConfigError(
                f"data.token_drop is {self.token_drop} and data.text_noise {self.text_noise}; they are from 0 to below 1, and 0 or more"
            )
        if not 0 <= self.dense_share <= 1:
            raise ConfigError(f"data.dense_share is {self.dense_share}; it is a share from 0 to 1")
        if not 0 <= self.later_share <= 1:
            raise ConfigError(f"data.later_share is {self.later_share}; it is a share from 0 to 1")
        if not 0 < self.object_weight < math.inf:
            raise ConfigError(f"data.object_weight is {self.object_weight}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Clips made during the run; the same prompts and seeds every time."""

    prompts: tuple[str, ...] = PROMPTS
    """One contact sheet row each."""
    width: int = 96
    """Pixels."""
    height: int = 96
    """Pixels."""
    num_frames: int = 17
    """Frames."""
    steps: int = 16
    """Solver steps."""
    guidance_scale: float = 4.0
    """How strongly the prompt steers."""


@dataclass(frozen=True, kw_only=True)
class TransformerTrainConfig:
    """A run that trains a transformer."""

    data: ClipData
    """Training set."""
    model: TransformerConfig = field(default_factory=TransformerConfig)
    """The network; not read if ``init`` is given."""
    train: LoopConfig = field(default_factory=LoopConfig)
    """How long."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Learning rates."""
    sample: SampleConfig = field(default_factory=SampleConfig)
    """Clips made during the run."""
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    """Time shift by token count, the same in training and sampling."""
    init: Path | None = None
    """Folder of a transformer to start from; random weights if None, or the packaged model's beside ``lora``."""
    naming: NamingConfig = field(default_factory=NamingConfig)
    """A second lesson beside the velocity; not for a LoRA."""
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    """A third lesson, for a model that draws already; not for a LoRA."""
    reward: RewardConfig = field(default_factory=RewardConfig)
    """A fourth lesson, likewise, on the captions of worlds."""
    lora: LoraConfig | None = None
    """Train this LoRA and leave the transformer as it is; the whole transformer if None."""
    base: str | None = None
    """Model to fine-tune, a folder or a hub id, for example of Wan 2.1: its parts stand for ``init``, ``autoencoder``, ``text_encoder`` and
    ``scheduler`` where those are not given."""
    autoencoder: Path | None = None
    """Folder of the autoencoder; the packaged one if None."""
    text_encoder: Path | None = None
    """Folder that holds ``text_encoder/`` and ``tokenizer/``, ours or a UMT5; the packaged model if None."""

    def __post_init__(self) -> None:
        for name, weight in (("naming", self.naming.weight), ("preference", self.preference.weight), ("reward", self.reward.weight)):
            if weight and self.lora is not None:
                raise ConfigError(f"{name}.weight trains the whole transformer and lora freezes it; leave one of them out")
            if weight and name != "naming" and self.init is None and self.base is None:
                raise ConfigError(f"{name}.weight is for a model that draws already and this run starts from random weights; give init or base")


@dataclass(frozen=True, kw_only=True)
class PackBatch:
    """Clips of one step with their texts and noise patterns, on the CPU."""

    latents: Sequence[Tensor]
    """S latents ``[C, T, H, W]`` float32."""
    fps: Sequence[float]
    """Frames per second of each."""
    begins: Sequence[bool]
    """Whether each begins with the first latent frame of its clip."""
    draws: Sequence[FrameTimes]
    """Noise pattern of each."""
    states: Tensor
    """Text states ``[S, M, D]``."""
    mask: Tensor
    """``[S, M]`` bool."""
    pooled: Tensor
    """``[S, D]``."""
    weights: Sequence[Tensor | None]
    """How much each place of a latent counts, ``[T, H, W]`` float32 above 0; None counts all alike."""
    padded_to: int | None = None
    """Tokens that every text is filled up to in sight of the transformer, as ``TextStates`` says."""
    kinds: Tensor | None = None
    """What each token shows, ``[L, len(NAMED)]`` int64 as of ``naming_loss``, -1 where nothing is known; None if nobody asks."""


def pack_loss(
    model: Transformer, batch: PackBatch, generator: torch.Generator, naming: tuple[NamingConfig, NamingHead] | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Return the velocity loss of a batch, each noised frame counted once, and figures per pattern and flow time.

    Args:
        model: On the generator's device.
        batch: Clips with their noise patterns.
        generator: Source of the noise.
        naming: The second lesson and its head, for a batch that has kinds; its weighted loss is added.
    """
    device, patch = generator.device, model.config.patch_size
    noisy, targets, weights = [], [], []
    for latent, draw, weight in zip(batch.latents, batch.draws, batch.weights, strict=True):
        data = latent.to(device)
        noise = torch.randn(data.shape, generator=generator, device=device)
        times = draw.times.to(device).repeat_interleave(patch[0])[:, None, None]
        noisy.append(interpolate(data, noise, times))
        targets.append(patchify(velocity_target(data, noise), patch))
        weights.append(patchify(torch.ones_like(data[:1]) if weight is None else weight[None].to(device), patch).mean(-1))
    clips = model.pack(noisy, [draw.times.to(device) for draw in batch.draws], fps=batch.fps, begins=batch.begins)
    text = model.encode_text(batch.states.to(device), batch.mask.to(device), batch.pooled.to(device), padded_to=batch.padded_to)
    counts = torch.cat([torch.full((f,), h * w) for f, h, w in clips.grids])
    features: dict[int, Tensor] = {}
    velocity = model(clips, text, watch=None if naming is None else features.__setitem__)
    losses = frame_losses(velocity, torch.cat(targets), counts, torch.cat(weights))
    mask = torch.cat([draw.mask for draw in batch.draws]).to(device)
    loss = (losses * mask).sum() / mask.sum()
    figures = _figures(losses.detach().cpu(), batch.draws)
    if naming is not None and batch.kinds is not None:
        config, head = naming
        counted = torch.cat(weights) * mask.repeat_interleave(counts.to(device))
        names, named = naming_loss(head, features[config.block], batch.kinds.to(device), counted)
        loss, figures = loss + config.weight * names, figures | {"loss_naming": float(names.detach())} | named
    return loss, figures


def _first_frame(generator: torch.Generator, pattern: FrameTimes, share: float) -> int:
    """Return the latent frame a clip begins at: 0, or in ``share`` of them a later one that leaves a frame with noise."""
    given = int((pattern.times == pattern.times[0]).long().cumprod(0).sum()) if pattern.kind == "prefix" else 0
    room = len(pattern.times) - given - 1
    later = float(torch.rand((), generator=generator)) < share
    if room < 1 or not later or pattern.kind in ("ends", "subset"):
        return 0
    return 1 + int(float(torch.rand((), generator=generator)) * room)


def _figures(losses: Tensor, draws: Sequence[FrameTimes]) -> dict[str, float]:
    groups: dict[str, list[Tensor]] = defaultdict(list)
    for part, draw in zip(torch.split(losses, [len(draw.times) for draw in draws]), draws, strict=True):
        groups[f"loss_{draw.kind}"].append(part[draw.mask])
        for quarter in range(4):
            inside = draw.mask & ((draw.times * 4).long().clamp(max=3) == quarter)
            groups[f"loss_t{quarter * 25:02d}"].append(part[inside])
    means = {name: torch.cat(parts) for name, parts in groups.items()}
    return {name: float(values.mean()) for name, values in means.items() if len(values)}


class TransformerTask:
    """The transformer as the loop trains it.

    Args:
        config: The run.
        cache: Latents and text states, complete.
        transformer: What is trained.
        encoders: The frozen parts, for samples and export.
    """

    def __init__(self, config: TransformerTrainConfig, cache: LatentCache, transformer: Transformer, encoders: FrozenEncoders) -> None:
        self.config, self.cache, self.transformer, self.encoders = config, cache, transformer, encoders
        self.naming = WithNaming(transformer, config.naming.block) if config.naming.weight else None
        patch = transformer.config.patch_size
        self.grids = [grid_of(grid, patch) for grid in cache.grids()]
        pack = config.data.pack
        # A cache without mirror images has none to show.
        self.sampler = PackSampler(self.grids, pack if cache.num_variants > 1 else dataclasses.replace(pack, mirror_share=0.0))
        empty = encoders.text.encode([""])
        self.padded_to = empty.padded_to
        self.empty = Text(states=empty.states[0][empty.mask[0]].cpu(), pooled=empty.pooled[0].cpu())

    def module(self) -> nn.Module:
        """Return the transformer, with the head that names beside it if there is one."""
        return self.transformer if self.naming is None else self.naming

    def describe(self) -> str:
        """Return counts of the training set.

        Raises:
            DataError: no clip is small enough.
        """
        lengths = [math.prod(grid) for grid in self.grids]
        limit = min(self.config.data.pack.tokens, self.config.data.max_tokens_per_clip or self.config.data.pack.tokens)
        used = [length for length in lengths if length <= limit]
        seconds = sum((1 + 4 * (self.cache.shape(index)[1] - 1)) / self.cache.fps(index) for index, length in enumerate(lengths) if length <= limit)
        if not used:
            raise DataError(
                f"none of {len(lengths)} clips has at most {limit} tokens, the smallest has {min(lengths)}; raise data.max_tokens_per_clip"
            )
        left_out = f", {len(lengths) - len(used)} longer than {limit} tokens left out" if len(used) < len(lengths) else ""
        return f"{len(used)} clips, {seconds:.0f} s, {sum(used)} tokens{left_out}"

    def batch(self, index: int) -> PackBatch:
        """Return pack ``index``: clips, captions and noise patterns are functions of the seed and the index."""
        data, scheduler = self.config.data, self.config.scheduler
        generator = runtime.generator((data.pack.seed * 1_000_003 + index + 1) % 2**63)
        patch = self.transformer.config.patch_size
        clips: list[tuple[Tensor, FrameTimes, Text, float, bool, Tensor | None, Tensor | None]] = []
        for draw in self.sampler.draw(index, max_tokens=data.max_tokens_per_clip):
            _, h, w = self.grids[draw.index]
            pattern = sample_frame_times(generator, draw.num_frames, data.mixture, shift_factor=scheduler.shift_for(draw.num_frames * h * w))
            first = _first_frame(generator, pattern, data.later_share)
            kept = slice(first * patch[0], draw.num_frames * patch[0])
            latent = self.cache.latent(draw.index, int(draw.mirrored))[:, kept]
            coverage = None if data.object_weight == 1 else self.cache.coverage(draw.index, int(draw.mirrored))
            weight = None if coverage is None else 1 + (data.object_weight - 1) * coverage[kept]
            left = slice(draw.num_frames - first)
            caption = self.cache.choose(draw.index, draw.caption, data.dense_share)
            dropped = float(torch.rand((), generator=generator)) < data.text_drop
            text = self.empty if dropped else self._heard(draw, caption, generator)
            fps = self.cache.fps(draw.index)
            shown = None if self.naming is None else self._shown(draw)[:, kept]
            clips.append((latent, FrameTimes(pattern.times[left], pattern.mask[left], pattern.kind), text, fps, first == 0, weight, shown))
        # Clips of equal length must be neighbours to be attended in one call.
        clips.sort(key=lambda clip: (math.prod(clip[0].shape[1:]), clip[0].shape))
        latents, times, texts, rates, begins, weights, kinds = zip(*clips, strict=True)
        states, mask, pooled = padded(texts)
        return PackBatch(
            latents=latents,
            fps=rates,
            begins=begins,
            draws=times,
            states=states,
            mask=mask,
            pooled=pooled,
            weights=weights,
            padded_to=self.padded_to,
            # Of a token's cells the first one is named.
            kinds=None if self.naming is None else torch.cat([patchify(shown, patch)[:, : len(NAMED)] for shown in kinds]),
        )

    def _heard(self, draw: Draw, caption: int, generator: torch.Generator) -> Text:
        """Return a caption with some of its tokens left out and the others blurred, as the config says."""
        text, data = self.cache.text(draw.index, int(draw.mirrored), caption), self.config.data
        states = text.states
        if data.token_drop:
            kept = torch.rand(len(states), generator=generator) >= data.token_drop * torch.rand((), generator=generator)
            kept[int(torch.randint(len(states), (), generator=generator))] = True
            states = states[kept]
        if data.text_noise:
            deviation = data.text_noise * text.states.std() * torch.rand((), generator=generator)
            states = states + deviation * torch.randn(states.shape, generator=generator)
        return Text(states=states, pooled=text.pooled)

    def _shown(self, draw: Draw) -> Tensor:
        """Return what each place of a sample is named by, ``[len(NAMED), f, h, w]`` int64; -1 where nothing is known, and for a still's camera."""
        shape, mirrored = self.cache.shape(draw.index)[1:], bool(draw.mirrored)
        bodies = self.cache.kinds(draw.index, int(mirrored))
        bodies = torch.full((len(KINDS), *shape), -1) if bodies is None else bodies
        move = camera_kind(self.cache.shards.record(draw.index), mirrored) if draw.num_frames > 1 else None
        return torch.cat([bodies, torch.full((1, *shape), -1 if move is None else move)])

    def work(self, batch: PackBatch) -> Work:
        """Return the size of a batch; operations count matrix products of forward and backward, text padding left out."""
        model = self.transformer
        lengths = [math.prod(grid_of((x.shape[1], x.shape[2], x.shape[3]), model.config.patch_size)) for x in batch.latents]
        num_text = round(float(batch.mask.sum()) / len(lengths))
        return Work(samples=len(lengths), tokens=sum(lengths), flops=3.0 * model.num_flops(lengths, num_text))

    def loss(self, batch: PackBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the velocity loss and figures per noise pattern and per quarter of flow time."""
        naming = None if self.naming is None else (self.config.naming, self.naming.naming_head)
        return pack_loss(self.transformer, batch, generator, naming)

    def sample(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write one contact sheet for every prompt of the config."""
        wanted = self.config.sample
        pipeline = Pipeline(models_with(_transformer(module), self.config, self.encoders))
        for i, prompt in enumerate(wanted.prompts):
            clip = pipeline.generate(
                prompt,
                size=(wanted.width, wanted.height),
                num_frames=wanted.num_frames,
                steps=wanted.steps,
                guidance_scale=wanted.guidance_scale,
                seed=i,
            )
            save_image(contact_sheet(clip, columns=6, rows=1), folder / f"step-{step:08d}" / f"{i}.png")

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write a whole model folder, weights as float16, with ``training_data.json`` that says what it was trained on."""
        weights = copy.deepcopy(_transformer(module)).half()
        if isinstance(self.encoders.text, CompactTextEncoder):
            weights.save(folder / "transformer")
            self.encoders.export(folder)
            write_index(folder, self.config.scheduler)
        else:
            save_models(models_with(weights, self.config, self.encoders), folder)
        write_provenance(self.cache.shards, folder)


def _transformer(module: nn.Module) -> Transformer:
    """Return the transformer of a module of ``TransformerTask``."""
    inner = module.transformer if isinstance(module, WithNaming) else module
    assert isinstance(inner, Transformer)
    return inner


def models_with(transformer: Transformer, config: TransformerTrainConfig, encoders: FrozenEncoders) -> Models:
    """Return the parts of a run as a model that generates."""
    return Models(
        transformer=transformer,
        autoencoder=encoders.autoencoder,
        text_encoder=encoders.text,
        scheduler=config.scheduler,
        device=encoders.device,
        source=encoders.text_folder,
    )


def with_base(config: TransformerTrainConfig) -> TransformerTrainConfig:
    """Return a run whose parts are those of its base, where it says nothing itself.

    Raises:
        CheckpointError: the base is no model folder, or cannot be fetched or read.
        ConfigError: the base has two experts.
    """
    if config.base is None:
        return config
    folder = model_folder(config.base)
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(f"{folder} holds weights in the original naming; fine-tune the same model in diffusers' layout, as the hub has it")
    if class_in(read_index(folder), "transformer_2") is not None:
        raise ConfigError(f"{folder} has two experts, which are not trained together; give one of them with init, autoencoder and text_encoder")
    schedule = folder / "scheduler" / "scheduler_config.json"
    own = config.scheduler != SchedulerConfig() or not schedule.is_file()
    return dataclasses.replace(
        config,
        init=config.init or folder / "transformer",
        autoencoder=config.autoencoder or folder / "vae",
        text_encoder=config.text_encoder or folder,
        scheduler=config.scheduler if own else read_scheduler(schedule),
    )


def first_transformer(config: TransformerTrainConfig) -> Transformer:
    """Return the transformer that a run starts from.

    Raises:
        CheckpointError: ``config.init`` cannot be read.
    """
    init = model_folder(None) / "transformer" if config.lora and config.init is None else config.init
    return Transformer(config.model) if init is None else Transformer.load(init)


def train_transformer(
    config: TransformerTrainConfig, folder: Path, device: torch.device, *, progress: Callable[[str, int, int], None] | None = None
) -> Result:
    """Train a transformer, first encoding what the latent cache lacks; see ``loop.run`` for what is written.

    What the lesson in preferences compares is drawn before the first step, into ``drawn/``.

    Args:
        config: The run.
        folder: Where it is written.
        device: Where to compute.
        progress: Called with ``encoding``, clips in the cache and clips in all while it is filled, then likewise with ``drawing`` and captions.

    Raises:
        DataError: the training set is empty or damaged.
        CheckpointError: weights are missing or do not fit.
        TrainingError: see ``loop.run``.
    """
    settings = to_dict(config)
    config = with_base(config)
    encoders = load_encoders(config.autoencoder, config.text_encoder, device)
    cache = open_cache(config.data.shards, config.data.cache, encoders, config.data.encode, progress=_stage(progress, "encoding"))
    transformer = first_transformer(config)
    channels = encoders.autoencoder.config.latent_channels
    if transformer.config.in_channels != channels:
        raise ConfigError(
            f"model.in_channels is {transformer.config.in_channels} and the autoencoder has {channels} latent channels; make them equal "
            "(checkpoints that animate pictures have more channels, and are not trained here)"
        )
    whole = TransformerTask(config, cache, transformer.to(device).requires_grad_(True), encoders)
    if config.lora is None:
        optim = dataclasses.replace(config.optim, adamw_names=(*config.optim.adamw_names, "naming_head"))
        task: Task = _with_preferences(whole, folder, _stage(progress, "drawing")) if config.preference.weight else whole
        task = _with_rewards(whole, task) if config.reward.weight else task
        return run(task, config.train, folder, device, optim=optim, settings=settings)
    # Muon makes all directions of a matrix equally strong; a pair starts with one matrix at 0 and needs no such thing.
    optim = dataclasses.replace(config.optim, adamw_names=(*config.optim.adamw_names, "lora"))
    return run(LoraTask(whole, transformer, config.lora), config.train, folder, device, optim=optim, settings=settings)


def _stage(progress: Callable[[str, int, int], None] | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _with_preferences(task: TransformerTask, folder: Path, progress: Callable[[int, int], None] | None) -> PreferenceTask:
    """Return the task with the lesson in preferences beside it, once its stills are drawn."""
    config, encoders = task.config, task.encoders
    models = dataclasses.replace(
        models_with(task.transformer, config, encoders),
        captioner=load_captioner(encoders.text_folder, "captioner", encoders.device),
        captioner_2=load_captioner(encoders.text_folder, "captioner_2", encoders.device),
    )
    drawn = draw_captions(models, task.cache, config.preference, folder / "drawn", progress=progress)
    mixture = dataclasses.replace(config.data.mixture, shared=1.0, prefix=0.0, ends=0.0, subset=0.0, independent=0.0)

    def times(generator: torch.Generator, num_tokens: int) -> Tensor:
        return sample_frame_times(generator, 1, mixture, shift_factor=config.scheduler.shift_for(num_tokens)).times

    return PreferenceTask(task, task.transformer, drawn, config.preference, times, padded_to=task.padded_to)


def _with_rewards(whole: TransformerTask, task: Task) -> RewardTask:
    """Return a task with the lesson in rewards beside it.

    Raises:
        ConfigError: the model has no captioner, or does not go on from a still in its own latent.
    """
    config, encoders = whole.config, whole.encoders
    if whole.transformer.config.patch_size[0] > 1:
        raise ConfigError("reward.weight needs a model that goes on from a frame in its own latent, and this one does not; leave it out")
    # The second one has an eye of its own; the first one's is the judge's, who is to have no part in this.
    second, first = (load_captioner(encoders.text_folder, name, encoders.device) for name in ("captioner_2", "captioner"))
    captioner = second or first
    if captioner is None:
        raise ConfigError("reward.weight needs a captioner that looks at what is drawn and the model has none; train one, or leave it out")
    return RewardTask(
        task,
        whole.transformer,
        whole.cache,
        Critic(encoders.autoencoder, captioner, SYNONYMS),
        whole.empty,
        config.scheduler.schedule,
        config.reward,
        padded_to=whole.padded_to,
    )
