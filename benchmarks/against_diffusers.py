"""Wan's graph here and in diffusers: the same weights, the same settings, one process, run in turns.

    python benchmarks/against_diffusers.py [transformer] [autoencoder] [generate] [load] [--model small|1.3b] [--device cpu|cuda]
        [--dtype bf16 fp32] [--tokens 512 2048 8192] [--size 256x128] [--frames 17] [--steps 30] [--repeats 3] [--threads 1] [--compile]

Weights are random. ``small`` has 51 M parameters in the transformer and an autoencoder of half Wan's width; ``1.3b`` is Wan 2.1's
1.3B text-to-video graph with its autoencoder. On a GPU at full size: ``generate --model 1.3b --device cuda --dtype bf16 --size 832x480
--frames 81``. Times are medians over the repeats, of the processor's seconds on a CPU (other work on the machine does not count) and of
the clock's on a GPU; memory is the peak of the first run, which is not timed, above what was taken before it. ``load`` writes the 1.3B
folder with diffusers, several GB below --folder, and reads it.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import contextlib
import ctypes
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diorama import Pipeline, runtime
from diorama.autoencoder.model import Autoencoder
from diorama.evaluation.report import machine, table
from diorama.patches import pack, unpack
from diorama.transformer import Transformer

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "small": {"num_attention_heads": 4, "num_layers": 12, "ffn_dim": 2048},
    "1.3b": {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960},
}
AUTOENCODERS: dict[str, dict[str, Any]] = {"small": {"base_dim": 48}, "1.3b": {"base_dim": 96}}
TEXT_TOKENS = 40
"""Tokens of a prompt; Wan fills them up to 512."""
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured call."""

    seconds: float
    """Of the processor on a CPU, of the clock on a GPU."""
    memory: int
    """Peak bytes above what was taken before."""
    output: Tensor
    """What it made."""


def measured(call: Callable[[], Tensor], device: torch.device, *, fresh: bool = False) -> Run:
    """Run a call once; ``fresh`` gives memory that was freed before back to the system, so that the peak is the call's and its time is not."""
    runtime.synchronize(device)
    if fresh and device.type == "cpu":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _reset_peak(device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    output = call()
    runtime.synchronize(device)
    seconds = clock() - start
    return Run(seconds=seconds, memory=_peak(device) - before, output=output.detach().float().cpu())


def _reset_peak(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return 0
    return _status("VmRSS")


def _peak(device: torch.device) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) * 1024


def compared(label: str, theirs: Callable[[], Tensor], ours: Callable[[], Tensor], device: torch.device, repeats: int) -> list[str]:
    """Return a row: both run in turns after one round for what is made once and for the memory."""
    memory = [measured(call, device, fresh=True).memory for call in (theirs, ours)]
    pairs = [(measured(theirs, device), measured(ours, device)) for _ in range(repeats)]
    ratios = sorted(a.seconds / b.seconds for a, b in pairs)
    one, other = (statistics.median(pair[i].seconds for pair in pairs) for i in (0, 1))
    row = [label, f"{one:.2f}", f"{other:.2f}", f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"]
    row += [f"{memory[0] / GIB:.2f}", f"{memory[1] / GIB:.2f}", f"{psnr(pairs[0][0].output, pairs[0][1].output):.1f}"]
    print("   ", *row, flush=True)
    return row


def psnr(expected: Tensor, got: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB; the peak is the range of what is expected."""
    error = float((expected - got).square().mean())
    return math.inf if error == 0 else 10 * math.log10(float(expected.max() - expected.min()) ** 2 / error)


HEAD = ("", "diffusers s", "here s", "times faster", "diffusers GiB", "here GiB", "PSNR dB")


def _shaken(model: torch.nn.Module, std: float) -> Any:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" not in name and not name.endswith("gamma"):
            parameter.data.add_(std * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


def wan_transformer(kind: str) -> Any:
    """Return diffusers' transformer with random weights."""
    import diffusers

    values = TRANSFORMERS[kind]
    size = values["num_attention_heads"] * 128
    return _shaken(diffusers.WanTransformer3DModel(**values, attention_head_dim=128, text_dim=4096, freq_dim=256), 0.2 / math.sqrt(size))


def wan_autoencoder(kind: str) -> Any:
    """Return diffusers' autoencoder with random weights."""
    import diffusers

    return _shaken(diffusers.AutoencoderKLWan(**AUTOENCODERS[kind]), 0.01)


def transformer(args: argparse.Namespace, folder: Path) -> None:
    """Forward passes: one prompt, no gradient, the text prepared as each library does it in a run."""
    device, rows = torch.device(args.device), []
    wan_transformer(args.model).save_pretrained(folder / "transformer")
    for name in args.dtype:
        import diffusers

        dtype = DTYPES[name]
        peer = diffusers.WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=dtype).to(device).eval()
        net = Transformer.load(folder / "transformer", dtype).to(device)
        if args.compile:
            peer.compile_repeated_blocks()
            net.compile_blocks()
        states = torch.zeros(1, 512, 4096, device=device)
        states[:, :TEXT_TOKENS] = torch.randn(1, TEXT_TOKENS, 4096, generator=torch.Generator().manual_seed(1)).to(device)
        mask = torch.ones(1, TEXT_TOKENS, dtype=torch.bool, device=device)
        with torch.inference_mode():
            text = net.encode_text(states[:, :TEXT_TOKENS].to(dtype), mask, padded_to=512)
            for tokens in args.tokens:
                side = max(2, 2 * round(math.sqrt(tokens / 5)))
                latent = torch.randn(1, 16, 5, side, side, generator=torch.Generator().manual_seed(2)).to(device)
                rows.append(
                    compared(
                        f"{name}, {5 * side * side // 4} tokens",
                        lambda latent=latent, peer=peer, dtype=dtype, states=states: (
                            peer(latent.to(dtype), torch.tensor([500.0], device=device), states.to(dtype)).sample
                        ),
                        lambda latent=latent, net=net, text=text: _forward(net, latent, text),
                        device,
                        args.repeats,
                    )
                )
    print(f"\nTransformer forward, {args.model}\n\n{table(HEAD, rows)}\n")


def _forward(net: Transformer, latent: Tensor, text: Any) -> Tensor:
    packed = pack([latent[0]], [0.5], patch_size=(1, 2, 2), coordinates="index")
    return unpack(net(packed, text), packed.grids, (1, 2, 2))[0][None]


def autoencoder(args: argparse.Namespace, folder: Path) -> None:
    """Encode and decode, whole clips; what leaves each library is the latent and the video in [-1, 1]."""
    import diffusers

    device, rows = torch.device(args.device), []
    wan_autoencoder(args.model).save_pretrained(folder / "vae")
    width, height = args.size
    for name in args.dtype:
        dtype = DTYPES[name]
        peer = diffusers.AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=dtype).to(device).eval().requires_grad_(False)
        net = Autoencoder.load(folder / "vae", dtype).to(device)
        video = torch.rand(1, 3, args.frames, height, width, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
        scale = [torch.tensor(values, device=device).view(1, -1, 1, 1, 1) for values in (peer.config.latents_mean, peer.config.latents_std)]
        with torch.inference_mode(), runtime.autocast(device, enabled=dtype != torch.float32):
            latent = (peer.encode(video.to(dtype)).latent_dist.mean.float() - scale[0]) / scale[1]
        label = f"{name}, {args.frames} frames of {width}x{height}"

        def theirs_encode(peer: Any = peer, video: Tensor = video, dtype: torch.dtype = dtype, scale: list[Tensor] = scale) -> Tensor:
            with torch.inference_mode():
                return (peer.encode(video.to(dtype)).latent_dist.mean.float() - scale[0]) / scale[1]

        def theirs_decode(peer: Any = peer, latent: Tensor = latent, dtype: torch.dtype = dtype, scale: list[Tensor] = scale) -> Tensor:
            with torch.inference_mode():
                return peer.decode((latent * scale[1] + scale[0]).to(dtype)).sample

        def ours_encode(net: Autoencoder = net, video: Tensor = video, dtype: torch.dtype = dtype) -> Tensor:
            with torch.inference_mode(), runtime.autocast(device, enabled=dtype != torch.float32):
                return torch.cat(list(net.encode_stream(video.split(16, dim=2))), dim=2)

        def ours_decode(net: Autoencoder = net, latent: Tensor = latent, dtype: torch.dtype = dtype) -> Tensor:
            with torch.inference_mode(), runtime.autocast(device, enabled=dtype != torch.float32):
                return torch.cat(list(net.decode_stream(latent)), dim=2)

        rows.append(compared(f"encode, {label}", theirs_encode, ours_encode, device, args.repeats))
        rows.append(compared(f"decode, {label}", theirs_decode, ours_decode, device, args.repeats))
    print(f"\nAutoencoder, {args.model}\n\n{table(HEAD, rows)}\n")


def wan_folder(kind: str, folder: Path) -> None:
    """Write a whole pipeline with diffusers: the text encoder is small, since both run the same one."""
    import diffusers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    words = ["<pad>", "</s>", "<unk>", *["a", "red", "ball", "bounces", "past", "the", "blue", "cube", "and", "camera", "orbits", "left"]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    text = UMT5Config(vocab_size=len(words), d_model=4096, d_kv=64, d_ff=256, num_layers=1, num_heads=4, dropout_rate=0.0)
    torch.manual_seed(0)
    diffusers.WanPipeline(
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"),
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=wan_autoencoder(kind),
        scheduler=diffusers.UniPCMultistepScheduler(flow_shift=3.0, use_flow_sigmas=True, prediction_type="flow_prediction"),
        transformer=wan_transformer(kind),
    ).save_pretrained(folder)


def generate(args: argparse.Namespace, folder: Path) -> None:
    """A prompt to frames, guided, with the solver that Wan is sampled with."""
    import diffusers

    device, rows = torch.device(args.device), []
    wan_folder(args.model, folder / "pipeline")
    width, height = args.size
    prompt = "a red ball bounces past the blue cube and the camera orbits left"
    for name in args.dtype:
        dtype = DTYPES[name]
        peer = diffusers.WanPipeline.from_pretrained(folder / "pipeline", torch_dtype=dtype).to(device)
        peer.set_progress_bar_config(disable=True)
        pipe = Pipeline.load(folder / "pipeline", args.device, dtype)
        if args.compile:
            peer.transformer.compile_repeated_blocks()
            pipe.models.transformer.compile_blocks()
        options = {"size": (width, height), "num_frames": args.frames, "steps": args.steps, "guidance_scale": 5.0, "seed": 0}
        noise = _noise(pipe, prompt, options).to(device)

        def theirs(peer: Any = peer, noise: Tensor = noise) -> Tensor:
            sizes = {"width": width, "height": height, "num_frames": args.frames, "num_inference_steps": args.steps}
            frames = peer(prompt=prompt, negative_prompt="", guidance_scale=5.0, latents=noise.clone(), output_type="np", **sizes).frames[0]
            return torch.from_numpy(np.round(frames * 255))

        def ours(pipe: Pipeline = pipe, options: dict[str, Any] = options) -> Tensor:
            return torch.from_numpy(pipe.generate(prompt, **options).frames.copy())

        rows.append(compared(f"{name}, {args.frames} frames of {width}x{height}, {args.steps} steps", theirs, ours, device, args.repeats))
    print(f"\nFrom prompt to frames, {args.model}\n\n{table(HEAD, rows)}\n")


def _noise(pipe: Pipeline, prompt: str, options: dict[str, Any]) -> Tensor:
    from diorama.pipeline.generate import prepare

    (shot,) = pipe.film("text", prompt, **options).shots
    return prepare(pipe.models, shot.request, shot.items).noise[None]


def load(args: argparse.Namespace, folder: Path) -> None:
    """Peak memory of reading a folder that diffusers wrote at full size, in a process of its own."""
    import diffusers

    kind = "1.3b"
    values = TRANSFORMERS[kind]
    with torch.device("meta"):
        model = diffusers.WanTransformer3DModel(**values, attention_head_dim=128, text_dim=4096, freq_dim=256)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    model.save_pretrained(folder / "full")
    del model
    rows = []
    for dtype in (None, torch.float32, torch.bfloat16):
        script = (
            "import sys, time, torch; from pathlib import Path; from diorama.transformer import Transformer\n"
            # Not the peak that getrusage tells, which begins with the parent's.
            "peak = lambda: 1024 * next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
            "base = peak(); start = time.perf_counter()\n"
            f"net = Transformer.load(Path(sys.argv[1]), {dtype}, mapped=True)\n"
            "total = sum(p.numel() * p.element_size() for p in net.parameters())\n"
            "touched = sum(float(p.sum(dtype=torch.float32)) for p in net.parameters())\n"
            "print(total, peak() - base, time.perf_counter() - start, sum(p.numel() for p in net.parameters()))\n"
        )
        out = subprocess.run([sys.executable, "-c", script, str(folder / "full")], check=True, capture_output=True, text=True).stdout.split()
        weights, peak, seconds, count = int(out[0]), int(out[1]), float(out[2]), int(out[3])
        rows.append(
            [str(dtype or "as stored"), f"{count / 1e9:.2f}", f"{weights / GIB:.2f}", f"{peak / GIB:.2f}", f"{peak / weights:.2f}", f"{seconds:.1f}"]
        )
    print(f"\nReading a transformer of {kind}\n\n{table(('weights in', 'parameters, 1e9', 'GiB', 'peak GiB', 'peak / weights', 'seconds'), rows)}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    parts = {"transformer": transformer, "autoencoder": autoencoder, "generate": generate, "load": load}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=["transformer", "autoencoder", "generate"])
    parser.add_argument("--model", choices=TRANSFORMERS, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["bf16", "fp32"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--size", type=lambda text: tuple(int(side) for side in text.split("x")), default=(256, 128))
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="compile the blocks of both")
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    runtime.prepare_cpu(args.threads)
    print(machine())
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="wan-", dir=args.folder))
    try:
        for part in args.parts:
            parts[part](args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
