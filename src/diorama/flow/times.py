"""Flow times: which are trained on, and which a sampler visits.

One noise level per frame makes one model serve every prompting mode: the mixture below shows it clean beginnings, clean
ends, clean frames anywhere and unequal noise beside the plain case of one time for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from diorama.errors import ConfigError

__all__ = ["FrameTimes", "Mixture", "MixtureKind", "logit_normal", "sample_frame_times", "schedule", "shift", "shift_for"]

MixtureKind = Literal["shared", "prefix", "ends", "subset", "independent"]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Shares of the noise patterns a training clip gets; they need not sum to 1, only their ratios count."""

    shared: float = 0.40
    """One time for all frames: text to video."""
    prefix: float = 0.20
    """The first frames clean: animate and extend."""
    ends: float = 0.10
    """First and last frame clean: connect and keyframes."""
    subset: float = 0.05
    """Any frames clean: keyframes anywhere."""
    independent: float = 0.25
    """A time per frame: half of them unrelated, half a rising ramp (rolling windows)."""
    context_noise: float = 0.05
    """Upper bound of the flow time given to half of the clean frames' clips as stabiliser, 0 to 1."""
    logit_mean: float = 0.0
    """Mean of the logit of the flow time, before the shift; above 0 trains more near noise, where only the prompt can tell how things move."""
    logit_std: float = 1.0
    """Spread of that logit."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "logit_mean":
                continue
            if not 0 <= value < math.inf:
                raise ConfigError(f"mixture share {field.name} is {value}; it must be 0 or more")
        if not abs(self.logit_mean) <= 5:
            raise ConfigError(f"mixture logit_mean is {self.logit_mean}; it must be from -5 to 5, and 0 trains all flow times alike")
        if not sum(self.shares()) > 0:
            raise ConfigError("every mixture share is 0; raise at least one, for example shared = 1")
        if self.context_noise > 1:
            raise ConfigError(f"mixture context_noise is {self.context_noise}; it is a flow time from 0 to 1")

    def shares(self) -> tuple[float, ...]:
        """Return the shares in the order of ``MixtureKind``."""
        return self.shared, self.prefix, self.ends, self.subset, self.independent


class FrameTimes(NamedTuple):
    """Training times of one clip."""

    times: Tensor
    """Flow time per latent frame ``[f]``, 0 where the frame is given clean."""
    mask: Tensor
    """Frames that count in the loss ``[f]`` bool: those with a time above 0."""
    kind: MixtureKind
    """The pattern drawn, for losses per task."""


def shift(t: Tensor, factor: float) -> Tensor:
    """Move times towards noise: ``s * t / (1 + (s - 1) * t)``; 0 and 1 stay.

    Args:
        t: Flow times in [0, 1].
        factor: ``s`` above 0; 1 changes nothing, more spends more steps in noise.

    Source: arXiv 2403.03206, section 5.3.2.
    """
    return factor * t / (1 + (factor - 1) * t)


def shift_for(num_tokens: int, *, base: float = 1.75, base_tokens: int = 576) -> float:
    """Return the shift for a clip of ``num_tokens``: ``base * sqrt(num_tokens / base_tokens)``, never below 1.

    More tokens carry the same picture more often, so the same noise hides less of it. Below 1 a still would
    spend its steps on detail before it has a composition.

    Source: arXiv 2403.03206, section 5.3.2; 1.75 is the middle of what the recipe gives for 576 tokens.
    """
    return max(1.0, base * math.sqrt(num_tokens / base_tokens))


def schedule(num_steps: int, factor: float = 1.0) -> Tensor:
    """Return the times a sampler visits, from 1 down to 0, shifted: ``[num_steps + 1]`` float32."""
    return shift(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), factor).float()


def logit_normal(generator: torch.Generator, size: tuple[int, ...], *, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Draw times in (0, 1) whose logit is normal, on the generator's device.

    Source: arXiv 2403.03206, section 3.1.
    """
    return torch.sigmoid(mean + std * torch.randn(size, generator=generator, device=generator.device))


def sample_frame_times(generator: torch.Generator, num_frames: int, mixture: Mixture, *, shift_factor: float = 1.0) -> FrameTimes:
    """Draw the noise pattern of one training clip.

    Args:
        generator: Source of chance.
        num_frames: Latent frames ``f``, at least 1; a clip of one frame always has one time.
        mixture: Shares of the patterns.
        shift_factor: Time shift of the drawn times, see ``shift_for``.

    Returns:
        Times ``[f]`` on the generator's device, loss mask ``[f]`` and the pattern's name; at least one frame counts.
    """
    device = generator.device
    kind = _draw_kind(generator, mixture) if num_frames > 1 else "shared"
    times = shift(logit_normal(generator, (num_frames,), mean=mixture.logit_mean, std=mixture.logit_std), shift_factor)
    if kind == "independent":
        if _uniform(generator) < 0.5:
            low, high = sorted(times[:2].tolist())
            times = torch.linspace(low, high, num_frames, device=device)
        return FrameTimes(times, times > 0, kind)
    times = times[:1].repeat(num_frames)
    if kind == "shared":
        return FrameTimes(times, times > 0, kind)
    level = mixture.context_noise * _uniform(generator) if _uniform(generator) < 0.5 else 0.0
    times[_clean_frames(generator, num_frames, kind)] = level
    return FrameTimes(times, times > 0, kind)


def _draw_kind(generator: torch.Generator, mixture: Mixture) -> MixtureKind:
    shares = torch.tensor(mixture.shares(), dtype=torch.float64, device=generator.device)
    return get_args(MixtureKind)[int(torch.multinomial(shares, 1, generator=generator))]  # type: ignore[no-any-return]


def _clean_frames(generator: torch.Generator, num_frames: int, kind: MixtureKind) -> Tensor:
    """Return the indices of clean frames, never all of them."""
    if kind == "prefix":
        # Half show one frame (animate), half up to one in two (extend).
        longest = max(1, num_frames // 2)
        return torch.arange(1 if _uniform(generator) < 0.5 else 1 + int(_uniform(generator) * longest))[: num_frames - 1]
    if kind == "ends":
        return torch.tensor([0, num_frames - 1] if num_frames > 2 else [int(_uniform(generator) * 2)])
    count = 1 + int(_uniform(generator) * (num_frames - 1))
    return torch.randperm(num_frames, generator=generator, device=generator.device)[:count]


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, device=generator.device))
