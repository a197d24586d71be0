"""Write docs/modes.md from the source of the prompting modes; with --pictures also a strip of frames for each, by the packaged model.

python benchmarks/modes_page.py [--pictures [NAME ...]] [--steps 24] [--seed 7] [--model FOLDER]

A strip shows frames in the order of time. Those with a border were given; where a result holds none as it was given, what was
given stands in rows above it. The clips given are rendered worlds that hold a pair of colour and shape that was kept from training.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import inspect
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_origin

from diorama.cli.modes import Mode, Parameter, modes

if TYPE_CHECKING:
    from PIL.Image import Image

    from diorama import Pipeline
    from diorama.media import Clip, Pixels

DOCS = Path(__file__).resolve().parents[1] / "docs"
PICTURES = DOCS / "pictures" / "modes"
SIZE, NUM_FRAMES = (160, 96), 25
"""Of the worlds given: not square, so that outpainting has something to add, and on the grid, so that nothing is scaled."""
SHOWN, LONGEST, GAP, BORDER = 8, 112, 4, 3
"""Frames of a strip; the longer side of each, the space between them and the border of given ones, pixels."""
ORANGE = (255, 140, 0)
MOST_BYTES = 60_000

INTRODUCTION = """\
# Modes

What can be asked of a model, each as a command and as a method of `Pipeline`. A mode is a short function in
[modes.py](../src/diorama/pipeline/modes.py), and `python benchmarks/modes_page.py` writes this page from it.

`diorama NAME --help` lists the options that modes share: size, seed, steps, guidance and more. In Python they are the keywords of
`Options` in [request.py](../src/diorama/pipeline/request.py), and `fit` and `scale`. Where a clip is given, a path or a `Clip` will do.

```python
from diorama import Pipeline

pipe = Pipeline.load()
```
"""


def page() -> str:
    """Return the text of docs/modes.md."""
    table = modes()
    rows = [f"| [{name}](#{name}) | {mode.about.partition(chr(10) * 2)[0]} |" for name, mode in table.items()]
    return "\n".join([INTRODUCTION, "| mode | what it does |", "|---|---|", *rows, *(section(name, mode) for name, mode in table.items())]) + "\n"


def section(name: str, mode: Mode) -> str:
    line, call = mode.example
    parts = [f"\n## {name}", mode.about, f"```bash\n{line}\n```", f"```python\nclip = {call}\n```"]
    rows = [f"| `{parameter.word}` | `{_in_python(parameter)}` | {parameter.help} |" for parameter in mode.parameters]
    parts.append("\n".join(["| command line | Python | |", "|---|---|---|", *rows]))
    if (PICTURES / f"{name}.png").exists():
        parts.append(f"![{name}: frames in the order of time, given ones with a border](pictures/modes/{name}.png)")
    return "\n\n".join(parts)


def _in_python(parameter: Parameter) -> str:
    return parameter.name if parameter.default is inspect.Parameter.empty else f"{parameter.name}={parameter.code}"


def strip(pipeline: Pipeline, mode: Mode, options: dict[str, Any]) -> Image | None:
    """Return the strip of a mode, or None where its parameters do not tell what could be given."""
    chosen = given_to(mode)
    if chosen is None:
        return None
    clip = pipeline.run(mode.name, **chosen, **options)
    inputs = [value for parameter in mode.parameters if parameter.is_file and (value := chosen.get(parameter.name)) is not None]
    untouched = {frame.tobytes() for source in inputs for frame in source.frames}
    is_given = [frame.tobytes() in untouched for frame in clip.frames]
    above = [] if any(is_given) else [(source.frames, [True] * source.num_frames) for source in inputs]
    return _rows([*above, (clip.frames, is_given)])


def given_to(mode: Mode) -> dict[str, Any] | None:
    """Return what a mode is shown with: worlds for clips, their captions for prompts; None where a parameter can be neither."""
    files = [parameter for parameter in mode.parameters if parameter.is_file and parameter.is_positional]
    worlds = [_world(seed) for seed in range(len(files) + 1)]
    chosen: dict[str, Any] = {}
    for parameter in mode.parameters:
        if parameter in files and not parameter.example[0].endswith((".mp4", ".png")):
            return None
        if parameter in files:
            clip = worlds[files.index(parameter)]
            chosen[parameter.name] = type(clip)(clip.frames[:1], clip.fps, clip.metadata) if parameter.example[0].endswith(".png") else clip
        elif parameter.name == "prompt":
            is_asked = parameter.default is inspect.Parameter.empty
            # Two clips bring a prompt each; what must be asked of a clip is another world's caption.
            if is_asked or len(files) == 1:
                chosen["prompt"] = json.loads(worlds[len(files) if is_asked else 0].metadata["diorama"])["prompt"]
        elif get_origin(parameter.annotation) is Literal:
            chosen[parameter.name] = parameter.example[0]  # as the command beside the strip says
        elif parameter.default is inspect.Parameter.empty:
            chosen[parameter.name] = (0.6, 1.4)
    return chosen


def _world(seed: int) -> Clip:
    from diorama.media import Clip
    from diorama.worlds.clip import make_clip

    world = make_clip(seed, split="held_out", width=SIZE[0], height=SIZE[1], num_frames=NUM_FRAMES)
    return Clip(world.frames.numpy(), world.fps, {"diorama": json.dumps({"prompt": world.captions.dense})})


def _rows(rows: list[tuple[Pixels, list[bool]]]) -> Image:
    """Return evenly spaced frames of every row, those marked with a border."""
    import numpy as np
    from PIL import Image

    pictures = []
    for frames, marks in rows:
        row = []
        for i in np.unique(np.linspace(0, len(frames) - 1, SHOWN).round().astype(int)):
            image = Image.fromarray(frames[i])
            image = image.resize([round(side * LONGEST / max(image.size)) for side in image.size], Image.Resampling.LANCZOS)
            if marks[i]:
                inside = image.crop((BORDER, BORDER, image.width - BORDER, image.height - BORDER))
                image.paste(ORANGE, (0, 0, *image.size))
                image.paste(inside, (BORDER, BORDER))
            row.append(image)
        pictures.append(row)
    width = max(sum(image.width + GAP for image in row) - GAP for row in pictures)
    sheet = Image.new("RGB", (width, sum(row[0].height + GAP for row in pictures) - GAP), (255, 255, 255))
    top = 0
    for row in pictures:
        for k, image in enumerate(row):
            sheet.paste(image, (k * (image.width + GAP), top))
        top += row[0].height + GAP
    return sheet


def save(sheet: Image, path: Path) -> int:
    """Write a strip with as many colours as fit into ``MOST_BYTES`` and return its bytes."""
    from PIL import Image

    for colors in (256, 128, 64, 32, 16):
        buffer = io.BytesIO()
        sheet.quantize(colors, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.tell()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="*", metavar="NAME", default=None, help="make the strips of these modes, or of all")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model", type=Path, default=None)
    options = parser.parse_args()
    if options.pictures is not None:
        from diorama import Pipeline
        from diorama.runtime import prepare_cpu

        prepare_cpu()
        pipeline = Pipeline.load(options.model)
        for name in options.pictures or modes():
            sheet = strip(pipeline, modes()[name], {"steps": options.steps, "seed": options.seed})
            if sheet is None:
                print(f"{name}: no picture, for nothing is known that could be given to it")
            else:
                path = PICTURES / f"{name}.png"
                print(f"{path}: {sheet.width}x{sheet.height}, {save(sheet, path)} bytes")
    (DOCS / "modes.md").write_text(page(), encoding="utf-8")
    print(DOCS / "modes.md")


if __name__ == "__main__":
    main()
