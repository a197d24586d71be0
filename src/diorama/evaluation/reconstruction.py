"""How well an autoencoder keeps a clip, and whether it streams in bounded memory.

The autoencoder comes in as functions, so anyone's can be graded.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diorama.errors import DataError
from diorama.evaluation.frames import flicker, judder, psnr, ssim
from diorama.evaluation.report import machine, table
from diorama.runtime import peak_memory

__all__ = ["ReconstructionReport", "StreamReport", "evaluate_autoencoder", "measure_streaming"]

SSIM_GOAL = 0.93
PSNR_GOAL = 32.0
GROWTH_GOAL = 1.10


@dataclass(frozen=True, kw_only=True)
class ReconstructionReport:
    """Means over clips."""

    clips: int
    """How many clips."""
    psnr: float
    """dB, mean over clips."""
    psnr_worst: float
    """dB, the worst clip."""
    ssim: float
    """Mean over clips."""
    ssim_worst: float
    """The worst clip."""
    flicker: float
    """Mean flicker of the decoded clips, grey levels: above the originals' they tremble, below they smear."""
    flicker_original: float
    """Mean flicker of the originals, grey levels."""
    judder: float
    """Median over clips of the steps from one latent frame's frames to the next one's over those within; NaN where no clip has both."""
    judder_original: float
    """The same of the originals."""

    def text(self) -> str:
        """Return the table."""
        rows = [
            ("PSNR", f"{self.psnr:.2f} dB", f"{PSNR_GOAL:.0f} dB", f"{self.psnr_worst:.2f} dB"),
            ("SSIM", f"{self.ssim:.4f}", f"{SSIM_GOAL:.2f}", f"{self.ssim_worst:.4f}"),
            ("flicker", f"{self.flicker:.2f}", f"{self.flicker_original:.2f}, the originals'", ""),
            ("judder", f"{self.judder:.2f}", f"{self.judder_original:.2f}, the originals'", ""),
        ]
        return f"reconstruction of {self.clips} clips\n{machine()}\n\n{table(('measure', 'mean', 'goal', 'worst clip'), rows)}\n"


def evaluate_autoencoder(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    clips: Iterable[np.ndarray],
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> ReconstructionReport:
    """Encode and decode clips and compare, after rounding to the 8 bits that a file keeps.

    Args:
        encode: ``[1, 3, T, H, W]`` in [-1, 1] to a latent.
        decode: A latent to ``[1, 3, T, H, W]``.
        clips: uint8 ``[T, H, W, 3]``, on the autoencoder's grid.
        device: Where the autoencoder is.
        progress: Called with the number of clips done.

    Raises:
        DataError: there are no clips.
    """
    found: list[tuple[float, ...]] = []
    for frames in clips:
        video = torch.from_numpy(frames).to(device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0
        with torch.inference_mode():
            latent = encode(video)
            decoded = decode(latent).float().clamp(-1.0, 1.0)
        stride = -(-(video.shape[2] - 1) // max(1, latent.shape[2] - 1))
        decoded = ((decoded + 1.0) * 127.5).round() / 127.5 - 1.0
        values = [psnr(video, decoded), ssim(video, decoded), *map(flicker, (video, decoded)), *(judder(clip, stride) for clip in (video, decoded))]
        found.append(tuple(float(value) for value in values))
        if progress is not None:
            progress(len(found))
    if not found:
        raise DataError("0 clips were given to grade the autoencoder on; give at least 1")
    signal, likeness, before, after, jerks_before, jerks_after = (list(column) for column in zip(*found, strict=True))
    return ReconstructionReport(
        clips=len(found),
        psnr=sum(signal) / len(found),
        psnr_worst=min(signal),
        ssim=sum(likeness) / len(found),
        ssim_worst=min(likeness),
        flicker=sum(after) / len(found),
        flicker_original=sum(before) / len(found),
        judder=_median(jerks_after),
        judder_original=_median(jerks_before),
    )


def _median(values: list[float]) -> float:
    """Return the median of what is a number."""
    return float(np.nanmedian(values)) if not np.isnan(values).all() else math.nan


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """Peak memory of streaming a short and a long clip."""

    short_seconds: float
    """Length of the short clip."""
    long_seconds: float
    """Length of the long clip."""
    before: int
    """Bytes held before either."""
    short_peak: int
    """Peak bytes during the short clip."""
    long_peak: int
    """Peak bytes during the long clip."""

    @property
    def growth(self) -> float:
        """Peak of the long clip over that of the short one."""
        return self.long_peak / self.short_peak

    @property
    def bounded(self) -> bool:
        """Whether the long clip took at most a tenth more."""
        return self.growth <= GROWTH_GOAL

    def text(self) -> str:
        """Return the table."""
        rows = [
            (f"{seconds:g} s", f"{peak / 2**20:.0f} MiB", f"{(peak - self.before) / 2**20:.0f} MiB")
            for seconds, peak in ((self.short_seconds, self.short_peak), (self.long_seconds, self.long_peak))
        ]
        verdict = f"{self.growth:.3f} times the short one's peak; allowed {GROWTH_GOAL:.2f}: {'bounded' if self.bounded else 'NOT bounded'}"
        return f"streaming through encode and decode\n{machine()}\n\n{table(('clip', 'peak', 'above start'), rows)}\n{verdict}\n"


def measure_streaming(
    roundtrip: Callable[[Iterator[Tensor]], Iterator[Tensor]],
    *,
    width: int = 128,
    height: int = 128,
    fps: float = 12.0,
    chunk: int = 16,
    seconds: tuple[float, float] = (4.0, 60.0),
    device: torch.device | str = "cpu",
) -> StreamReport:
    """Stream a short and a long clip and measure the peak memory of each.

    The frames are made as they are asked for, a moving colour gradient, so neither clip is ever whole in memory.

    Args:
        roundtrip: Chunks ``[1, 3, n, H, W]`` (the first of 1 + ``chunk`` frames, the others of ``chunk``) to decoded chunks.
        width: Pixels.
        height: Pixels.
        fps: Frames per second.
        chunk: Frames handed over at once, a multiple of the autoencoder's stride in time.
        seconds: The short and the long duration.
        device: Where the autoencoder is.

    Raises:
        DataError: the decoded clip has another number of frames.
    """
    device = torch.device(device)
    before, peaks = _peak(lambda: None, device), []
    for duration in seconds:
        wanted = 1 + chunk * round(duration * fps / chunk)
        peaks.append(_peak(partial(_drain, roundtrip, wanted, (width, height), chunk, device), device))
    return StreamReport(short_seconds=seconds[0], long_seconds=seconds[1], before=before, short_peak=peaks[0], long_peak=peaks[1])


def _drain(roundtrip: Callable[[Iterator[Tensor]], Iterator[Tensor]], wanted: int, size: tuple[int, int], chunk: int, device: torch.device) -> None:
    def chunks() -> Iterator[Tensor]:
        y, x = torch.meshgrid(torch.linspace(-3, 3, size[1]), torch.linspace(-3, 3, size[0]), indexing="ij")
        phase = torch.tensor([0.0, 2.0, 4.0]).view(1, 3, 1, 1, 1)
        start = 0
        while start < wanted:
            stop = min(wanted, start + chunk + (start == 0))
            time = torch.arange(start, stop).view(1, 1, -1, 1, 1) / 12.0
            yield torch.sin(x + 0.5 * y.square() + time + phase).to(device)
            start = stop

    with torch.inference_mode():
        made = sum(part.shape[2] for part in roundtrip(chunks()))
    if made != wanted:
        raise DataError(f"streaming gave {made} frames for {wanted}; the round trip must return every frame once")


def _peak(work: Callable[[], None], device: torch.device) -> int:
    """Return the peak bytes while ``work`` runs: of the CUDA device, or of this process since its last mark."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # Linux sets the process's mark back; elsewhere the peak so far counts
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    work()
    if device.type != "cuda":
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
    return peak_memory(device)
