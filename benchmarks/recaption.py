"""What dense captions are worth: two equal small trainings, one on short and one on dense captions, and the prompt fidelity of each.

    python benchmarks/recaption.py --shards runs/worlds-train runs/worlds-small [--steps 1500] [--prompts 48] [--out runs/recaption]

Both trainings see the same clips with the same noise in the same order; only ``data.dense_share`` differs. Each model then answers short
and dense prompts for the same held-out scenes, and the judge reads the clips. Run again with the same folder, finished parts stay and a
training that was stopped goes on; more ``--steps`` need another folder.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import time
from importlib.resources import files
from pathlib import Path

from diorama.checkpoint import write_text
from diorama.data import PackConfig
from diorama.evaluation.judge import Judge
from diorama.evaluation.prompt import PromptConfig, Question, questions
from diorama.evaluation.report import cell, machine, table
from diorama.evaluation.score import Score, grade, scores
from diorama.media import Clip, contact_sheet
from diorama.pipeline import Pipeline
from diorama.runtime import choose_device, prepare_cpu
from diorama.train.loop import LoopConfig
from diorama.train.transformer import ClipData, TransformerTrainConfig, train_transformer
from diorama.transformer import TransformerConfig
from diorama.worlds.captions import caption

KINDS = {"short": 0.0, "dense": 1.0}
ASKED = {"short": ("colour", "shape", "count", "motion"), "dense": ("colour", "shape", "count", "motion", "camera direction", "floor", "light")}
SMALL = TransformerConfig(num_attention_heads=2, attention_head_dim=64, ffn_dim=384, num_layers=4)
SIDE, FRAMES = 96, 17


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/latents"))
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    parser.add_argument("--tokens", type=int, default=1440, help="in each step")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--solver-steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=Path("runs/recaption"))
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    prepare_cpu(int(os.environ.get("OMP_NUM_THREADS", "0")) or None)
    folders = {kind: _train(kind, options) for kind in KINDS}
    config = PromptConfig(count=options.prompts, seeds=1, width=SIDE, height=SIDE, num_frames=FRAMES)
    asked = questions(config)
    judge = Judge.load(Path(str(files("diorama").joinpath("models/judge"))))
    rows = []
    for kind, folder in folders.items():
        for wording in KINDS:
            found = _grades(Pipeline.load(folder, options.device), judge, asked, wording, options, options.out / f"{kind}-asked-{wording}")
            rows.append((kind, wording, *(cell(found[name]) if name in ASKED[wording] else "" for name in ASKED["dense"])))
    clips = options.steps * options.tokens / ((FRAMES + 3) // 4 * SIDE**2 / 256)
    print(f"{machine()}\n{options.steps} steps of {options.tokens} tokens, about {clips:.0f} clips, {options.prompts} prompts\n")
    print(table(("trained on", "asked in", *ASKED["dense"]), rows))


def _train(kind: str, options: argparse.Namespace) -> Path:
    """Train on one kind of captions, or go on; return the model's folder."""
    folder: Path = options.out / kind
    if (folder / "done").exists():
        return folder / "export"
    shards = tuple(options.shards)
    cells = (FRAMES + 3) // 4 * (SIDE // 16) ** 2
    data = ClipData(
        shards=shards,
        cache=options.cache,
        pack=PackConfig(tokens=options.tokens, crop_share=0.0),
        max_tokens_per_clip=cells + cells // 8,  # the other shapes of the same area
        dense_share=KINDS[kind],
        later_share=0.0,
    )
    loop = LoopConfig(steps=options.steps, warmup=50, decay=options.steps // 3, ema_decay=0.99, sample_steps=0, log_steps=50, checkpoint_minutes=4.0)
    config = TransformerTrainConfig(data=data, model=SMALL, train=loop)
    start = time.process_time()
    train_transformer(config, folder, choose_device(options.device))
    print(f"{kind}: {time.process_time() - start:.0f} s of processor time")
    write_text(folder / "done", "")
    return folder / "export"


def _grades(pipeline: Pipeline, judge: Judge, asked: list[Question], wording: str, options: argparse.Namespace, folder: Path) -> dict[str, Score]:
    """Ask every question in one wording; answers lie in ``folder``, one line each, and are not asked again."""
    path = folder / "answers.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    grades = [json.loads(line)["grade"] for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    with path.open("a", encoding="utf-8") as file:
        for question in asked[len(grades) :]:
            told = caption(question.scene, question.scene.seed)
            prompt = told.dense if wording == "dense" else told.short
            clip = pipeline.generate(
                prompt,
                size=(SIDE, SIDE),
                num_frames=FRAMES,
                fps=12.0,
                seed=question.index,
                steps=options.solver_steps,
                guidance_scale=options.guidance,
            )
            grades.append(grade(question.scene, judge.read([clip.frames])[0]))
            contact_sheet(Clip(frames=clip.frames, fps=12.0), columns=5, rows=1).save(folder / f"{question.index:03d}.png")
            file.write(json.dumps({"prompt": prompt, "grade": grades[-1]}) + "\n")
            file.flush()
    return scores(grades[: len(asked)])


if __name__ == "__main__":
    main()
