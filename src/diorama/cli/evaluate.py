"""``diorama evaluate prompt|reconstruction|captions``: how good a model is, against known truth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from diorama.cli.arguments import choose, parse
from diorama.cli.geometry import evaluate
from diorama.cli.progress import progress_bar
from diorama.errors import InputError

if TYPE_CHECKING:
    from diorama.evaluation.prompt import Reader

__all__ = ["Captions", "Prompt", "Reconstruction", "run"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Ask held-out prompts and let the judge or the captioner, which saw rendered worlds only, grade the videos."""

    model: Path | None = None
    """Model folder; the packaged model if left out."""
    judge: Path | None = None
    """Judge folder; the packaged judge if left out."""
    reader: Literal["judge", "captioner"] = "judge"
    """Who says what the videos show: the judge, or the captioner, whose sentences are read back."""
    captioner: Path | None = None
    """Captioner folder; if left out the packaged one that describes, not the one by which the model chooses."""
    out: Path = Path("runs/evaluate-prompt")
    """Takes answers, contact sheets and the report; an interrupted run goes on in the same folder."""
    prompts: int = 64
    """How many."""
    seeds: int = 2
    """Videos for each prompt."""
    limit: int | None = None
    """Generate only the first so many videos."""
    part: str = "1/1"
    """Share of this process: 1/2 and 2/2 in one folder make half of the videos each, and 1/1 there the report on all."""
    max_bodies: int = 2
    """Most objects in a prompt."""
    size: str = "128x128"
    """Width x height."""
    steps: int = 24
    """Solver steps."""
    guidance: float = 4.0
    """How strongly the prompt steers."""
    candidates: int | None = None
    """First frames drawn for each video, of which the best is taken; as the model prefers if left out."""
    takes: int | None = None
    """Sketches of how it goes on, of which the best is made; as the model prefers if left out."""
    device: str = "auto"
    """Where to generate."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Encode and decode held-out worlds and compare; stream a long clip and watch the memory."""

    model: Path | None = None
    """Model folder; the packaged model if left out."""
    clips: int = 100
    """How many worlds."""
    long_seconds: float = 60.0
    """Length of the streamed clip; 0 leaves this part out."""
    device: str = "auto"
    """Where to compute."""


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Have held-out rendered worlds described and count how often the words are true."""

    source: str = "captioner"
    """Who describes: captioner for the packaged one, a folder of a captioner or of a vision-language model, or an endpoint's address."""
    model: str = ""
    """Name of the model at the endpoint, its key in OPENAI_API_KEY."""
    clips: int = 128
    """How many worlds."""
    max_bodies: int = 2
    """Most objects in a world."""
    size: str = "128x128"
    """Width x height."""
    out: Path = Path("runs/evaluate-captions")
    """Takes captions, contact sheets and the report."""
    device: str = "auto"
    """Where to compute."""


def run(arguments: Sequence[str]) -> None:
    """Run the evaluation that the first word names."""
    actions = {
        "prompt": ("do videos show what was asked for?", _prompt),
        "reconstruction": ("what does the autoencoder lose?", _reconstruction),
        "geometry": ("do videos show one rigid world?", evaluate),
        "captions": ("are captions true?", _captions),
    }
    choose(actions, arguments, command="evaluate")


def _prompt(arguments: Sequence[str]) -> None:
    options: Prompt = parse(Prompt, arguments, command="evaluate prompt")
    from diorama.evaluation.prompt import PromptConfig, evaluate_prompt
    from diorama.pipeline import Pipeline
    from diorama.pipeline.candidates import num_candidates, num_takes
    from diorama.pipeline.request import Request
    from diorama.runtime import prepare_cpu
    from diorama.shapes import parse_size

    width, height = parse_size(options.size)
    config = PromptConfig(
        count=options.prompts,
        seeds=options.seeds,
        limit=options.limit,
        part=_part(options.part),
        max_bodies=options.max_bodies,
        width=width,
        height=height,
    )
    prepare_cpu()
    pipeline = Pipeline.load(options.model, options.device)
    asked = Request(prompt="", candidates=options.candidates, takes=options.takes)
    drawn, takes = num_candidates(pipeline.models, asked), num_takes(pipeline.models, asked)
    label = f"model {pipeline.hash}, {options.steps} steps, guidance {options.guidance:g}, first frames drawn {drawn}, takes {takes}"
    with progress_bar() as progress:
        report = evaluate_prompt(
            lambda prompt, seed: (
                pipeline.generate(
                    prompt,
                    size=(width, height),
                    num_frames=config.num_frames,
                    fps=config.fps,
                    seed=seed,
                    steps=options.steps,
                    guidance_scale=options.guidance,
                    candidates=drawn,
                    takes=takes,
                ).frames
            ),
            _reader(options),
            options.out,
            label=label,
            config=config,
            progress=progress,
        )
    print(report.text())
    print(f"sheets and answers: {options.out}")


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise InputError(f"--part {text} is not understood; give its number and their count, such as 1/2")
    return int(number), int(of)


def _reader(options: Prompt) -> Reader:
    """Return who reads the videos."""
    models = Path(str(files("diorama").joinpath("models")))
    if options.reader == "captioner":
        from diorama.evaluation.captions import CaptionReader
        from diorama.text import Captioner

        captioner = Captioner.load(options.captioner or models / "default" / "captioner_2")
        return CaptionReader(lambda clips: captioner.write(captioner.see(clips)), captioner.state_dict())
    from diorama.evaluation.judge import Judge

    return Judge.load(options.judge or models / "judge")


def _captions(arguments: Sequence[str]) -> None:
    options: Captions = parse(Captions, arguments, command="evaluate captions")
    from diorama.curation.captions import CaptionOptions, describer
    from diorama.evaluation.captions import CaptionConfig, evaluate_captions
    from diorama.runtime import choose_device, prepare_cpu
    from diorama.shapes import parse_size

    width, height = parse_size(options.size)
    config = CaptionConfig(count=options.clips, max_bodies=options.max_bodies, width=width, height=height)
    source = CaptionOptions(source=options.source, model=options.model)
    prepare_cpu()
    describe = describer(source, device=choose_device(options.device), api_key=os.environ.get("OPENAI_API_KEY"))
    with progress_bar() as progress:
        report = evaluate_captions(
            lambda frames: describe(frames, config.fps).dense,
            options.out,
            label=source.label,
            config=config,
            progress=lambda done, of: progress("described", done, of),
        )
    print(report.text())
    print(f"captions and sheets: {options.out}")


def _reconstruction(arguments: Sequence[str]) -> None:
    options: Reconstruction = parse(Reconstruction, arguments, command="evaluate reconstruction")
    from diorama.autoencoder import decode_evenly
    from diorama.evaluation.clips import held_out_clips
    from diorama.evaluation.reconstruction import evaluate_autoencoder, measure_streaming
    from diorama.pipeline import Pipeline
    from diorama.runtime import autocast, prepare_cpu

    prepare_cpu()
    pipeline = Pipeline.load(options.model, options.device)
    autoencoder, device = pipeline.models.autoencoder, pipeline.models.device
    # The long clip comes first: the peak that a process has reached never falls again.
    if options.long_seconds > 0:
        with autocast(device):
            stream = measure_streaming(
                lambda chunks: autoencoder.decode_stream(autoencoder.encode_stream(chunks)), seconds=(4.0, options.long_seconds), device=device
            )
        print(stream.text())
    with progress_bar() as progress, autocast(device):
        report = evaluate_autoencoder(
            autoencoder.encode,
            partial(decode_evenly, autoencoder),
            (clip.frames.numpy() for clip in held_out_clips(options.clips)),
            device=device,
            progress=lambda done: progress("clips", done, options.clips),
        )
    print(report.text())
