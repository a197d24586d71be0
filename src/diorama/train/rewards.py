"""A fourth lesson for the transformer: what it draws is looked at, and the look's gradient goes back through the picture.

The velocity's error counts every place alike, and preferences tell of two stills which is better but not why. Here the transformer draws as it
does for users, stills and how given first frames go on, and stops at one of its steps; the data it expects there is decoded, and a captioner says
how much likelier it holds the caption to be than the same caption with another shape. That is learned from as any loss is, through captioner,
decoder and the one velocity. Where the sample itself leaves the captioner in doubt, nothing is learned.

Source: Xu et al. 2023, "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation", section 3 (ReFL),
https://arxiv.org/abs/2304.05977; Clark et al. 2023, "Directly Fine-Tuning Diffusion Models on Differentiable Rewards", https://arxiv.org/abs/2309.17400.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diorama import runtime
from diorama.autoencoder import Autoencoder
from diorama.data import LatentCache, Text, padded
from diorama.data.latents import first_captions
from diorama.errors import ConfigError, DataError
from diorama.flow import SOLVERS, Guidance, combine, data_from_velocity, interpolate
from diorama.ops.eye import shrink
from diorama.patches import grid_of, unpack
from diorama.text import Captioner, alternatives
from diorama.text.captioner import KINDS
from diorama.train.judge import spoil
from diorama.train.log import Work
from diorama.train.loop import Beside, Task
from diorama.train.preferences import DENSE_SHARE
from diorama.transformer import Transformer
from diorama.transformer.text import TextCache
from diorama.worlds.captions import mirror_caption

__all__ = ["Critic", "RewardBatch", "RewardConfig", "RewardTask", "RewardedBatch", "expected", "reward_loss"]


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """The lesson; the model that is trained must have a captioner, and captions must be those of worlds."""

    weight: float = 0.0
    """How much a look counts beside the velocity's error, in units of log-probability; 0 leaves the lesson out."""
    tokens: int = 768
    """Tokens of what is drawn beside each batch, at most and half-way through; more where it stops early, fewer where late, one sample at least."""
    still_share: float = 0.5
    """Share of batches beside which stills are drawn, beside the others clips that go on from their first frame."""
    steps: int = 8
    """Solver steps of a whole drawing, of which the last ones are left out."""
    guidance_scale: float = 4.0
    """How strongly the caption steers them; what users get is drawn so, too."""
    looks: int = 2
    """Frames of a clip that are looked at, each as a still, in its later three quarters; a clip of fewer there shows all of them."""
    seed: int = 0
    """Decides what is drawn and where it stops."""

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.looks < 1 or self.steps < 2:
            raise ConfigError(f"reward.tokens {self.tokens} and looks {self.looks} must be at least 1, and steps {self.steps} at least 2")
        if not 0 <= self.weight < math.inf or not 0 <= self.still_share <= 1:
            raise ConfigError(f"reward.weight {self.weight} must be 0 or more, and still_share {self.still_share} from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class RewardBatch:
    """What is drawn in one step, all of one size, on the CPU."""

    latents: Tensor
    """The samples themselves ``[N, C, T, h, w]``; of clips the first frame is given."""
    texts: Sequence[Text]
    """Their captions as the transformer hears them."""
    captions: Sequence[tuple[int, str]]
    """The same as the captioner reads them: place in ``KINDS`` and text."""
    fps: Sequence[float]
    """Pixel frames per second of each."""
    visited: Sequence[float]
    """Flow times from 1 down to the one where the data are looked at."""
    looks: Sequence[Sequence[int]]
    """Pixel frames of each that are looked at."""
    seed: int
    """Of how pictures are spoiled before they are looked at, so that no single pixel decides."""


class Critic(nn.Module):
    """Says of latents how likely their captions are of what they show, beside captions that name another shape; gradients pass to the latents.

    Args:
        autoencoder: Whose latents they are.
        captioner: What looks at frames of them.
        words: Of captions, as ``Grammar.words``; it knows the shapes.
    """

    def __init__(self, autoencoder: Autoencoder, captioner: Captioner, words: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
        super().__init__()
        self.autoencoder, self.captioner, self.words = autoencoder, captioner, words

    def forward(self, latents: Tensor, batch: RewardBatch) -> Tensor:
        """Look at latents.

        Args:
            latents: ``[N, C, T, h, w]``, the batch's or what was drawn instead.
            batch: Says where to look, and what the captions are.

        Returns:
            For each look, the log-probability of its caption among itself and the others, ``[sum of looks]``; 0 where there is no other.
        """
        size, device, generator = self.captioner.config, latents.device, runtime.generator(batch.seed)
        video = self.autoencoder.decode(latents).float()
        frames = shrink(torch.stack([video[i, :, frame] for i, looks in enumerate(batch.looks) for frame in looks]), size.area)
        seen = self.captioner.watch(spoil(frames[:, None], random.Random(batch.seed), generator))
        captions = [caption for caption, looks in zip(batch.captions, batch.looks, strict=True) for _ in looks]
        said = [[text, *itertools.chain.from_iterable(alternatives(text, self.words, ("shape",)))] for _, text in captions]
        owners = torch.tensor([owner for owner, texts in enumerate(said) for _ in texts], device=device)
        kinds = torch.tensor([kind for kind, _ in captions], device=device)[owners]
        totals = self.captioner.totals(seen[owners], [text for texts in said for text in texts], kinds)
        each = torch.split(totals, [len(texts) for texts in said])
        return torch.stack([likely.log_softmax(0)[0] for likely in each])


def expected(
    model: Transformer, batch: RewardBatch, empty: Text, generator: torch.Generator, guidance: Guidance, *, padded_to: int | None = None
) -> Tensor:
    """Draw as users' clips are drawn, up to where the batch says, and return the data that the model expects there.

    Args:
        model: What draws, on the generator's device.
        batch: What to draw.
        empty: The empty prompt, for guidance.
        generator: Source of the noise.
        guidance: How strongly captions steer.
        padded_to: Tokens that every text is filled up to in sight of the transformer, as ``TextStates`` says.

    Returns:
        Latents ``[N, C, T, h, w]``, given first frames among them; gradients pass through the last velocity with its captions alone.
    """
    device, patch = generator.device, model.config.patch_size
    data = batch.latents.float().to(device)
    number, _, frames = data.shape[:3]
    start = torch.ones(1, 1, frames, 1, 1, device=device)
    if frames > 1:
        start[:, :, 0] = 0

    def told(texts: Sequence[Text]) -> TextCache:
        states, mask, pooled = (part.to(device) for part in padded(texts))
        return model.encode_text(states, mask, pooled, padded_to=padded_to)

    def velocity(x: Tensor, times: Tensor, text: TextCache) -> Tensor:
        clips = model.pack(list(x), [times.flatten()[:: patch[0]]] * number, fps=batch.fps)
        return torch.stack(unpack(model(clips, text), clips.grids, patch)).float()

    with torch.no_grad():
        heard, unheard = told(batch.texts), told([empty] * number)

        def steered(x: Tensor, times: Tensor) -> Tensor:
            return combine(velocity(x, times, heard), velocity(x, times, unheard), guidance)

        point = interpolate(data, torch.randn(data.shape, generator=generator, device=device), start)
        *_, point = itertools.chain([point], SOLVERS["multistep"](steered, point, start, list(batch.visited)))
        times = start * batch.visited[-1]
        without = velocity(point, times, unheard)
    return data_from_velocity(point, combine(velocity(point, times, told(batch.texts)), without, guidance), times)


def reward_loss(
    model: Transformer,
    critic: Critic,
    batch: RewardBatch,
    empty: Text,
    generator: torch.Generator,
    guidance_scale: float,
    *,
    padded_to: int | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return how unlikely captions are of what a model draws of them.

    Args:
        model: What is trained, on the generator's device.
        critic: Looks at what it draws.
        batch: What to draw.
        empty: The empty prompt, for guidance.
        generator: Source of the noise.
        guidance_scale: How strongly captions steer.
        padded_to: As in ``expected``.

    Returns:
        A scalar of at least 0, and figures for the log.
    """
    guidance = Guidance(scale=guidance_scale)
    with torch.no_grad():
        sure = critic(batch.latents.float().to(generator.device), batch).exp()
    likely = critic(expected(model, batch, empty, generator, guidance, padded_to=padded_to), batch)
    # The data move with the velocity by time and guidance; without these every time counts alike.
    loss = -(sure * likely).mean() / (batch.visited[-1] * max(1.0, guidance_scale))
    kind, told = "clips" if batch.latents.shape[2] > 1 else "stills", likely.detach()
    return loss, {f"reward_{kind}": float((sure * told).mean()), f"reward_{kind}_right": float((told > math.log(0.5)).float().mean())}


@dataclass(frozen=True, kw_only=True)
class RewardedBatch:
    """A batch of the task beside, and what is drawn."""

    inner: Any
    """What the task beside learns from."""
    drawn: RewardBatch


class RewardTask(Beside):
    """A task that trains a transformer, and the lesson beside it.

    Args:
        inner: The task; it brings clips, samples and export.
        transformer: Of that task, on its device.
        cache: Latents and captions of the training set, complete.
        critic: Looks at what is drawn.
        empty: The empty prompt.
        visits: Flow times from 1 to 0 of a sampler of so many steps, for so many tokens.
        config: The lesson.
        padded_to: As in ``expected``.

    Raises:
        DataError: of a few hundred samples none is called by a shape.
    """

    def __init__(
        self,
        inner: Task,
        transformer: Transformer,
        cache: LatentCache,
        critic: Critic,
        empty: Text,
        visits: Callable[[int, int], Tensor],
        config: RewardConfig,
        *,
        padded_to: int | None = None,
    ) -> None:
        super().__init__(inner)
        self.transformer, self.cache, self.config, self.empty = transformer, cache, config, empty
        self._critic, self._visits, self._padded_to = critic, visits, padded_to
        shapes = [cache.shape(index) for index in range(len(cache))]
        self._alike: dict[bool, dict[tuple[int, ...], list[int]]] = {True: {}, False: {}}
        for index, shape in enumerate(shapes):
            self._alike[shape[1] == 1].setdefault(shape, []).append(index)
        some = range(0, len(cache), 1 + len(cache) // 300)
        if not any(alternatives(text, critic.words, ("shape",)) for i in some for text in first_captions(cache.shards.record(i), 1)):
            raise DataError("reward.weight is for captions of worlds and none of these names a shape as they do; leave it out")

    def describe(self) -> str:
        """Return counts of the training set."""
        stills, clips = (sum(map(len, self._alike[kind].values())) for kind in (True, False))
        return f"{self.inner.describe()}; looks at what it draws of the captions of {stills} stills and {clips} clips"

    def batch(self, index: int) -> RewardedBatch:
        """Return a batch of the inner task, and what is drawn beside it, for the index."""
        config, rng = self.config, random.Random(f"{self.config.seed}/{index}")
        stills = rng.random() < config.still_share
        alike = self._alike[stills] or self._alike[not stills]
        shape = rng.choices(list(alike), weights=[len(group) for group in alike.values()])[0]
        _, frames, _, _ = shape
        stop = rng.randrange(1, config.steps)
        # Parts of a step run side by side and wait for each other, so all take as long; a look costs as much as three steps.
        number = int(config.tokens * (config.steps / 2 + 3) / (stop + 3)) // self._num_tokens(shape)
        samples = [self._sample(one, rng) for one in rng.sample(alike[shape], min(max(1, number), len(alike[shape])))]
        visited = self._visits(config.steps, self._num_tokens(shape)).tolist()[: 1 + stop]
        last = 1 + (frames - 1) * self._critic.autoencoder.config.stride.time
        late = range(last // 4, last)
        looks = [[0] if frames == 1 else sorted(rng.sample(late, min(config.looks, len(late)))) for _ in samples]
        latents, texts, captions, fps = zip(*samples, strict=True)
        drawn = RewardBatch(
            latents=torch.stack(latents),
            texts=texts,
            captions=captions,
            fps=fps,
            visited=visited,
            looks=looks,
            seed=rng.getrandbits(62),
        )
        return RewardedBatch(inner=self.inner.batch(index), drawn=drawn)

    def _sample(self, index: int, rng: random.Random) -> tuple[Tensor, Text, tuple[int, str], float]:
        record, mirrored = self.cache.shards.record(index), rng.randrange(self.cache.num_variants)
        caption = self.cache.choose(index, rng.random(), DENSE_SHARE)
        texts = first_captions(record, self.cache.config.captions)
        kind = KINDS.index("dense" if texts[caption] in record["captions"].get("dense", ()) else "short")
        said = mirror_caption(texts[caption]) if mirrored else texts[caption]
        return self.cache.latent(index, mirrored), self.cache.text(index, mirrored, caption), (kind, said), self.cache.fps(index)

    def _num_tokens(self, shape: Sequence[int]) -> int:
        _, frames, height, width = shape
        return math.prod(grid_of((frames, height, width), self.transformer.config.patch_size))

    def work(self, batch: RewardedBatch) -> Work:
        """Return the size of a batch; of what is drawn the transformer's part is counted."""
        inner, drawn = self.inner.work(batch.inner), batch.drawn
        lengths = [self._num_tokens(drawn.latents.shape[1:])] * len(drawn.texts)
        num_text = round(sum(len(text.states) for text in drawn.texts) / len(drawn.texts))
        flops = (2.0 * len(drawn.visited) + 2) * self.transformer.num_flops(lengths, num_text)
        return Work(samples=inner.samples + len(lengths), tokens=inner.tokens + sum(lengths), flops=inner.flops + flops)

    def loss(self, batch: RewardedBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the inner task's loss with the lesson's beside it, and figures of both."""
        loss, figures = self.inner.loss(batch.inner, generator)
        scale = self.config.guidance_scale
        unlikely, seen = reward_loss(self.transformer, self._critic, batch.drawn, self.empty, generator, scale, padded_to=self._padded_to)
        return loss + self.config.weight * unlikely, figures | seen
