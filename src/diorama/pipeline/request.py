"""What a user asks for, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict, get_args

from diorama.errors import InputError, nearest
from diorama.flow import Guidance, SolverName
from diorama.shapes import MAX_SECONDS, Stride, VideoShape, num_frames_for

__all__ = ["MAX_STEPS", "Options", "Request", "make_request"]

MAX_STEPS = 1000
MAX_CANDIDATES = 64
_MAX_PROMPT = 20_000


class Options(TypedDict, total=False):
    """Keywords of ``Pipeline.generate``; each left out takes the default of ``Request``."""

    size: tuple[int, int]
    """Width and height in pixels."""
    seconds: float
    """Duration; give this or ``num_frames``."""
    num_frames: int
    """Frames, 1 + a multiple of 4."""
    fps: float
    """Frames per second."""
    negative_prompt: str
    """What to stay away from."""
    seed: int
    """Same seed, same bytes."""
    steps: int
    """Solver steps."""
    solver: SolverName
    """``euler``, ``heun``, ``multistep`` or ``unipc``."""
    guidance_scale: float
    """How strongly the prompt steers; 1 is off and twice as fast."""
    guidance_scale_2: float
    """The same for the second of two experts; ``guidance_scale`` unless given."""
    guidance_interval: tuple[float, float]
    """Flow times between which guidance acts."""
    guidance_rescale: float
    """Share of the way back to the unguided spread, against over-saturation."""
    window: int
    """Latent frames that the model sees at once; a longer clip is made by a window that rolls on."""
    anchor: int
    """Latent frames that such a window began with and goes on to show, so that a long clip does not drift."""
    cache_threshold: float
    """How much the first block may change before the others are run again; 0 is off, usual is 0.05 to 0.15."""
    still_first: bool
    """Make the first frame alone, then the others with it given, where nothing is given of the clip."""
    candidates: int
    """First frames drawn where nothing is given of the clip; the one that the prompt describes best is taken."""
    takes: int
    """Sketches of how such first frames go on; the one that the prompt describes best is made."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip, fully described: with the model's hash it fixes every byte.

    Raises:
        InputError: a value is outside its range. The size is checked against a model's grid by ``shape``.
    """

    prompt: str
    """What to show."""
    negative_prompt: str = ""
    """What to stay away from."""
    width: int = 128
    """Pixels."""
    height: int = 128
    """Pixels."""
    num_frames: int = 33
    """Frames; 1 is a still."""
    fps: float = 12.0
    """Frames per second, above 0 and at most 120."""
    seed: int = 0
    """0 to 2**63 - 1."""
    steps: int = 24
    """Solver steps, 1 to 1000."""
    solver: SolverName = "multistep"
    """How the flow is integrated."""
    guidance_scale: float = 4.0
    """How strongly the prompt steers, 0 to 100; 1 is off."""
    guidance_scale_2: float | None = None
    """The same for the second of two experts, which makes the details, as in Wan 2.2 A14B; None is ``guidance_scale``. Refused by a model of one."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Flow times between which guidance acts."""
    guidance_rescale: float = 0.0
    """Share of the way back to the unguided spread, 0 to 1."""
    window: int | None = None
    """Latent frames that the model sees at once, at least 2; a longer clip is made by a window that rolls on. None is what it was trained on."""
    anchor: int | None = None
    """Latent frames at the beginning of the first window that a rolling window goes on to show beside its own, as many as leave one of those
    before what is made; 0 is none. They keep colours and bodies over a minute, and are left out where the clip does not go on as it began: where
    several prompts or a later given frame say otherwise. None: as the scheduler says."""
    cache_threshold: float = 0.0
    """Residual caching: while what the first block adds to the noised tokens has changed by less than this share since the last step that was
    computed, the other blocks are left out and what they added then is added again. 0 is off, usual is 0.05 to 0.15: at 0.1 half of
    the evaluations of the packaged model are left out, hard to see; at 0.2 two thirds, and some videos become others. At most 1. A loop is
    always computed whole."""
    still_first: bool | None = None
    """Whether the first frame is made alone, then the others with it given, where nothing is given of the clip. None: as the scheduler says."""
    candidates: int | None = None
    """First frames (in half of the steps), or stills, that are drawn where nothing is given of the clip; the model's captioner takes the
    one of which it would rather say the prompt. 1 to 64; 1 is the first drawn, as is. None: as the scheduler says. Refused above 1 by a model
    without a captioner."""
    takes: int | None = None
    """Sketches, in a third of the steps, of how first frames that were drawn so go on: half as many of these, the best ones, begin two sketches each.
    The captioners take one, and it is made whole from where its sketch had decided what happens. Of a clip that is longer than the window the
    first window is sketched. 1 to 64; 1 sketches nothing. None and above 1 as for ``candidates``."""

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            if len(getattr(self, name)) > _MAX_PROMPT:
                raise InputError(f"the {name.replace('_', ' ')} has {len(getattr(self, name))} characters; allowed are {_MAX_PROMPT}, so shorten it")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed} is out of range: allowed is 0 to {2**63 - 1}")
        if not 1 <= self.steps <= MAX_STEPS:
            raise InputError(f"{self.steps} steps cannot be made: allowed is 1 to {MAX_STEPS}, usual is 16 to 50")
        if self.solver not in get_args(SolverName):
            raise InputError(
                f"unknown solver '{self.solver}'{nearest(self.solver, get_args(SolverName)) or '; allowed: ' + ', '.join(get_args(SolverName))}"
            )
        if not (math.isfinite(self.fps) and 0 < self.fps <= 120):
            raise InputError(f"{self.fps:g} frames per second cannot be made: allowed is above 0 and at most 120")
        if self.num_frames > MAX_SECONDS * self.fps + 1:
            raise InputError(f"{self.num_frames} frames at {self.fps:g} a second are over the limit of {MAX_SECONDS:g} seconds; ask for fewer")
        if self.window is not None and self.window < 2:
            raise InputError(f"a window of {self.window} latent frames cannot roll; give at least 2")
        if self.anchor is not None and self.anchor < 0:
            raise InputError(f"an anchor of {self.anchor} latent frames cannot be shown; allowed is 0 (none) or more, usual is 2 to 4")
        if not 0 <= self.cache_threshold <= 1:
            raise InputError(f"cache threshold {self.cache_threshold} is out of range: allowed is 0 (off) to 1, usual is 0.05 to 0.15")
        for name in ("candidates", "takes"):
            number = getattr(self, name)
            if number is not None and not 1 <= number <= MAX_CANDIDATES:
                raise InputError(f"{number} {name} cannot be drawn: allowed is 1 to {MAX_CANDIDATES}, usual is 1 to 8")
        _ = self.guidance, self.late_guidance

    @property
    def guidance(self) -> Guidance:
        """How the flow is steered."""
        return Guidance(scale=self.guidance_scale, interval=self.guidance_interval, rescale=self.guidance_rescale)

    @property
    def late_guidance(self) -> Guidance:
        """How the flow is steered while the second of two experts makes it."""
        return self.guidance if self.guidance_scale_2 is None else replace(self.guidance, scale=self.guidance_scale_2)

    @property
    def guided(self) -> bool:
        """Whether the negative prompt is ever looked at, which doubles the cost."""
        return self.guidance.scale != 1 or self.late_guidance.scale != 1

    def shape(self, stride: Stride) -> VideoShape:
        """Return the clip's size, checked against a model's grid.

        Raises:
            InputError: the size or the number of frames is off the grid.
        """
        return VideoShape(num_frames=self.num_frames, height=self.height, width=self.width).check(stride)


def make_request(prompt: str, options: Options | Mapping[str, Any], stride: Stride, defaults: Mapping[str, Any] | None = None) -> Request:
    """Build a request from keywords.

    Args:
        prompt: What to show.
        options: Keywords of ``Options``.
        stride: The model's grid, which ``seconds`` is brought to.
        defaults: Options that the model was made for, used where ``options`` and what follows from them say nothing.

    Raises:
        InputError: a keyword is unknown or doubled, or a value is outside its range.
    """
    values: dict[str, Any] = dict(options)
    fallback = dict(defaults or {})
    usual = {"fps": _default("fps"), "num_frames": _default("num_frames"), **fallback}
    for name in values:
        if name not in Options.__annotations__:
            raise InputError(f"unknown option '{name}'{nearest(name, Options.__annotations__)}")
    if "size" in fallback:
        fallback["width"], fallback["height"] = fallback.pop("size")
    if "size" in values:
        size = values.pop("size")
        if not (isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
            raise InputError(f"size {size!r} is not understood: give width and height in whole pixels, for example (176, 96)")
        values["width"], values["height"] = size
    if "seconds" in values:
        seconds = values.pop("seconds")
        if "num_frames" in values:
            raise InputError("both seconds and num_frames were given; give one of them")
        values["num_frames"] = num_frames_for(seconds, values.get("fps", usual["fps"]), stride)
    elif "num_frames" not in values and "fps" in values:
        values["num_frames"] = num_frames_for(usual["num_frames"] / usual["fps"], values["fps"], stride)
    if "guidance_scale" in values:
        fallback.pop("guidance_scale_2", None)
    values = {**fallback, **values}
    request = Request(prompt=prompt, **values)
    request.shape(stride)
    return request


def _default(name: str) -> Any:
    return next(field.default for field in fields(Request) if field.name == name)
